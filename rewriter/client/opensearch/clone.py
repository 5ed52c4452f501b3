"""The clone of an opensearch-py client that sends the optional legs.

It has its own connections, so that an abandoned leg never makes a baseline wait for one of the caller's. It never retries: a leg
that may be lost is not worth a second round trip. Its connections apply the limits of a leg if they are urllib3's
(Urllib3HttpConnection, RequestsHttpConnection and their subclasses) or asynchronous.

A leg that fails is not logged for the caller: opensearch-py would write a warning with a traceback for each one that is late.
Reports, metrics and the log `rewriter` have its cause.
"""

from __future__ import annotations

from copy import copy
from logging import DEBUG, getLogger
from typing import Any

import opensearchpy
from opensearchpy import OpenSearch, Transport
from opensearchpy.serializer import Deserializer, JSONSerializer

from rewriter.client.limits import LIMITS, Limited, check_size, follow_no_redirect, in_time, with_limits
from rewriter.client.opensearch.plain_json import plain
from rewriter.client.own_parts import check_state, library_class, own_methods, set_methods
from rewriter.client.pieces import FROM_CHARS, Parsed, read_in_pieces

CLASSES = (OpenSearch, getattr(opensearchpy, "AsyncOpenSearch", OpenSearch))
TRANSPORTS = (Transport, getattr(opensearchpy, "AsyncTransport", Transport))
"""The library's own classes: the asynchronous ones need its extra `async`."""

SEARCHING = ("search", "msearch")
"""The methods that send legs."""
PER_PROCESS = frozenset({"loop", "metrics"})
"""The arguments of a transport that the clone does not take over: the event loop and the metrics of the caller's client."""


def cloned(client: Any, connections: int) -> Any:
    """Return a client that sends and reads as `client` does, with connections of its own and no retries.

    Signers and sniffing are taken over too. An async clone belongs to the event loop that first uses it. Where the client's class
    overrides a method that searches, the clone is of that class, with the client's state: the method may restrict what is found.
    """
    transport = client.transport
    given = {name: value for name, value in transport.kwargs.items() if name not in PER_PROCESS}
    reads = transport.deserializer
    default = next((mimetype for mimetype, one in reads.serializers.items() if one is reads.default), None)
    clone = library_class(client, CLASSES)(
        hosts=[dict(host) for host in transport.hosts],
        transport_class=type(transport),
        connection_class=with_limits(transport.connection_class, _Limited, _AsyncLimited, {"reads": reads}),
        connection_pool_class=transport.connection_pool_class,
        host_info_callback=transport.host_info_callback,
        sniffer_timeout=transport.sniffer_timeout,
        sniff_timeout=transport.sniff_timeout,
        sniff_on_connection_fail=transport.sniff_on_connection_fail,
        serializer=plain(transport.serializer),
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
    return _of_its_class(client, clone) if own_methods(client, SEARCHING, CLASSES) else clone


def _of_its_class(client: Any, clone: Any) -> Any:
    """Return `clone` with the class and the state of `client`. No constructor is called: it may need other arguments."""
    twin = copy(client)
    for name in set_methods(client, SEARCHING):  # they send through the client itself
        delattr(twin, name)
    # What sends is the clone's. So is `close`: that of the class may end what the caller still uses.
    vars(twin).update(vars(clone), close=clone.close)
    return twin


def check_clone(client: Any, clone: Any) -> None:
    """See seam.Library.check_clone: all else of a client is taken over."""
    transport = client.transport
    check_state(transport, clone.transport, library_class(transport, TRANSPORTS)([]))


class _Reads(Deserializer):
    """A deserializer that passes `Parsed` through and gives everything else to the client's own."""

    def __init__(self, like: Deserializer) -> None:
        self.default, self.serializers = like.default, like.serializers
        self._like = like

    def loads(self, s: Any, mimetype: str | None = None) -> Any:
        """See opensearchpy.serializer.Deserializer.loads."""
        return s.answer if isinstance(s, Parsed) else self._like.loads(s, mimetype)


class _Quiet:
    """A connection whose failures are in the library's log at level DEBUG alone."""

    def log_request_fail(self, *arguments: Any, **named: Any) -> None:
        """See opensearchpy.Connection.log_request_fail."""
        if getLogger("opensearch").isEnabledFor(DEBUG):
            super().log_request_fail(*arguments, **named)  # type: ignore[misc]


class _AsyncLimited(_Quiet):
    """An async connection that refuses an answer too large to be parsed in time and reads a large one in pieces.

    It follows no redirect: a leg's headers must not reach another host.
    Only JSON for the library's own JSONSerializer is read in pieces: another serializer may read a part differently.
    """

    reads: Deserializer

    async def _create_aiohttp_session(self) -> None:
        await super()._create_aiohttp_session()  # type: ignore[misc]
        follow_no_redirect(self.session)  # type: ignore[attr-defined]

    async def perform_request(self, *arguments: Any, **named: Any) -> Any:
        """See opensearchpy.Connection.perform_request."""
        async with in_time():
            status, headers, text = await super().perform_request(*arguments, **named)  # type: ignore[misc]
        check_size(len(text))
        json = self.reads.serializers.get("application/json")
        if LIMITS.get() is not None and type(json) is JSONSerializer and len(text) >= FROM_CHARS:
            mimetype = (headers.get("content-type") or "").partition(";")[0]
            if mimetype == "application/json" and (answer := await read_in_pieces(text, json.loads)) is not None:
                return status, headers, Parsed(answer)
        return status, headers, text


class _Limited(_Quiet, Limited):
    """A sync connection with the limits of a leg."""
