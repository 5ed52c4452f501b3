"""The limits of an optional leg, applied by its connection: a deadline in total time, and the largest answer that is parsed.

The timeout of a synchronous connection (of urllib3 or requests) counts per `recv`, so an answer that drips single bytes never times
out. `watch` bounds the reads of such a connection's sockets by the leg's deadline. An asynchronous request ends with `in_time`:
aiohttp's timeout is total, that of httpx or of a caller's own class need not be.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from inspect import iscoroutinefunction
from socket import SHUT_RDWR, socket
from typing import Any

from rewriter.client.seam import LegFault


@dataclass(slots=True)
class LegLimits:
    """The limits of one leg, and the size of its answer.

    until_s:   the deadline (monotonic).
    max_bytes: the largest answer, in bytes of its text.
    size:      the answer's size, in the same unit; 0 until it has arrived.
    """

    until_s: float
    max_bytes: int
    size: int = 0
    ended: bool = False
    sock: Any = None

    def end(self) -> None:
        """End a search that nobody waits for any more: its connection is closed, and the server stops. From any thread."""
        self.ended = True
        if self.sock is not None:
            with suppress(OSError):  # it has just been answered
                # Not the method of the socket: with TLS, the reading thread would take cipher text for plain.
                socket.shutdown(self.sock, SHUT_RDWR)


LIMITS: ContextVar[LegLimits | None] = ContextVar("rewriter_leg_limits", default=None)
"""The limits of the leg that this thread or task sends."""


def with_limits(connection_class: Any, threaded: type, of_loop: type, attributes: Mapping[str, Any]) -> Any:
    """Return a subclass of a connection's class that applies the limits of the leg that is being sent, with these attributes.

    threaded, of_loop: the classes that apply them to a synchronous and an asynchronous one. A class that has them is returned.
    """
    if issubclass(connection_class, (threaded, of_loop)):
        return connection_class
    kind = of_loop if iscoroutinefunction(connection_class.perform_request) else threaded
    return type(connection_class.__name__, (kind, connection_class), dict(attributes))


def check_size(size: int) -> None:
    """Note the size of an answer's text in its leg's limits. Raises LegFault if it exceeds `max_bytes`."""
    limits = LIMITS.get()
    if limits is not None:
        limits.size = size
        if size > limits.max_bytes:
            raise LegFault(
                "too_large", f"an answer of {size:,} bytes is more than `budget.max_leg_bytes` ({limits.max_bytes:,})"
            )


def check_time(error: Exception) -> None:
    """Raise LegFault if a connection's error came at the leg's deadline or later: clients raise different errors for it."""
    limits = LIMITS.get()
    if limits is not None and limits.ended:
        raise LegFault("late", "nobody waits for it any more") from error
    if limits is not None and time.monotonic() >= limits.until_s:
        raise LegFault("late", "given up by its client") from error


class Limited:
    """Mixin of a sync connection of either client library: it bounds a leg's total time and the size of its answer, and follows no
    redirect.
    """

    def perform_request(self, *arguments: Any, **named: Any) -> Any:
        """See opensearchpy.Connection.perform_request, or elastic_transport.BaseNode.perform_request: both return the text last."""
        watch(self)
        try:
            answer: Any = super().perform_request(*arguments, **named)  # type: ignore[misc]
        except Exception as error:
            check_time(error)
            raise
        check_size(len(answer[-1]))
        return answer


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """End an asynchronous request at its leg's deadline. Raises LegFault then, and for an error that comes later."""
    limits = LIMITS.get()
    left_s = None if limits is None else max(0.0, limits.until_s - time.monotonic())
    timeout = asyncio.timeout(left_s)
    try:
        async with timeout:
            yield
    except Exception as error:
        if timeout.expired():
            raise LegFault("late", "given up by its client") from error
        check_time(error)
        raise


def follow_no_redirect(session: Any) -> None:
    """Make an aiohttp session follow no redirect: a leg's headers must not reach another host."""
    # aiohttp has no setting for all requests of a session, and warns of attributes that are set on one.
    object.__setattr__(session, "request", partial(session.request, allow_redirects=False))


def watch(connection: Any) -> None:
    """Bound the reads of a connection's sockets by the leg's deadline, and make it follow no redirect.

    connection: of either client library; it has urllib3's `pool`, or the `session` of requests.
    """
    pool: Any = getattr(connection, "pool", None)
    session: Any = getattr(connection, "session", None)
    if hasattr(session, "get_redirect_target"):
        session.get_redirect_target = _nowhere  # urllib3's follows none by itself
    if pool is not None and hasattr(pool, "ConnectionCls"):
        pool.ConnectionCls = _timed(pool.ConnectionCls)
        return
    for adapter in getattr(session, "adapters", {}).values():
        manager = getattr(adapter, "poolmanager", None)
        if manager is not None:
            manager.pool_classes_by_scheme = {
                scheme: pool_class
                if hasattr(pool_class.ConnectionCls, "reads_until_the_end_of_its_leg")
                else type(pool_class.__name__, (pool_class,), {"ConnectionCls": _timed(pool_class.ConnectionCls)})
                for scheme, pool_class in manager.pool_classes_by_scheme.items()
            }


def _nowhere(_: Any) -> None:
    """Return no redirect target, in place of requests' own function."""


def _timed(connection_class: Any) -> Any:
    """Return a subclass of an HTTP connection class whose answers are read until the leg's deadline at most."""
    if hasattr(connection_class, "reads_until_the_end_of_its_leg"):
        return connection_class
    more = {"response_class": _TimedResponse, "reads_until_the_end_of_its_leg": True}
    return type(connection_class.__name__, (connection_class,), more)


class _TimedResponse(HTTPResponse):
    """An answer whose status line, headers and body are read until the leg's deadline at most."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        if (limits := LIMITS.get()) is not None:
            limits.sock = sock
            if limits.ended:  # meanwhile
                limits.end()
            self.fp = io.BufferedReader(_Until(self.fp, sock, limits))


class _Until(io.RawIOBase):
    """A socket's bytes; each `recv` has the remaining time of the leg as its timeout."""

    def __init__(self, read: Any, sock: Any, limits: LegLimits) -> None:
        super().__init__()
        self._read = read
        self._sock = sock
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        left_s = self._limits.until_s - time.monotonic()
        if left_s <= 0.0:
            raise TimeoutError("the leg was given up")
        self._sock.settimeout(left_s)
        return self._read.raw.readinto(into)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._read.close()
        super().close()
