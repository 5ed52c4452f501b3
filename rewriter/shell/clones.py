"""The client of the optional legs: a clone of the caller's, with connections of its own, no retries, and an end to each leg.

Optional legs have their own connections, so that an abandoned one never makes a baseline wait for a place in the caller's pool,
and never retry: a leg that may be lost is not worth a second round trip.

opensearch-py's synchronous time-out is per `recv`: an answer that drips a byte now and then has none. `LegLimits` ends a leg in
total time, and refuses an answer that is too large before it is parsed. They hold where the clone's connections are urllib3's
(Urllib3HttpConnection, RequestsHttpConnection and what is derived from them) or asynchronous, where a time-out is total anyway.
"""

from __future__ import annotations

import io
import time
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from inspect import iscoroutinefunction
from typing import Any

import opensearchpy
from opensearchpy import OpenSearch
from opensearchpy.serializer import Deserializer, JSONSerializer

from rewriter.flow.steps import LegFault
from rewriter.shell.pieces import FROM_CHARS, read_in_pieces

PER_PROCESS = frozenset({"loop", "metrics"})
"""Of a transport's arguments, those that are not the clone's: the loop of the caller's client, and the counts it keeps."""


@dataclass(slots=True)
class LegLimits:
    """What one leg may take, and what its answer took. until_s: monotonic; sizes are of the answer's text."""

    until_s: float
    max_bytes: int
    size: int = 0


LIMITS: ContextVar[LegLimits | None] = ContextVar("rewriter_leg_limits", default=None)
"""The limits of the leg that this thread or task sends."""


def cloned(client: Any, connections: int) -> Any:
    """Return a client that sends and reads as `client` does, with connections of its own and no retries.

    Hosts, credentials, certificates, signers, headers, compression, serializers, sniffing, connection and transport classes
    are the same. Nothing is connected yet. An async clone belongs to the event loop that first uses it.
    """
    transport = client.transport
    given = {name: value for name, value in transport.kwargs.items() if name not in PER_PROCESS}
    reads = transport.deserializer
    default = next((mimetype for mimetype, one in reads.serializers.items() if one is reads.default), None)
    clone = _library_class(client)(
        hosts=[dict(host) for host in transport.hosts],
        transport_class=type(transport),
        connection_class=_limited(transport.connection_class, reads),
        connection_pool_class=transport.connection_pool_class,
        host_info_callback=transport.host_info_callback,
        sniffer_timeout=transport.sniffer_timeout,
        sniff_timeout=transport.sniff_timeout,
        sniff_on_connection_fail=transport.sniff_on_connection_fail,
        serializer=transport.serializer,
        serializers=dict(reads.serializers),
        **({"default_mimetype": default} if default else {}),
        send_get_body_as=transport.send_get_body_as,
        max_retries=0,
        retry_on_timeout=False,
        retry_on_status=(),
        pool_maxsize=connections,
        **given,
    )
    if isinstance(clone.transport.deserializer, Deserializer):
        clone.transport.deserializer = _Reads(clone.transport.deserializer)
    return clone


def _library_class(client: Any) -> Any:
    """Return the library's own class of a client: a subclass may ask for arguments of its own, and the transport holds the rest."""
    libraries = (OpenSearch, getattr(opensearchpy, "AsyncOpenSearch", OpenSearch))
    return next((base for base in type(client).__mro__ if base in libraries), type(client))


def prepared(clone: Any) -> Any:
    """Make an async clone's connections now: their certificates are read from disk, which an event loop must not wait for.

    By itself the client makes them on the loop, in its first request. Called on a thread.
    """
    clone.transport.set_connections(clone.transport.hosts)
    return clone


def _limited(connection_class: Any, reads: Deserializer) -> Any:
    """Return a connection class that is `connection_class` but for the limits of the leg that is being sent."""
    if issubclass(connection_class, (_Limited, _AsyncLimited)):
        return connection_class
    kind = _AsyncLimited if _is_async(connection_class) else _Limited
    return type(connection_class.__name__, (kind, connection_class), {"reads": reads})


def _is_async(connection_class: Any) -> bool:
    return iscoroutinefunction(connection_class.perform_request)


class _Read:
    """An answer that was read already."""

    __slots__ = ("answer",)

    def __init__(self, answer: Any) -> None:
        self.answer = answer


class _Reads(Deserializer):
    """Reads what was not read yet."""

    def __init__(self, like: Deserializer) -> None:
        self.default, self.serializers = like.default, like.serializers
        self._like = like

    def loads(self, s: Any, mimetype: str | None = None) -> Any:
        """See opensearchpy.serializer.Deserializer.loads."""
        return s.answer if isinstance(s, _Read) else self._like.loads(s, mimetype)


class _AsyncLimited:
    """An async connection that refuses an answer which is too large to be parsed in time, reads a large one in pieces, and
    follows no redirect.

    Only JSON that the client's own JSONSerializer reads: what another makes of a part is not known here.
    """

    reads: Deserializer

    async def _create_aiohttp_session(self) -> None:
        await super()._create_aiohttp_session()  # type: ignore[misc]
        session: Any = self.session  # type: ignore[attr-defined]
        # aiohttp has no setting for all requests of a session, and warns of attributes that are set on one.
        object.__setattr__(session, "request", partial(session.request, allow_redirects=False))

    async def perform_request(self, *arguments: Any, **named: Any) -> Any:
        """See opensearchpy.Connection.perform_request."""
        status, headers, text = _weighed(await super().perform_request(*arguments, **named))  # type: ignore[misc]
        json = self.reads.serializers.get("application/json")
        if LIMITS.get() is not None and type(json) is JSONSerializer and len(text) >= FROM_CHARS:
            mimetype = (headers.get("content-type") or "").partition(";")[0]
            if mimetype == "application/json" and (answer := await read_in_pieces(text, json.loads)) is not None:
                return status, headers, _Read(answer)
        return status, headers, text


class _Limited:
    """A connection that also gives an answer up in total time. urllib3's follows no redirect by itself, requests' does."""

    def perform_request(self, *arguments: Any, **named: Any) -> Any:
        """See opensearchpy.Connection.perform_request."""
        _watch(self)
        session: Any = getattr(self, "session", None)
        if hasattr(session, "get_redirect_target"):
            session.get_redirect_target = _nowhere
        try:
            answer = super().perform_request(*arguments, **named)  # type: ignore[misc]
        except Exception as error:
            limits = LIMITS.get()
            if limits is not None and time.monotonic() >= limits.until_s:  # which clients call by different names
                raise LegFault("late", "given up by its client") from error
            raise
        return _weighed(answer)


def _nowhere(_: Any) -> None:
    """Return where an answer redirects to, as requests asks: nowhere. A leg's headers are not for another host."""


def _weighed(answer: Any) -> Any:
    """Note the size of an answer (status, headers, text), and refuse one that is too large before it is parsed."""
    limits = LIMITS.get()
    if limits is not None:
        limits.size = len(answer[2])
        if limits.size > limits.max_bytes:
            raise LegFault(
                "too_large",
                f"an answer of {limits.size:,} bytes is more than `budget.max_leg_bytes` ({limits.max_bytes:,})",
            )
    return answer


def _watch(connection: Any) -> None:
    """Have a connection's sockets read until the leg's end at most."""
    pool = getattr(connection, "pool", None)
    if pool is not None and hasattr(pool, "ConnectionCls"):
        pool.ConnectionCls = _timed(pool.ConnectionCls)
        return
    for adapter in getattr(getattr(connection, "session", None), "adapters", {}).values():
        manager = getattr(adapter, "poolmanager", None)
        if manager is not None:
            manager.pool_classes_by_scheme = {
                scheme: pool_class
                if hasattr(pool_class.ConnectionCls, "reads_until_the_end_of_its_leg")
                else type(pool_class.__name__, (pool_class,), {"ConnectionCls": _timed(pool_class.ConnectionCls)})
                for scheme, pool_class in manager.pool_classes_by_scheme.items()
            }


def _timed(connection_class: Any) -> Any:
    """Return an HTTP connection class whose answers are read until the leg's end at most."""
    if hasattr(connection_class, "reads_until_the_end_of_its_leg"):
        return connection_class
    more = {"response_class": _TimedResponse, "reads_until_the_end_of_its_leg": True}
    return type(connection_class.__name__, (connection_class,), more)


class _TimedResponse(HTTPResponse):
    """An answer whose status line, headers and body are read until the leg's end at most."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        if (limits := LIMITS.get()) is not None:
            self.fp = io.BufferedReader(_Until(self.fp, sock, limits))


class _Until(io.RawIOBase):
    """A socket's bytes, each `recv` with what is left of the leg's time."""

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
