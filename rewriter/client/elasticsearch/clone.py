"""The clone of an Elasticsearch client that sends the optional legs: its nodes apply the limits of a leg, and it never retries.

It has nodes of its own and does not sniff at its start. The limits apply if its nodes are urllib3's, requests' or asynchronous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from elastic_transport import AsyncTransport, JsonSerializer, SerializerCollection, Transport
from elasticsearch import AsyncElasticsearch, Elasticsearch

from rewriter.client.limits import LIMITS, Limited, check_size, follow_no_redirect, in_time, with_limits
from rewriter.client.own_parts import check_state, library_class
from rewriter.client.pieces import FROM_CHARS, Parsed, read_in_pieces

CLASSES = (Elasticsearch, AsyncElasticsearch)
TRANSPORTS = (Transport, AsyncTransport)
"""The library's own classes."""


def headers_of(client: Any) -> Mapping[str, str]:
    """Return the headers that a client adds to each request; `options()` changes them and shows them nowhere else."""
    return dict(getattr(client, "_headers", {}))


def cloned(client: Any, connections: int) -> Any:
    """Return a client that sends and reads as `client` does, with nodes and connections of its own and no retries."""
    transport, pool = client.transport, client.transport.node_pool
    nodes = list(pool.all())
    serializers = transport.serializers
    default = next(name for name, one in serializers.serializers.items() if one is serializers.default_serializer)
    clone = library_class(client, CLASSES)(
        [node.config for node in nodes],
        transport_class=type(transport),
        node_class=with_limits(type(nodes[0]), Limited, _AsyncLimited, {"serializers": serializers}),
        node_pool_class=type(pool),
        node_selector_class=type(pool.node_selector),
        connections_per_node=connections,
        serializers=dict(serializers.serializers),
        default_mimetype=default,
        meta_header=transport.meta_header,
        headers=dict(headers_of(client)),
        **({"server_mode": "serverless"} if getattr(client, "_is_serverless", False) else {}),
        max_retries=0,
        retry_on_timeout=False,
        retry_on_status=(),
    )
    clone.transport.serializers = _Reads(clone.transport.serializers)
    return clone


def check_clone(client: Any, clone: Any) -> None:
    """See seam.Library.check_clone: all else of a client is taken over."""
    transport = client.transport
    node = next(iter(transport.node_pool.all()))
    vanilla = library_class(transport, TRANSPORTS)([node.config], node_class=type(node))
    check_state(transport, clone.transport, vanilla)


class _Reads(SerializerCollection):
    """Serializers that pass `Parsed` through and give everything else to the client's own."""

    def __init__(self, like: SerializerCollection) -> None:
        self.serializers, self.default_serializer = like.serializers, like.default_serializer

    def loads(self, data: Any, mimetype: str | None = None) -> Any:
        """See elastic_transport.SerializerCollection.loads."""
        return data.answer if isinstance(data, Parsed) else super().loads(data, mimetype)


class _AsyncLimited:
    """An async node that refuses an answer which is too large to be parsed in time, reads a large one in pieces, and follows no
    redirect.

    Only JSON that the client's own JsonSerializer reads: what another makes of a part is not known here.
    """

    serializers: SerializerCollection

    def _create_aiohttp_session(self) -> None:
        super()._create_aiohttp_session()  # type: ignore[misc]
        follow_no_redirect(self.session)  # type: ignore[attr-defined]

    async def perform_request(self, *arguments: Any, **named: Any) -> Any:
        """See elastic_transport.BaseAsyncNode.perform_request."""
        async with in_time():  # the transport would take a time-out for a dead node, with a warning for each leg
            answer: Any = await super().perform_request(*arguments, **named)  # type: ignore[misc]
        text: bytes = answer.body
        check_size(len(text))
        if LIMITS.get() is not None and len(text) >= FROM_CHARS and (loads := _json(self.serializers, answer.meta)):
            read = await read_in_pieces(text.decode("utf-8", "surrogatepass"), loads)
            if read is not None:
                return answer._replace(body=Parsed(read))
        return answer


def _json(serializers: SerializerCollection, meta: Any) -> Callable[[Any], Any] | None:
    """Return what reads an answer's JSON, where it is the library's own reader."""
    found = serializers.serializers.get((meta.mimetype or "").partition(";")[0])
    is_own = type(found).__module__ == "elasticsearch.serializer"
    return found.json_loads if is_own and isinstance(found, JsonSerializer) else None
