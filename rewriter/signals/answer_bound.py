"""Byte limit of a store's answers, enforced while they are received.

A search reads kilobytes. An answer of megabytes (a hash field that another client filled, a hundred members of a megabyte) would be
received and parsed as a whole before its size is known: 124 to 818 ms, during which the event loop or the interpreter lock is held.
So the connection is closed as soon as more bytes arrive than the limit; the read fails, and its search is the baseline.

The bytes since the last request are counted where the connection passes them to redis-py's parser: for both of its parsers, with
and without TLS, on threads and on the event loop. Only connections of our own clients are limited.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import Any

from redis import Connection, RedisCluster
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.connection import AbstractConnection as AsyncConnection


class _TooManyBytesError(OSError):
    """An answer exceeded the limit. An OSError, since redis-py closes the connection for one."""


class _Counted:
    """A wrapper of a socket or stream that counts the bytes read since the last request."""

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
    """The counting wrapper of a socket, for threads."""

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
    """The counting wrapper of a stream, for the event loop. The stream buffers at most twice its own limit of 64 KiB."""

    async def read(self, size: int = -1) -> bytes:
        data: bytes = await self._source.read(size)
        self._count(len(data))
        return data

    async def readexactly(self, size: int) -> bytes:
        self._count(size)  # the announced size, before any of it is received
        data: bytes = await self._source.readexactly(size)
        return data

    async def readline(self) -> bytes:
        data: bytes = await self._source.readline()
        self._count(len(data))
        return data


class _BoundedConnection:
    """Mixin of a connection for threads."""

    max_answer_bytes: int

    def _connect(self) -> Any:
        return _Socket(super()._connect(), self.max_answer_bytes)  # type: ignore[misc]


class _BoundedAsyncConnection:
    """Mixin of a connection for the event loop."""

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
    """Limit each answer to a new client to `most` bytes."""
    manager: Any
    if isinstance(client, RedisCluster):
        manager = client.nodes_manager
        kind = _bounded(manager.connection_kwargs.get("connection_class", Connection), most)
        manager.connection_kwargs["connection_class"] = kind
        for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values()):
            if node.redis_connection is not None:
                pool = node.redis_connection.connection_pool
                pool.connection_class = kind
                pool.disconnect()  # the connections that read the slots
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
    """Whether the byte limit caused an error.

    The chain of causes and contexts may contain a cycle, hence the set of seen errors.
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
