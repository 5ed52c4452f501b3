"""The stores of events and profiles, and the look-up of objects, for the commands that count or remove events."""

from __future__ import annotations

import time

from rewriter.cli.causes import own_client
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.redis_store import RedisStore


def stores_of(settings: Settings) -> tuple[RedisStore, RedisStore]:
    """Return the store of streams and sessions, and the store of profiles. Raises ConfigurationError if none is set."""
    url, profile_url = settings.store.plain_urls
    if url is None or url == "memory://":
        raise ConfigurationError([Fault("store.url", "names no Redis or Valkey", "events need one")])
    store = RedisStore(url)
    return store, RedisStore(profile_url) if profile_url else store


def objects_of(settings: Settings) -> Objects:
    """Return the reader of the objects of events. Raises ConfigurationError if it is needed and no index is set."""
    attributes, ingest = CountingRules.of(settings).attributes, settings.ingest
    indices = ingest.objects_index or tuple(
        dict.fromkeys(name for policy in settings.policies.values() for name in policy.index if set(name) - set("*?"))
    )
    if attributes - {"_id"} and not indices:
        raise ConfigurationError(
            [Fault("ingest.objects_index", "is not set, and no policy names an index to look objects up in", "set it")]
        )
    return Objects(
        own_client(settings.opensearch),
        indices,
        attributes,
        max_objects=ingest.max_objects,
        max_bytes=ingest.objects_bytes // 2,
        age_s=ingest.object_age_s,
        clock_s=time.monotonic,
    )
