"""Signal store on Redis or Valkey: one server, Sentinel or Cluster, on threads or on the event loop.

In a cluster redis-py sends the parts of a pipeline to the nodes of its keys and then collects the replies; a read has at most two
nodes, the session's and the profile's. Moved slots redis-py requests again by itself. An unreachable node fails its own scopes, or
the whole read if its connections were closed before. Under a time-out of 1 s a hung node held a thread for 4.0 s once and then for
1–2 s; that costs a permit, but no search its answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import redis.asyncio as aio
from redis import Redis, RedisCluster
from redis.exceptions import ClusterError, RedisClusterException, RedisError

from rewriter.errors import AnswerTooLargeError, ConfigurationError, Fault, StoreError
from rewriter.signals.answer_bound import too_large
from rewriter.signals.command_store import AsyncCommandStore, CommandStore
from rewriter.signals.commands import Command
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore
from rewriter.signals.redis_clients import (
    EVENT_LOOP,
    THREADS,
    TIMEOUT_S,
    opened,
    refuse_unfit,
    sentinels,
    store_address,
)
from rewriter.signals.store import AsyncStore, Store, StoreName
from rewriter.signals.store_failures import FailureAddress, address_of_client, address_of_url, note_address

S = TypeVar("S")

CONNECTIONS = 32
FAILURES = (RedisError, RedisClusterException)
"""What a client raises where the store fails; the second, of a cluster without all its slots, is no RedisError."""
SCRIPTS = ("EVAL", "EVALSHA")  # with one key or more, the first of which is the fourth part of the command


class _Addressed:
    """Within it, what a client raises leaves as `_translated` returns it. It has no state, so that threads and tasks share it."""

    __slots__ = ("_where",)

    def __init__(self, where: FailureAddress) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, FAILURES) and (found := _translated(error, self._where)) is not error:
            raise found from error


class RedisStore(CommandStore):
    """A Store at a URL (see `redis_clients.FORMS`), or on the caller's redis-py client, which this store does not close.

    connections:      limit of open connections per server; without a free one a read fails at once. A URL's `max_connections`
                      overrides it.
    max_answer_bytes: limit of one answer in bytes, for a URL only; None for no limit. See `answer_bound`.
    It connects on the first read. Raises ConfigurationError for an invalid URL, or a client that is unfit for searches.
    """

    def __init__(
        self, given: str | Redis | RedisCluster, *, connections: int = CONNECTIONS, max_answer_bytes: int | None = None
    ) -> None:
        self._address = store_address(given) if isinstance(given, str) else None
        self._connections = connections
        self._max_answer_bytes = max_answer_bytes
        self._making: dict[int, Future[Any]] = {}
        self._client: Any = None
        self._closed = False
        if isinstance(given, str):
            self._where = address_of_url(given)
        else:
            refuse_unfit(given)
            self._client, self._where = given, address_of_client(given)
        self._addressed = _Addressed(self._where)

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""
        client = self._connected()
        pipeline = client.pipeline(transaction=atomic)
        with self._addressed:
            for command in wanted:
                pipeline.execute_command(*command, **({} if atomic else _target_of(client, command)))
            return _replies(pipeline.execute(raise_on_error=atomic), self._where)

    @property
    def is_cluster(self) -> bool:
        """Whether its keys may lie on several nodes. False before it has connected: the first read tells."""
        return hasattr(self._client, "get_primaries")

    def ping(self) -> None:
        """See Store.ping."""
        client = self._connected()
        with self._addressed:
            client.ping()

    def close(self) -> None:
        """See Store.close. A thread that is in the middle of several reads then fails at the next one, and connects no more."""
        if self._address is not None:
            self._closed = True
            for client in (self._client, *sentinels(self._client)) if self._client is not None else ():
                client.close()

    def keys(self, pattern: str) -> Iterator[str]:
        """Yield all keys that match a pattern, on every node. Slow, so never for a search."""
        with self._addressed:
            for key in self._connected().scan_iter(match=pattern, count=1_000):
                yield key.decode("utf-8", "replace")

    def configuration(self, names: Sequence[str]) -> Iterator[dict[str, str]]:
        """Yield, for each writable server, its settings `names`. Raises the client's exception. Never for a search."""
        client = self._connected()
        with self._addressed:
            servers = [client]
            if hasattr(client, "get_primaries"):  # of a cluster
                servers = [client.get_redis_connection(node) for node in client.get_primaries()]
            for one in servers:
                found: dict[Any, Any] = {}
                for name in names:
                    found |= one.config_get(name)
                yield {_text(name): _text(value) for name, value in found.items()}

    def _connected(self) -> Any:
        """Return the client, constructed at first use, since a cluster client connects to read its slots on construction.

        One thread constructs it; others wait for it at most TIMEOUT_S. A Future per process id replaces a lock, which would stay
        held in a child forked meanwhile.
        """
        if self._closed:
            raise StoreError("the store is closed")
        if self._client is None and self._address is not None:
            ours: Future[Any] = Future()
            making = self._making.setdefault(os.getpid(), ours)
            if making is not ours:
                try:
                    return making.result(TIMEOUT_S)
                except TimeoutError:
                    raise StoreError("the store's client is still connecting") from None
            try:
                if self._client is None:  # another thread may have constructed it meanwhile
                    self._client = opened(self._address, self._connections, THREADS, self._max_answer_bytes)
                ours.set_result(self._client)
            except Exception as error:
                found = _translated(error, self._where) if isinstance(error, FAILURES) else error
                ours.set_exception(found)
                raise found from error
            finally:
                self._making.pop(os.getpid(), None)
        return self._client


class AsyncRedisStore(AsyncCommandStore):
    """An AsyncStore at a URL or on the caller's redis.asyncio client; see RedisStore."""

    def __init__(
        self,
        given: str | aio.Redis | aio.RedisCluster,
        *,
        connections: int = CONNECTIONS,
        max_answer_bytes: int | None = None,
    ) -> None:
        self._url = given if isinstance(given, str) else None
        self._max_answer_bytes = max_answer_bytes
        if isinstance(given, str):
            self._client: Any = opened(store_address(given), connections, EVENT_LOOP, max_answer_bytes)
            self._where = address_of_url(given)
        else:
            refuse_unfit(given)
            self._client, self._where = given, address_of_client(given)
        self._addressed = _Addressed(self._where)

    def on_threads(self) -> RedisStore | None:
        """Return a new store for threads at the same URL; None for a store on the caller's client."""
        if self._url is None:
            return None
        return RedisStore(self._url, connections=1, max_answer_bytes=self._max_answer_bytes)

    async def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""
        with self._addressed:
            if atomic:
                # Otherwise a cluster's transaction would read the slots in another thread's event loop, and its connections
                # would not be usable in this one.
                await self._client.initialize()
            pipeline = self._client.pipeline(transaction=atomic)
            for command in wanted:
                pipeline.execute_command(*command)
            return _replies(await pipeline.execute(raise_on_error=atomic), self._where)

    @property
    def is_cluster(self) -> bool:
        """Whether its keys may lie on several nodes."""
        return hasattr(self._client, "get_primaries")

    async def ping(self) -> None:
        """See Store.ping."""
        with self._addressed:
            await self._client.ping()

    async def close(self) -> None:
        """See Store.close."""
        if self._url is not None:
            for client in (self._client, *sentinels(self._client)):
                await client.aclose()


def open_stores(store: Any, profile_store: Any, **options: Any) -> dict[StoreName, Store]:
    """Return the configured stores by name. Raises as `open_store` does."""
    given: dict[StoreName, Any] = {"store": store, "profile_store": profile_store}
    found = {name: open_store(one, **options) for name, one in given.items()}
    return {name: one for name, one in found.items() if one is not None}


def open_async_stores(store: Any, profile_store: Any, **options: Any) -> dict[StoreName, AsyncStore]:
    """Return the configured stores for the event loop by name. Raises as `open_async_store` does."""
    given: dict[StoreName, Any] = {"store": store, "profile_store": profile_store}
    found = {name: open_async_store(one, **options) for name, one in given.items()}
    return {name: one for name, one in found.items() if one is not None}


def without_given(stores: Mapping[StoreName, S], given: Iterable[Any]) -> list[S]:
    """Return the stores that were made of what was given. A Store that was given itself is its giver's to close."""
    theirs = list(given)
    return [one for one in stores.values() if not any(one is their for their in theirs)]


def _target_of(client: Any, command: Command) -> dict[str, Any]:
    """Name the node of a script's key to a cluster's pipeline, which would ask the cluster's default node for it.

    redis-py 8.1 sends COMMAND GETKEYS for each EVAL of a pipeline to one node of its choice: while that node is away, no script
    reaches any other node.
    """
    if command[0] not in SCRIPTS or not hasattr(client, "get_node_from_key"):
        return {}
    return {"target_nodes": client.get_node_from_key(command[3])}


def open_store(given: str | Redis | RedisCluster | Store | None, **options: Any) -> Store | None:
    """Return the store for a URL, a redis-py client or a Store; None for None. Raises as RedisStore does."""
    match given:
        case None:
            return None
        case "memory://":
            return MemoryStore()
        case str() | Redis() | RedisCluster():
            return RedisStore(given, **options)
        case _ if hasattr(given, "run") and not iscoroutinefunction(given.run):
            return given
        case _:
            raise _unknown(given, "a URL, a redis.Redis, a redis.RedisCluster or a Store")


def open_async_store(
    given: str | aio.Redis | aio.RedisCluster | AsyncStore | MemoryStore | None, **options: Any
) -> AsyncStore | None:
    """Return the store for a URL, a redis.asyncio client or an AsyncStore; a MemoryStore may be shared with threads.

    None for None. Raises as AsyncRedisStore does.
    """
    match given:
        case None:
            return None
        case "memory://":
            return AsyncMemoryStore()
        case MemoryStore():
            return AsyncMemoryStore(given)
        case str() | aio.Redis() | aio.RedisCluster():
            return AsyncRedisStore(given, **options)
        case _ if hasattr(given, "run") and iscoroutinefunction(given.run):
            return given
        case _:
            raise _unknown(given, "a URL, a redis.asyncio.Redis, a redis.asyncio.RedisCluster or an AsyncStore")


def _replies(found: Sequence[Any], where: FailureAddress) -> list[Any]:
    """Return the replies. Raises AnswerTooLargeError if one was cut off, which in a cluster is one of several replies."""
    for reply in found:
        if isinstance(reply, RedisError) and isinstance(translated := _translated(reply, where), AnswerTooLargeError):
            raise translated from reply
    return list(found)


def _translated(error: Exception, where: FailureAddress) -> Exception:
    """Return an AnswerTooLargeError if the byte limit caused an error, else an error with its store's address.

    It is a RedisError, which is what callers catch, where redis-py's own error of a cluster is none.
    """
    if too_large(error):
        return AnswerTooLargeError("the answer is larger than max_answer_bytes")
    found = error if isinstance(error, RedisError) else ClusterError(str(error))
    note_address(found, where)
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _unknown(given: Any, wanted: str) -> ConfigurationError:
    what = f"{type(given).__module__}.{type(given).__qualname__}"
    return ConfigurationError([Fault("store", f"a {what} is not a store", f"pass {wanted}")])
