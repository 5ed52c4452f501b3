"""elasticsearch-py behind the seam: `Elasticsearch` and `AsyncElasticsearch` of 8 (in compatibility mode) and 9.

The rewriter's own requests go through the client's transport, with its headers and their deadline. `client.options(...)` would make
a new client for each of them (0.13 ms), and would repeat deprecation warnings of the server that the baseline gives already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import elasticsearch
from elastic_transport import ApiError as AnyApiError
from elastic_transport import ConnectionError as Unreachable
from elastic_transport import ConnectionTimeout, HttpHeaders, ObjectApiResponse, TransportError
from elasticsearch import AsyncElasticsearch, Elasticsearch
from elasticsearch.exceptions import HTTP_EXCEPTIONS, ApiError

from rewriter.client.batch import lines_of, read_batch
from rewriter.client.elasticsearch.arguments import OF_ONE_REQUEST, read_arguments
from rewriter.client.elasticsearch.clone import cloned, headers_of
from rewriter.client.seam import ClientFault, Connection, Search, SearchArguments, SearchClient

SYNC, ASYNC = "elasticsearch.Elasticsearch", "elasticsearch.AsyncElasticsearch"
SEARCHING = ("search", "msearch", "perform_request")
CLONES_SEARCH = False
"""Legs are sent by a client's transport."""
LOGGERS = ("elastic_transport", "elasticsearch")

MAJOR = elasticsearch.__version__[0]
JSON = f"application/vnd.elasticsearch+json; compatible-with={MAJOR}"
SERVERLESS_VERSION = "2023-10-31"
"""The version of the API that the library names to a serverless project."""
NDJSON = f"application/vnd.elasticsearch+x-ndjson; compatible-with={MAJOR}"


def kind_of(client: object) -> Literal["sync", "async"] | None:
    """See seam.Library.kind_of."""
    return "sync" if isinstance(client, Elasticsearch) else "async" if isinstance(client, AsyncElasticsearch) else None


def around(raw: Any, *, is_async: bool) -> SearchClient:
    """See seam.Library.around."""
    return ElasticsearchClient(raw, is_async=is_async)


def connect(connection: Connection, *, is_async: bool) -> SearchClient:
    """See seam.Library.connect. A host without a port has the port that opensearch-py takes: 9200, or 443 with https."""
    kind = AsyncElasticsearch if is_async else Elasticsearch
    named: dict[str, Any] = {}
    if connection.username:
        named["basic_auth"] = (connection.username, connection.password)
    if any(host.startswith("https:") for host in connection.hosts):
        named |= {"verify_certs": connection.verify_certs}
        named |= {"ca_certs": connection.ca_certs} if connection.ca_certs else {}
    raw = kind(
        [_with_port(host) for host in connection.hosts],
        request_timeout=connection.timeout_s,
        connections_per_node=connection.connections,
        **named,
    )
    return ElasticsearchClient(raw, is_async=is_async)


def _with_port(host: str) -> str:
    scheme, _, rest = host.partition("://")
    authority, slash, path = rest.partition("/")
    has_port = authority.rpartition("@")[2].rpartition("]")[2].count(":") == 1
    return host if has_port or scheme != "http" else f"{scheme}://{authority}:9200{slash}{path}"


class ElasticsearchClient:
    """See seam.SearchClient.

    of: the client whose options `raw` changes (`options()`): its headers are the clone's too, so only others go with a search.
    headers: what `raw` adds to each request; base: what the clone adds.
    """

    errors: tuple[type[Exception], ...] = (AnyApiError, TransportError)
    rewrapped: frozenset[str] = frozenset({"options"})
    passed: frozenset[str] = frozenset({"search_template", "msearch_template", "async_search", "scroll"})
    rights: Mapping[str, str] = {
        "info": "monitor",
        "mapping": "view_index_metadata",
        "settings": "view_index_metadata",
        "validate": "view_index_metadata",
        "search": "read",
        "fields": "read",
    }

    def __init__(self, raw: Any, *, is_async: bool, of: ElasticsearchClient | None = None) -> None:
        self.raw = raw
        self.is_async = is_async
        self.headers: Mapping[str, str] = headers_of(raw)
        self.base: Mapping[str, str] = of.base if of is not None else self.headers
        # Of `options` or the constructor; the library sets a mark where neither gives one.
        own_s = getattr(raw, "_request_timeout", None)
        self._timeout_s = own_s if isinstance(own_s, (int, float)) else None
        self._is_serverless = bool(getattr(raw, "_is_serverless", False))

    def read(self, arguments: Mapping[str, Any]) -> SearchArguments:
        """See seam.SearchClient.read. A keyword beside the same key of the body is refused by the client itself."""
        own_headers = {name: value for name, value in self.headers.items() if self.base.get(name) != value}
        return read_arguments(arguments, own_headers, self._timeout_s)

    def read_batch(self, arguments: Mapping[str, Any]) -> list[SearchArguments] | str:
        """See seam.SearchClient.read_batch: the lines are `searches`, or `body`."""
        beside = {name: value for name, value in arguments.items() if name not in ("searches", "body")}
        lines = arguments.get("searches")
        return read_batch(arguments.get("body") if lines is None else lines, self.read(beside), OF_ONE_REQUEST)

    def body_of(self, response: Any) -> Any:
        """See seam.SearchClient.body_of."""
        return getattr(response, "body", response)

    def with_body(self, response: Any, body: Any) -> Any:
        """See seam.SearchClient.with_body: the same type, with the response's own `meta`."""
        return type(response)(body=body, meta=response.meta) if hasattr(response, "meta") else body

    def write(self, body: Any) -> str | bytes:
        """See seam.SearchClient.write."""
        written: bytes = self.raw.transport.serializers.dumps(body, self._content_type())
        return written

    def derived(self, raw: Any) -> SearchClient:
        """See seam.SearchClient.derived."""
        return ElasticsearchClient(raw, is_async=self.is_async, of=self)

    def cloned(self, connections: int) -> SearchClient:
        """See seam.SearchClient.cloned."""
        return ElasticsearchClient(cloned(self.raw, connections), is_async=self.is_async)

    def prepare(self) -> None:
        """See seam.SearchClient.prepare: certificates are read when a clone is made."""

    def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        """See seam.SearchClient.search. The server cancels a search whose connection is closed."""
        params = {**search.params, "request_cache": "false"} if is_leg else search.params
        return self._sent("POST", _search_path(search), params, search.body, search.headers, timeout_s)

    def search_as_caller(self, search: Search, timeout_s: float) -> Any:
        """See seam.SearchClient.search_as_caller. The client's transport sends it, so that wrappers of `search` do not see it."""
        made = (_search_path(search), search.params, search.body, search.headers, timeout_s)
        return self._sent("POST", *made, read=_response)

    def multi_search(self, searches: Sequence[Search], timeout_s: float, *, is_leg: bool = False) -> Any:
        """See seam.SearchClient.multi_search."""
        lines = lines_of(searches, {"request_cache": "false"} if is_leg else {})
        return self._sent("POST", "/_msearch", {}, lines, searches[0].headers, timeout_s)

    def bulk(self, index: str, lines: Sequence[Mapping[str, Any]], timeout_s: float) -> Any:
        """See seam.SearchClient.bulk."""
        return self._sent("POST", f"/{_quoted(index)}/_bulk", {}, list(lines), {}, timeout_s)

    def get_mapping(self, index: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.get_mapping."""
        return self._sent("GET", f"/{_quoted(index)}/_mapping", params, None, {}, timeout_s)

    def get_settings(self, index: str, names: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.get_settings."""
        path = f"/{_quoted(index)}/_settings" + (f"/{_quoted(names)}" if names else "")
        return self._sent("GET", path, {**params, "flat_settings": "true"}, None, {}, timeout_s)

    def field_caps(self, index: str, timeout_s: float) -> Any:
        """See seam.SearchClient.field_caps."""
        return self._sent("GET", f"/{_quoted(index)}/_field_caps", {"fields": "*"}, None, {}, timeout_s)

    def validate_query(self, index: str, query: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.validate_query."""
        path = f"/{_quoted(index)}/_validate/query"
        return self._sent("POST", path, {"explain": "true"}, {"query": query}, {}, timeout_s)

    def render_template(self, source: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.render_template."""
        body = {"source": source, "params": params}
        return self._sent("POST", "/_render/template", {}, body, {}, timeout_s)

    def resolve_index(self, index: str, timeout_s: float) -> Any:
        """See seam.SearchClient.resolve_index."""
        return self._sent("GET", f"/_resolve/index/{_quoted(index)}", {}, None, {}, timeout_s)

    def info(self, timeout_s: float) -> Any:
        """See seam.SearchClient.info."""
        return self._sent("GET", "/", {}, None, {}, timeout_s)

    def close(self) -> Any:
        """See seam.SearchClient.close."""
        return self.raw.close()

    def fault_of(self, error: Exception) -> ClientFault:
        """See seam.SearchClient.fault_of."""
        name = type(error).__name__
        if isinstance(error, AnyApiError):
            return ClientFault("status", name, error.meta.status, str(error.message), error.body)
        if isinstance(error, ConnectionTimeout):
            return ClientFault("timeout", name)
        if isinstance(error, Unreachable):
            return ClientFault("unreachable", name, error=str(error.message))
        return ClientFault("unreadable", name)

    def _content_type(self, *, lines: bool = False) -> str:
        if self._is_serverless:
            return "application/x-ndjson" if lines else "application/json"
        return NDJSON if lines else JSON

    def _sent(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        body: Any,
        headers: Mapping[str, Any],
        timeout_s: float,
        read: Callable[[Any, Any], Any] | None = None,
    ) -> Any:
        """Send one request with the client's transport, without retries. Returns its body; an awaitable for an async client.

        read: makes the result of meta and body; by default, the body.
        """
        target = path + (
            f"?{'&'.join(f'{name}={_quoted(_text(value))}' for name, value in params.items())}" if params else ""
        )
        named = HttpHeaders(self.headers)
        named.update(headers)  # as they are: the client may refuse a value, and its caller gets that error
        named["accept"] = self._content_type()
        if self._is_serverless:
            named["elastic-api-version"] = SERVERLESS_VERSION
        if body is not None:
            named["content-type"] = self._content_type(lines=isinstance(body, list))
        request = self.raw.transport.perform_request(
            method, target, body=body, headers=named, request_timeout=timeout_s, max_retries=0
        )
        read = read or _checked
        return self._awaited(request, read) if self.is_async else read(*request)

    async def _awaited(self, request: Awaitable[Any], read: Callable[[Any, Any], Any]) -> Any:
        return read(*await request)


def _search_path(search: Search) -> str:
    return f"/{_quoted(search.index)}/_search" if search.index else "/_search"


def _response(meta: Any, body: Any) -> Any:
    """Return an answer as the client's own methods do."""
    return ObjectApiResponse(body=_checked(meta, body), meta=meta)


def _checked(meta: Any, body: Any) -> Any:
    """Return an answer's body, or raise the error of its status as the client would."""
    if 200 <= meta.status < 300:
        return body
    error = body.get("error", "") if isinstance(body, dict) else str(body)
    message = error.get("type", "") if isinstance(error, dict) else str(error)
    raise HTTP_EXCEPTIONS.get(meta.status, ApiError)(message=message, meta=meta, body=body)


def _quoted(text: str) -> str:
    return quote(text, safe=",*")


def _text(value: Any) -> str:
    """Return a parameter as the client writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return ",".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)
