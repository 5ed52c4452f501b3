"""Fixtures that several live tests read and none changes."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from opensearchpy import OpenSearch, helpers

from rewriter import Settings
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from tests.live import draws, shelf
from tests.live.engine import search_client, supported

SHARDS = {"number_of_shards": 3, "number_of_replicas": 0}


@contextmanager
def loaded(
    client: OpenSearch, index: str, mapping: Mapping[str, Any], documents: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[str]:
    """An index of three shards, for as long as it is needed."""
    client.indices.create(index=index, body={"settings": SHARDS, "mappings": {"properties": supported(mapping)}})
    try:
        helpers.bulk(
            client, ({"_index": index, "_id": one, "_source": source} for one, source in documents), refresh=True
        )
        yield index
    finally:
        client.indices.delete(index=index)


@pytest.fixture(scope="session")
def products(opensearch: OpenSearch) -> Iterator[str]:
    """An index with ninety shoes, made once for all tests that only search it."""
    name = f"shelf-{uuid.uuid4().hex[:8]}"
    with loaded(opensearch, name, shelf.MAPPING, shelf.shoes(90).items()) as index:
        yield index


@pytest.fixture(scope="module")
def drawn_shop(
    opensearch: OpenSearch, opensearch_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[draws.Shop]:
    """Two indices that share ids, behind one alias for each drawn policy, and a store with a population."""
    name, chance = f"promises-{uuid.uuid4().hex[:8]}", random.Random(draws.SEED)
    folder = tmp_path_factory.mktemp("templates")
    draws.write_templates(folder)
    sets = list(draws.TEMPLATES)
    aliases = [f"{name}-policy{number}" for number in range(draws.POLICIES)]
    settings = Settings.model_validate(
        {
            "templates_dir": folder,
            "store": {"url": redis_url, "prefix": name},
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 20_000},
            "policies": {one: draws.policy(chance, one, sets[n % len(sets)]) for n, one in enumerate(aliases)},
        }
    )
    store = RedisStore(redis_url)
    with (
        loaded(opensearch, f"{name}-a", draws.MAPPING, draws.documents(chance)) as one,
        loaded(opensearch, f"{name}-b", draws.MAPPING, draws.documents(chance)) as other,
        redis.Redis.from_url(redis_url) as raw,
    ):
        adds = [{"add": {"index": index, "alias": alias}} for index in (one, other) for alias in aliases]
        opensearch.indices.update_aliases(body={"actions": adds})
        draws.write_population(store, Keys(name))
        yield draws.Shop(opensearch_url, search_client(opensearch_url), store, raw, Keys(name), settings, aliases)
        for key in raw.scan_iter(match=f"{name}*", count=1000):
            raw.delete(key)
    store.close()
