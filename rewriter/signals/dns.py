"""DNS look-ups of stores on threads of their own, so that a slow resolver delays neither the caller's searches nor `close`.

asyncio resolves names on the event loop's default executor: six threads on two cores, which the caller's own client and the
application use too. A connect that times out leaves its look-up running there: when the store's name took 6 s to resolve, a
baseline whose client had to resolve its own name took 6 s. Here a name occupies at most one thread, however many connects need it.
On threads nothing bounds `getaddrinfo`, so that a read stayed in flight, and `close` waited, for as long as the resolver took (12 s
of 12); here the look-up is abandoned when the connect times out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import Any

import redis
from redis import sentinel
from redis.asyncio import Connection, RedisCluster, SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

Key = tuple[int, str, int]

_UNDER_WAY: dict[Key, Future[list[str]]] = {}
"""Look-ups in progress by process id, name and port. The process id is needed since a forked child lacks the parent's threads."""


async def addresses(host: str, port: int) -> list[str]:
    """Return a name's addresses in the order in which to try them. Raises the exception of `getaddrinfo`.

    A cancelled caller does not cancel the look-up for others that wait for the same name.
    """
    loop = asyncio.get_running_loop()
    came = loop.create_future()

    def wake() -> None:
        if not came.done():
            came.set_result(None)

    def ended(_: Future[list[str]]) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(wake)

    look_up = _look_up((os.getpid(), host, port))
    look_up.add_done_callback(ended)
    await came
    return look_up.result()


def _look_up(key: Key) -> Future[list[str]]:
    """Return the look-up in progress, or begin one."""
    ours: Future[list[str]] = Future()
    look_up = _UNDER_WAY.setdefault(key, ours)  # one atomic step: a lock could be left held by a fork
    if look_up is ours:
        try:
            # A daemon thread, so that the interpreter's exit does not wait for it.
            Thread(target=_run, args=(key, ours), name="rewriter-names", daemon=True).start()
        except RuntimeError as error:  # no thread can be started
            _UNDER_WAY.pop(key, None)
            ours.set_exception(error)
    return look_up


def _run(key: Key, look_up: Future[list[str]]) -> None:
    _, host, port = key
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001  it is raised to the waiting callers
        _UNDER_WAY.pop(key, None)
        look_up.set_exception(error)
    else:
        _UNDER_WAY.pop(key, None)
        look_up.set_result([_written(address) for *_, address in found])


def _written(address: tuple[Any, ...]) -> str:
    """Return an address as text; a link-local IPv6 address is usable only with its interface."""
    host, scope = str(address[0]), address[3] if len(address) == 4 else 0
    return f"{host}%{scope}" if scope else host


class ThreadResolvingConnection(redis.Connection):
    """A connection for threads that resolves its host here; a connect waits for at most `socket_connect_timeout`."""

    def _connect(self) -> Any:
        name = self.host
        if _is_address(name):
            return super()._connect()  # type: ignore[no-untyped-call]
        refused: list[OSError] = []
        found = _look_up((os.getpid(), name, self.port)).result(self.socket_connect_timeout)
        try:
            for self.host in found:
                try:
                    return super()._connect()  # type: ignore[no-untyped-call]
                except OSError as error:
                    refused.append(error)
        finally:
            self.host = name  # which TLS verifies
        raise OSError("; ".join(map(str, refused)) or "the name has no address")


class ThreadResolvingSSLConnection(redis.SSLConnection, ThreadResolvingConnection):
    """A ThreadResolvingConnection with TLS."""


class ThreadResolvingManagedConnection(sentinel.SentinelManagedConnection, ThreadResolvingConnection):
    """A ThreadResolvingConnection to a server that Sentinels choose."""


class ThreadResolvingManagedSSLConnection(sentinel.SentinelManagedSSLConnection, ThreadResolvingConnection):
    """A ThreadResolvingManagedConnection with TLS."""


class ResolvingConnection(Connection):
    """A connection that resolves its host here, and tries one address after the other; TLS still verifies the name."""

    _address: str | None = None

    async def _connect(self) -> None:
        if _is_address(self.host):
            await self._connect_to(None)
            return
        refused: list[OSError] = []
        async with asyncio.timeout(self.socket_connect_timeout):
            for address in await addresses(self.host, self.port):
                try:
                    await self._connect_to(address)
                except ssl.SSLError:
                    raise
                except OSError as error:
                    refused.append(error)
                else:
                    return
        raise OSError("; ".join(map(str, refused)) or "the name has no address")

    async def _connect_to(self, address: str | None) -> None:
        self._address = address
        await super()._connect()  # type: ignore[no-untyped-call]

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments())
        if self._address is not None:
            arguments["host"] = self._address
            if arguments.get("ssl"):
                arguments["server_hostname"] = self.host
        return arguments


class ResolvingSSLConnection(ResolvingConnection, SSLConnection):
    """A ResolvingConnection with TLS."""


class ResolvingManagedConnection(ResolvingConnection, SentinelManagedConnection):
    """A ResolvingConnection to a server that Sentinels choose."""


class ResolvingManagedSSLConnection(ResolvingConnection, SentinelManagedSSLConnection):
    """A ResolvingManagedConnection with TLS."""


BY_NAME: Mapping[type, type] = {
    Connection: ResolvingConnection,
    SSLConnection: ResolvingSSLConnection,
    SentinelManagedConnection: ResolvingManagedConnection,
    SentinelManagedSSLConnection: ResolvingManagedSSLConnection,
    redis.Connection: ThreadResolvingConnection,
    redis.SSLConnection: ThreadResolvingSSLConnection,
    sentinel.SentinelManagedConnection: ThreadResolvingManagedConnection,
    sentinel.SentinelManagedSSLConnection: ThreadResolvingManagedSSLConnection,
}


def look_up_apart(client: Any) -> None:
    """Make a new client resolve names here; one on a Unix socket is left alone.

    So is a cluster client for threads, since it has already connected when it is constructed.
    """
    if isinstance(client, redis.RedisCluster):
        return
    if isinstance(client, RedisCluster):
        manager = client.nodes_manager
        by_name = BY_NAME[manager.connection_kwargs["connection_class"]]
        manager.connection_kwargs["connection_class"] = by_name
        for node in manager.startup_nodes.values():
            node.connection_class = by_name
    else:
        pool = client.connection_pool
        pool.connection_class = BY_NAME.get(pool.connection_class, pool.connection_class)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
