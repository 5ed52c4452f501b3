"""opensearch-py behind the seam: `OpenSearch` and `AsyncOpenSearch`, from 2.4 on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import opensearchpy
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as Unreachable
from opensearchpy.exceptions import ConnectionTimeout, OpenSearchException, TransportError
from opensearchpy.serializer import JSONSerializer

from rewriter.client.batch import lines_of, read_batch
from rewriter.client.opensearch.clone import cloned
from rewriter.client.seam import ClientFault, Connection, Search, SearchArguments, SearchClient

SYNC, ASYNC = "opensearchpy.OpenSearch", "opensearchpy.AsyncOpenSearch"
CLONES_SEARCH = True
LOGGERS = ("opensearch",)

NOT_URL = frozenset({"index", "body", "params", "headers", "opaque_id"})
"""Arguments of `client.search` that are not parameters of the URL."""

OF_ONE_REQUEST = ("request_timeout", "timeout", "ignore", "request_cache", "cancel_after_time_interval")
"""Parameters that say how one request is sent or given up: each leg has its own."""


def kind_of(client: object) -> Literal["sync", "async"] | None:
    """See seam.Library.kind_of."""
    names = {base.__name__ for base in type(client).__mro__ if base.__module__.partition(".")[0] == "opensearchpy"}
    return "sync" if "OpenSearch" in names else "async" if "AsyncOpenSearch" in names else None


def around(raw: Any, *, is_async: bool) -> SearchClient:
    """See seam.Library.around."""
    return OpenSearchClient(raw, is_async=is_async)


def connect(connection: Connection, *, is_async: bool) -> SearchClient:
    """See seam.Library.connect. AsyncOpenSearch needs the extra `async`."""
    kind = opensearchpy.AsyncOpenSearch if is_async else OpenSearch
    auth = (connection.username, connection.password) if connection.username else None
    raw = kind(
        hosts=list(connection.hosts),
        http_auth=auth,
        ca_certs=connection.ca_certs,
        verify_certs=connection.verify_certs,
        timeout=connection.timeout_s,
        pool_maxsize=connection.connections,
    )
    return OpenSearchClient(raw, is_async=is_async)


class OpenSearchClient:
    """See seam.SearchClient. `raw` may be a proxy of a client: as the legs' client it needs `search` and `indices` alone."""

    errors: tuple[type[Exception], ...] = (OpenSearchException,)
    rewrapped: frozenset[str] = frozenset()
    passed: frozenset[str] = frozenset({"search_template", "msearch_template", "asynchronous_search", "scroll"})
    rights: Mapping[str, str] = {
        "info": "cluster:monitor/main",
        "mapping": "indices:admin/mappings/get",
        "settings": "indices:monitor/settings/get",
        "validate": "indices:admin/validate/query",
        "search": "indices:data/read/search",
        "fields": "indices:data/read/field_caps",
    }

    def __init__(self, raw: Any, *, is_async: bool) -> None:
        self.raw = raw
        self.is_async = is_async
        serializer = getattr(getattr(raw, "transport", None), "serializer", None) or JSONSerializer()
        self._write = serializer.dumps

    def read(self, arguments: Mapping[str, Any]) -> SearchArguments:
        """See seam.SearchClient.read. As in the client, keyword arguments override `params`."""
        index, body = arguments.get("index"), arguments.get("body")
        headers, params = arguments.get("headers") or {}, arguments.get("params") or {}
        for name, value in (("headers", headers), ("params", params)):
            if not isinstance(value, Mapping):
                return SearchArguments(index, body, unread=f"`{name}` must be a dict")
        if "from" in arguments:
            return SearchArguments(index, body, unread="the client takes `from_`")
        if (opaque_id := arguments.get("opaque_id")) is not None:
            headers = {**headers, "x-opaque-id": opaque_id}
        params = {name: _in_params(value) for name, value in params.items()}
        own = {name: value for name, value in arguments.items() if name not in NOT_URL and value is not None}
        of_url = {name: value for name, value in {**params, **own}.items() if name not in OF_ONE_REQUEST}
        of_request = {name: value for name, value in {**params, **own}.items() if name in OF_ONE_REQUEST}
        # As the client does: `timeout` is the server's where `request_timeout` is given too, else the client's own.
        timeout = of_request.pop("request_timeout", None) or of_request.pop("timeout", None)
        if timeout is not None:
            of_request["request_timeout"] = timeout
        return SearchArguments(index, body, of_url, dict(headers), own=of_request)

    def read_batch(self, arguments: Mapping[str, Any]) -> list[SearchArguments] | str:
        """See seam.SearchClient.read_batch."""
        beside = {name: value for name, value in arguments.items() if name != "body"}
        return read_batch(arguments.get("body"), self.read(beside), OF_ONE_REQUEST)

    def body_of(self, response: Any) -> Any:
        """See seam.SearchClient.body_of: a response is a body."""
        return response

    def with_body(self, response: Any, body: Any) -> Any:  # noqa: ARG002  the seam's
        """See seam.SearchClient.with_body."""
        return body

    def write(self, body: Any) -> str | bytes:
        """See seam.SearchClient.write."""
        written: str | bytes = self._write(body)
        return written

    def derived(self, raw: Any) -> SearchClient:
        """See seam.SearchClient.derived."""
        return OpenSearchClient(raw, is_async=self.is_async)

    def cloned(self, connections: int) -> SearchClient:
        """See seam.SearchClient.cloned."""
        return OpenSearchClient(cloned(self.raw, connections), is_async=self.is_async)

    def prepare(self) -> None:
        """See seam.SearchClient.prepare. By itself an async client makes its connections on the loop, in its first request."""
        if self.is_async:
            self.raw.transport.set_connections(self.raw.transport.hosts)

    def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        """See seam.SearchClient.search."""
        params = dict(search.params)
        if is_leg:
            params |= _of_a_leg(timeout_s)
        named: dict[str, Any] = {"headers": dict(search.headers)} if search.headers else {}
        return self.raw.search(
            index=search.index or None, body=search.body, params=params, request_timeout=timeout_s, **named
        )

    def search_as_caller(self, search: Search, timeout_s: float) -> Any:
        """See seam.SearchClient.search_as_caller: a response is a body."""
        return self.search(search, timeout_s)

    def multi_search(self, searches: Sequence[Search], timeout_s: float, *, is_leg: bool = False) -> Any:
        """See seam.SearchClient.multi_search."""
        more = _of_a_leg(timeout_s) if is_leg else {}
        named: dict[str, Any] = {"headers": dict(searches[0].headers)} if searches[0].headers else {}
        return self.raw.msearch(body=lines_of(searches, more), request_timeout=timeout_s, **named)

    def bulk(self, index: str, lines: Sequence[Mapping[str, Any]], timeout_s: float) -> Any:
        """See seam.SearchClient.bulk."""
        return self.raw.bulk(body=list(lines), index=index, request_timeout=timeout_s)

    def get_mapping(self, index: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.get_mapping."""
        return self.raw.indices.get_mapping(index=index, request_timeout=timeout_s, **params)

    def get_settings(self, index: str, names: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.get_settings."""
        named = {"name": names} if names else {}
        return self.raw.indices.get_settings(
            index=index, flat_settings="true", request_timeout=timeout_s, **named, **params
        )

    def field_caps(self, index: str, timeout_s: float) -> Any:
        """See seam.SearchClient.field_caps."""
        return self.raw.field_caps(index=index, fields="*", request_timeout=timeout_s)

    def validate_query(self, index: str, query: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.validate_query."""
        params = {"explain": "true", "request_timeout": timeout_s}
        return self.raw.indices.validate_query(index=index, body={"query": query}, params=params)

    def render_template(self, source: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """See seam.SearchClient.render_template."""
        body = {"source": source, "params": params}
        return self.raw.render_search_template(body=body, params={"request_timeout": timeout_s})

    def resolve_index(self, index: str, timeout_s: float) -> Any:
        """See seam.SearchClient.resolve_index."""
        # The client's own method came with opensearch-py 2.5.
        params = {"request_timeout": timeout_s}
        return self.raw.transport.perform_request("GET", f"/_resolve/index/{quote(index, safe=',*')}", params=params)

    def info(self, timeout_s: float) -> Any:
        """See seam.SearchClient.info."""
        return self.raw.info(request_timeout=timeout_s)

    def close(self) -> Any:
        """See seam.SearchClient.close."""
        return self.raw.close()

    def fault_of(self, error: Exception) -> ClientFault:
        """See seam.SearchClient.fault_of."""
        name = type(error).__name__
        if isinstance(error, ConnectionTimeout):
            return ClientFault("timeout", name)
        if isinstance(error, Unreachable):
            return ClientFault("unreachable", name, error=str(error.error))
        if isinstance(error, TransportError):
            status = error.status_code if isinstance(error.status_code, int) else None
            return ClientFault("status", name, status, str(error.error), error.info)
        return ClientFault("unreadable", name)


def _in_params(value: Any) -> Any:
    """Return an entry of `params` as the client sends it: unlike a keyword argument, by its text, so that True is no `true`."""
    return str(value) if isinstance(value, (bool, list, tuple, dict)) else value


def _of_a_leg(timeout_s: float) -> dict[str, str]:
    """Return the parameters that make a leg harmless to abandon."""
    return {"cancel_after_time_interval": f"{max(1, round(timeout_s * 1000))}ms", "request_cache": "false"}
