"""Signals in Redis or Valkey: a single server, Sentinel or Cluster, sync and async. Thin executors of what `store` describes.

Clients of ours never retry and never ping in between: with the defaults a hung server with a 10 ms time-out takes 4.2–4.5 s. Their
socket time-out is no deadline (a dripping answer succeeds after hundreds of milliseconds); the shells wait with one of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from redis import Redis, RedisCluster
from redis import Sentinel as _Sentinel
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio import Sentinel as _AsyncSentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore
from rewriter.signals.store import (
    AsyncStore,
    Command,
    Query,
    Signals,
    Store,
    commands,
    counters_commands,
    read_counters,
    signals,
    write_commands,
)

Sentinel: Any = _Sentinel  # neither has types
AsyncSentinel: Any = _AsyncSentinel

CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 1.0
CHUNK = 256


class RedisStore:
    """A Store on a redis-py client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, query: Query) -> Signals:
        """See Store.read. In a cluster the pipeline goes to at most two nodes, the session's and the profile's."""
        return signals(query, self._pipelined(commands(query)))

    def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """See Store.save_plan."""
        self._client.execute_command("SET", key, plan, "EX", ttl_s)

    def write(self, base: str, counters: Counters, ttl_s: int | None) -> None:
        """See Store.write."""
        pipeline = self._client.pipeline(transaction=True)
        for command in write_commands(base, counters, ttl_s):
            pipeline.execute_command(*command)
        pipeline.execute()

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        found: list[Counters | None] = []
        for start in range(0, len(bases), CHUNK):
            chunk = [
                command for base in bases[start : start + CHUNK] for command in counters_commands(base, fields, limit)
            ]
            found += _counters(self._pipelined(chunk), fields)
        return found

    def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        return _decoded(self._client.execute_command("GET", key))

    def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""
        self._client.execute_command("SET", key, text)

    def ping(self) -> None:
        """See Store.ping."""
        self._client.ping()

    def close(self) -> None:
        """See Store.close."""
        self._client.close()

    def _pipelined(self, wanted: Sequence[Command]) -> list[Any]:
        if not wanted:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in wanted:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))


class AsyncRedisStore:
    """An AsyncStore on a redis.asyncio client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def read(self, query: Query) -> Signals:
        """See Store.read."""
        return signals(query, await self._pipelined(commands(query)))

    async def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """See Store.save_plan."""
        await self._client.execute_command("SET", key, plan, "EX", ttl_s)

    async def write(self, base: str, counters: Counters, ttl_s: int | None) -> None:
        """See Store.write."""
        pipeline = self._client.pipeline(transaction=True)
        for command in write_commands(base, counters, ttl_s):
            pipeline.execute_command(*command)
        await pipeline.execute()

    async def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        found: list[Counters | None] = []
        for start in range(0, len(bases), CHUNK):
            chunk = [
                command for base in bases[start : start + CHUNK] for command in counters_commands(base, fields, limit)
            ]
            found += _counters(await self._pipelined(chunk), fields)
        return found

    async def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        return _decoded(await self._client.execute_command("GET", key))

    async def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""
        await self._client.execute_command("SET", key, text)

    async def ping(self) -> None:
        """See Store.ping."""
        await self._client.ping()

    async def close(self) -> None:
        """See Store.close."""
        await self._client.aclose()

    async def _pipelined(self, wanted: Sequence[Command]) -> list[Any]:
        if not wanted:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in wanted:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))


def open_store(given: Any, *, connections: int = 32) -> Store | None:
    """Return the store for a URL, a redis-py client or a Store; None for None. Nothing is connected yet, but for a cluster's slots.

    URLs: redis://, rediss://, unix://, memory://, redis+cluster:// and rediss+cluster://,
    redis+sentinel://host:port,host:port/SERVICE[/DB].
    Raises ConfigurationError for anything else, and for a client that retries.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return MemoryStore() if given == "memory://" else RedisStore(_client(given, connections))
    if hasattr(given, "read_many"):
        return cast("Store", given)
    _refuse_retries(given)
    return RedisStore(given)


def open_async_store(given: Any, *, connections: int = 32) -> AsyncStore | None:
    """The same for the event loop. A sync MemoryStore is taken as it is."""
    if given is None:
        return None
    if isinstance(given, MemoryStore):
        return AsyncMemoryStore(given)
    if isinstance(given, str):
        return AsyncMemoryStore() if given == "memory://" else AsyncRedisStore(_async_client(given, connections))
    if hasattr(given, "read_many"):
        return cast("AsyncStore", given)
    _refuse_retries(given)
    return AsyncRedisStore(given)


def _options(connections: int, retry: Any) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "retry": retry,
        "health_check_interval": 0,
        "max_connections": connections,
        "decode_responses": False,
    }


def _client(url: str, connections: int) -> Any:
    options = _options(connections, Retry(NoBackoff(), 0))
    scheme = _scheme(url)
    if scheme.endswith("+cluster"):
        return RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
    if scheme == "redis+sentinel":
        hosts, service, db = _sentinels(url)
        return Sentinel(hosts, sentinel_kwargs={"socket_timeout": SOCKET_TIMEOUT_S}, **options).master_for(
            service, db=db
        )
    return Redis.from_url(url, **options)


def _async_client(url: str, connections: int) -> Any:
    options = _options(connections, AsyncRetry(NoBackoff(), 0))
    scheme = _scheme(url)
    if scheme.endswith("+cluster"):
        return AsyncRedisCluster.from_url(url.replace("+cluster", "", 1), **options)
    if scheme == "redis+sentinel":
        hosts, service, db = _sentinels(url)
        return AsyncSentinel(hosts, sentinel_kwargs={"socket_timeout": SOCKET_TIMEOUT_S}, **options).master_for(
            service, db=db
        )
    return AsyncRedis.from_url(url, **options)


def _scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme not in ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel"):
        raise ConfigurationError(
            [
                Fault(
                    "store", f"no store has URLs of the scheme {scheme!r}", "redis://HOST:PORT/DB, see docs/settings.md"
                )
            ]
        )
    return scheme


def _sentinels(url: str) -> tuple[list[tuple[str, int]], str, int]:
    rest = url.partition("://")[2].partition("?")[0].rpartition("@")[2]
    hosts, _, path = rest.partition("/")
    service, _, db = path.partition("/")
    if not service:
        raise ConfigurationError(
            [Fault("store", "a sentinel URL names the service", "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE")]
        )
    return (
        [(host.rpartition(":")[0] or host, int(host.rpartition(":")[2] or 26379)) for host in hosts.split(",")],
        service,
        int(db or 0),
    )


def _refuse_retries(client: Any) -> None:
    arguments = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    retry = arguments.get("retry")
    if retry is not None and getattr(retry, "_retries", 0) != 0:
        remedy = "give it retry=Retry(NoBackoff(), 0), or give the URL and let the rewriter build its own"
        raise ConfigurationError(
            [Fault("store", "this redis-py client retries, and a hung server would hold each read for seconds", remedy)]
        )


def _counters(replies: Sequence[Any], fields: tuple[str, ...]) -> list[Counters | None]:
    pairs = zip(replies[::2], replies[1::2], strict=True)
    return [
        None if isinstance(members, Exception) or isinstance(meta, Exception) else read_counters(members, meta, fields)
        for members, meta in pairs
    ]


def _decoded(raw: Any) -> str | None:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
