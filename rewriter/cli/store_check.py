"""The part of `rewriter check` that reads the stores: whether a URL can work, and whether the server keeps acknowledged writes.

An event counts exactly once if its stream survives the server. A server that evicts deletes streams, counters and switches when it
is full. A server that answers before it writes to its disk loses its last writes. See "Persistence" in `docs/signals.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from rewriter.errors import ConfigurationError, Fault, StoreError
from rewriter.settings import Settings
from rewriter.settings_file import line_of
from rewriter.signals.ingest.ailing import is_refusal
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.redis_store import RedisStore, open_store
from rewriter.signals.store_failures import described, failure_of, fault_of

READ = ("switches", "heartbeat", "forgets", "partitions")
"""Keys that every process reads: a node of a cluster refuses some of them, a Sentinel all, a wrong role too."""
PROBED_SLOTS = 16
"""Keys by which a cluster's nodes are asked whether they take writes."""
CHECKED = ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync")


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The faults of the stores in a settings file, and notes on them."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_stores(settings: Settings, path: Path, text: str) -> StoreCheck:
    """Check the stores of the settings file `path` with this `text`.

    A store that does not answer is a note, one that refuses is a fault.
    """
    found = StoreCheck()
    for key, url in zip(("url", "profile_url"), settings.store.plain_urls, strict=True):
        where = f"{path}:{line_of(text, ('store', key))}"
        try:
            store = open_store(url)  # connects to nothing yet
        except ConfigurationError as error:
            found.faults.extend(Fault(where, one.what, one.remedy) for one in error.faults)
            continue
        if isinstance(store, RedisStore):
            _check(store, settings.store.prefix, where, f"[store] {key}", found)
            store.close()
    return found


def profile_store(settings: Settings) -> RedisStore | str:
    """Return the store of profiles, which the caller closes; or why there is none."""
    url, profile_url = settings.store.plain_urls
    try:
        store = open_store(profile_url or url)
    except ConfigurationError:
        return "the store cannot be opened"
    return store if isinstance(store, RedisStore) else "no store is configured"


def unwritable(settings: Settings) -> list[str]:
    """Return, for each store that answers and takes no writes, a text on why: it is full, a replica, or cannot save.

    The command that finds out writes nothing: it puts an empty text into a key that does not exist.
    """
    keys, found = StreamKeys(settings.store.prefix), []
    probes = [("SETRANGE", keys.of_stream(number, "writable"), 0, "") for number in range(PROBED_SLOTS)]
    for name, url in zip(("store", "profile store"), settings.store.plain_urls, strict=True):
        if url in (None, "memory://"):
            continue
        store = RedisStore(str(url))
        try:
            replies = store.run(probes)
        except (RedisError, StoreError, OSError):
            continue  # that it does not answer is reported elsewhere
        finally:
            store.close()
        found += [f"{name}: {described(one)}" for one in replies if isinstance(one, Exception) and not is_refusal(one)]
    return list(dict.fromkeys(found))


def _check(store: RedisStore, prefix: str, where: str, name: str, found: StoreCheck) -> None:
    try:
        replies = store.run([("GET", f"{prefix}:{key}") for key in READ])
        if failed := next((one for one in replies if isinstance(one, Exception)), None):
            raise failed
        _refuse_replica(store, where, found)
        try:
            servers = list(store.configuration(CHECKED))
        except ResponseError as error:
            found.notes.append(
                f"{name}: does not show its configuration ({type(error).__name__}): check {', '.join(CHECKED)} yourself"
            )
            return
    except (RedisError, StoreError, OSError) as error:
        if failure_of(error).is_lasting:
            found.faults.append(fault_of(error, where))
        else:
            found.notes.append(f"{name}: {described(error)}; its persistence was not checked")
        return
    found.faults.extend(dict.fromkeys(Fault(where, *one) for server in servers for one in losses(server)))
    found.notes.extend(dict.fromkeys(f"{name}: {one}" for server in servers for one in risks(server)))


def _refuse_replica(store: RedisStore, where: str, found: StoreCheck) -> None:
    """Add a fault for a server that takes no writes. A role without INFO cannot tell."""
    if not store.is_cluster:
        (info,) = store.run([("INFO", "replication")])
        if isinstance(info, Mapping) and info.get("role") == "slave":
            found.faults.append(fault_of(ReadOnlyError("READONLY"), where))


def losses(server: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings with which a healthy server deletes events, counters and switches, each with its remedy."""
    policy = server.get("maxmemory-policy", "noeviction")
    if policy != "noeviction" and server.get("maxmemory", "0") != "0":
        what = f"maxmemory-policy is {policy}: once it is full, the server deletes streams, counters and switches"
        yield what, "set maxmemory-policy noeviction"


def risks(server: Mapping[str, str]) -> Iterator[str]:
    """Yield texts on settings with which a server that dies loses acknowledged writes."""
    policy, fsync = server.get("maxmemory-policy", "noeviction"), server.get("appendfsync", "always")
    if policy != "noeviction" and server.get("maxmemory", "0") == "0":
        yield f"maxmemory-policy is {policy}: with a maxmemory, the server would delete streams when it is full"
    if server.get("appendonly", "yes") != "yes":
        yield "appendonly is no: events that were acknowledged since the last snapshot are lost when the server dies"
    elif fsync != "always":
        yield f"appendfsync is {fsync}: events that were acknowledged in the last second or two are lost when the machine dies"
