"""A bound in bytes on what a server may answer, held while the answer is received.

A search reads kilobytes. An answer of megabytes (one field of a hash that somebody filled, a hundred members of a megabyte) would
be received and parsed whole before anybody could look at it: 124 to 818 ms, in which the event loop or Python's lock is held. Here
the connection is closed as soon as more bytes arrive than the bound; the read fails, and its search is the baseline.

The bytes are counted from one request to the next, where the connection hands them to redis-py's parser: with either of its
parsers, with TLS or without, on threads and on the event loop. Only connections that are ours are bounded.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import Any

from redis import Connection, RedisCluster
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.connection import AbstractConnection as AsyncConnection


class _TooManyBytesError(OSError):
    """The same within redis-py, which closes the connection for any OSError."""


class _Counted:
    """What is read from, and how many bytes were since the last request. Everything else is the wrapped object's."""

    def __init__(self, source: Any, most: int) -> None:
        self._source = source
        self._most = most
        self.received = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def _count(self, received: int) -> None:
        self.received += received
        if self.received > self._most:
            raise _TooManyBytesError(f"more than {self._most:,} bytes")


class _Socket(_Counted):
    """A socket of threads."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        data: bytes = self._source.recv(size, flags) if flags else self._source.recv(size)
        if not flags & socket.MSG_PEEK:
            self._count(len(data))
        return data

    def recv_into(self, buffer: Any, *more: Any) -> int:
        size: int = self._source.recv_into(buffer, *more)
        self._count(size)
        return size

    def sendall(self, data: Any) -> None:
        self.received = 0
        self._source.sendall(data)


class _Reader(_Counted):
    """A stream of the event loop. It holds at most twice its own limit of 64 KiB that nobody has read."""

    async def read(self, size: int = -1) -> bytes:
        data: bytes = await self._source.read(size)
        self._count(len(data))
        return data

    async def readexactly(self, size: int) -> bytes:
        self._count(size)  # as the server announced it, before any of it is received
        data: bytes = await self._source.readexactly(size)
        return data

    async def readline(self) -> bytes:
        data: bytes = await self._source.readline()
        self._count(len(data))
        return data


class _BoundedConnection:
    """Mixed into a connection for threads."""

    max_answer_bytes: int

    def _connect(self) -> Any:
        return _Socket(super()._connect(), self.max_answer_bytes)  # type: ignore[misc]


class _BoundedAsyncConnection:
    """Mixed into a connection for the event loop."""

    max_answer_bytes: int
    _reader: Any

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]
        self._reader = _Reader(self._reader, self.max_answer_bytes)

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        if self._reader is not None:
            self._reader.received = 0
        await super().send_packed_command(*arguments, **options)  # type: ignore[misc]


def bound_answers(client: Any, most: int) -> None:
    """Have a client that was only just made bound each answer to `most` bytes."""
    manager: Any
    if isinstance(client, RedisCluster):
        manager = client.nodes_manager
        kind = _bounded(manager.connection_kwargs.get("connection_class", Connection), most)
        manager.connection_kwargs["connection_class"] = kind
        for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values()):
            if node.redis_connection is not None:
                pool = node.redis_connection.connection_pool
                pool.connection_class = kind
                pool.disconnect()  # those that learned the slots
                pool.reset()
    elif isinstance(client, AsyncRedisCluster):
        manager = client.nodes_manager
        kind = _bounded(manager.connection_kwargs["connection_class"], most)
        manager.connection_kwargs["connection_class"] = kind
        for node in manager.startup_nodes.values():
            node.connection_class = kind
    else:
        pool = client.connection_pool
        pool.connection_class = _bounded(pool.connection_class, most)


def too_large(error: BaseException | None) -> bool:
    """Whether it was the bound that had an error raised.

    What is raised while another error is handled may be its cause's context and so lead back to itself.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, _TooManyBytesError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@lru_cache
def _bounded(kind: type, most: int) -> type:
    mixed = _BoundedAsyncConnection if issubclass(kind, AsyncConnection) else _BoundedConnection
    return type(f"Bounded{kind.__name__}", (mixed, kind), {"max_answer_bytes": most})
