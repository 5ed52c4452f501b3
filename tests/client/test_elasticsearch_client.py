"""elasticsearch-py behind the seam: arguments are read as the client sends them, and a clone sends as the client does."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
from elastic_transport import ApiResponseMeta, BaseNode, HttpHeaders, NodeConfig, ObjectApiResponse
from elasticsearch import AsyncElasticsearch, Elasticsearch
from elasticsearch.exceptions import ApiError, ConnectionTimeout, NotFoundError, SerializationError
from elasticsearch.exceptions import ConnectionError as Unreachable

from rewriter.client.elasticsearch import ElasticsearchClient, connect
from rewriter.client.registry import around, library_of, names
from rewriter.client.seam import Connection, Search, leg_fault

HOST = "http://127.0.0.1:9"
META = ApiResponseMeta(
    200,
    "1.1",
    HttpHeaders({"x-elastic-product": "Elasticsearch", "content-type": "application/json"}),
    0.0,
    NodeConfig("http", "h", 1),
)
QUERY: dict[str, Any] = {"match": {"title": "red shoe"}}


class Recording(BaseNode):
    """A node that keeps what it is sent, and answers with no hits."""

    sent: ClassVar[list[tuple[str, str, bytes | None, HttpHeaders]]] = []
    answer: bytes = b'{"hits": {"hits": []}}'
    status = 200

    def perform_request(self, method: str, target: str, body: Any = None, headers: Any = None, **_: Any) -> Any:  # type: ignore[override]
        self.sent.append((method, target, body, headers))
        meta = ApiResponseMeta(self.status, "1.1", META.headers, 0.0, self.config)
        from elastic_transport._node._base import NodeApiResponse

        return NodeApiResponse(meta, self.answer)

    def close(self) -> None:
        """Nothing is open."""


def client(**named: Any) -> Elasticsearch:
    return Elasticsearch(HOST, node_class=Recording, **named)


def on_the_wire(raw: Elasticsearch, arguments: Mapping[str, Any]) -> tuple[str, dict[str, str], Any]:
    """Return path, parameters and body as the client sends a search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forms that the client calls deprecated
        raw.search(**arguments)
    _, target, body, _ = Recording.sent[-1]
    path, _, query = target.partition("?")
    return path, dict(parse_qsl(query, keep_blank_values=True)), json.loads(body) if body else {}


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


FORMS: list[dict[str, Any]] = [
    {"index": "shop", "query": QUERY},
    {"index": ["shop", "other"], "query": QUERY, "size": 5, "from_": 10},
    {"index": "shop", "body": {"query": QUERY, "size": 5}},
    {"index": "shop", "body": {"query": QUERY}, "size": 5},
    {"index": "shop", "body": {"query": QUERY, "from": 3}, "track_total_hits": True},
    {"index": "shop", "body": {"query": QUERY, "from_": 3, "_source": ["title"]}},
    {"index": "shop", "query": QUERY, "source": ["title"], "source_includes": ["brand"], "source_excludes": "price"},
    {"index": "shop", "query": QUERY, "_source": False, "_source_includes": "brand"},
    {"index": "shop", "query": QUERY, "sort": "price:desc"},
    {"index": "shop", "query": QUERY, "sort": ["brand", "price:desc"]},
    {"index": "shop", "query": QUERY, "sort": "_score"},
    {"index": "shop", "query": QUERY, "sort": [{"_score": "desc"}]},
    {"index": "shop", "query": QUERY, "routing": "7", "preference": "_local", "search_type": "dfs_query_then_fetch"},
    {"index": "shop", "query": QUERY, "ignore_unavailable": True, "expand_wildcards": ["open", "hidden"]},
    {"index": "shop", "query": QUERY, "aggs": {"b": {"terms": {"field": "brand"}}}, "suggest": {"text": "x"}},
    {"index": "shop", "query": QUERY, "highlight": {"fields": {"title": {}}}, "stored_fields": ["a"], "docvalue_fields": ["b"]},
    {"index": "shop", "query": QUERY, "min_score": 0.5, "post_filter": QUERY, "rescore": {"query": {"rescore_query": QUERY}}},
    {"index": "shop", "query": QUERY, "collapse": {"field": "brand"}, "explain": True, "profile": True, "version": True},
    {"index": "shop", "query": QUERY, "timeout": "50ms", "terminate_after": 5, "track_scores": True, "stats": ["a"]},
    {"index": "shop", "knn": {"field": "v"}, "pit": {"id": "x"}, "search_after": [1], "slice": {"id": 0, "max": 2}},
    {"index": "shop", "retriever": {"standard": {}}, "runtime_mappings": {"a": {"type": "keyword"}}, "fields": ["a"]},
    {"index": "shop", "query": QUERY, "scroll": "1m", "q": "a", "filter_path": ["hits"], "typed_keys": True},
    {"index": "shop", "query": QUERY, "params": {"routing": "7", "size": 4}},
    {"index": "shop", "body": {"query": QUERY}, "_source": "title"},
    {"index": "shop", "body": {}, "size": 3, "_source": "title"},
    {"index": "shop", "body": {}, "_source": "title"},
    {"index": "shop", "body": {"query": QUERY}, "from": 10, "explain": False},
    {"index": "shop", "body": {"query": QUERY}, "sort": "_score:desc", "size": None},
    {"index": "shop", "body": {"query": QUERY}, "source": "title", "from_": 2},
    {"index": "shop", "query": QUERY, "from": 1, "from_": 2, "_source": "title", "source": "brand"},
    {"index": "shop", "query": QUERY, "source_includes": "title", "_source_includes": "brand"},
    {"query": QUERY, "params": {"index": "shop", "opaque_id": "o", "_source": ["title"]}},
    {"query": QUERY},
    {"index": "shop"},
    {"index": None, "query": QUERY, "size": None},
]  # fmt: skip


@pytest.mark.parametrize("arguments", FORMS, ids=range(len(FORMS)))
def test_arguments_are_read_as_the_client_sends_them(arguments: dict[str, Any]) -> None:
    raw = client()
    read = around(raw, is_async=False).read(arguments)
    before = json.dumps(arguments)
    path, params, body = on_the_wire(raw, json.loads(before))
    assert read.unread == ""
    assert (read.body, {name: written(value) for name, value in read.params.items()}) == (body, params)
    assert path == (f"/{written(read.index)}/_search" if read.index else "/_search")
    assert json.dumps(arguments) == before, "reading modifies nothing"
    assert around(raw, is_async=False).read(arguments) == read
    on_the_wire(raw, arguments)  # an async client's search is read once it is under way
    assert around(raw, is_async=False).read(arguments) == read


def test_every_keyword_of_the_client_is_read_as_the_client_sends_it() -> None:
    import inspect

    raw = client()
    seam = around(raw, is_async=False)
    skipped = {"self", "index", "body", "request_cache"}
    for name in set(inspect.signature(Elasticsearch.search).parameters) - skipped:
        for value in ("a", ["a", "b"], {"a": 1}, True):
            if isinstance(value, dict) and name == "sort":
                continue
            try:
                _, params, body = on_the_wire(raw, {"index": "shop", name: value})
            except (TypeError, ValueError):
                continue  # not of this keyword's form
            read = seam.read({"index": "shop", name: value})
            assert read.body == body, name
            assert {one: written(text) for one, text in read.params.items()} == params, name


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"body": {"query": QUERY, "size": 3}, "size": 4}, "`size` is in the body and beside it"),
        ({"body": {"query": QUERY}, "query": dict(QUERY)}, "`query` is in the body and beside it"),
        ({"query": QUERY, "size": 4, "params": {"size": 4}}, "`size` is in `params` and beside it"),
        ({"query": QUERY, "routing": None, "params": {"routing": "7"}}, "`routing` is in `params` and beside it"),
        ({"query": QUERY, "params": {"headers": "x"}}, "`headers` must be a dict"),
    ],
)
def test_what_the_client_refuses_is_not_read(call: dict[str, Any], says: str) -> None:
    """A rewritten search would be answered, where the caller has to get the client's error."""
    raw = client()
    read = around(raw, is_async=False).read(call)
    assert read.unread == says
    with pytest.raises((ValueError, TypeError)):
        on_the_wire(raw, json.loads(json.dumps(call)))


@pytest.mark.parametrize("name", ["max_retries", "retry_on_status", "retry_on_timeout", "ignore_status"])
def test_options_that_the_client_takes_by_options_alone_have_a_search_pass_through(name: str) -> None:
    raw = client()
    assert name in around(raw, is_async=False).read({"query": QUERY, name: 1}).params
    with pytest.raises(TypeError):
        on_the_wire(raw, {"query": QUERY, name: 1})


def test_a_body_that_is_no_dict_stays_what_it_is() -> None:
    assert around(client(), is_async=False).read({"index": "a", "body": '{"query": {}}'}).body == '{"query": {}}'


@pytest.mark.parametrize("name", ["params", "headers"])
def test_what_cannot_be_read_is_no_error(name: str) -> None:
    assert around(client(), is_async=False).read({"index": "a", name: 5}).unread == f"`{name}` must be a dict"


def test_options_of_one_request_are_not_parameters_and_headers_go_with_every_leg() -> None:
    arguments = {
        "index": "a",
        "query": QUERY,
        "request_timeout": 3,
        "ignore": 404,
        "headers": {"X-Tenant": "t"},
        "opaque_id": "o",
    }
    read = around(client(), is_async=False).read(arguments)
    assert (read.params, read.headers) == ({}, {"x-tenant": "t", "x-opaque-id": "o"})


@pytest.mark.parametrize(
    ("options", "call", "seconds"),
    [({"request_timeout": 0.3}, {}, 0.3), ({"request_timeout": 5}, {"request_timeout": 2}, 2), ({"opaque_id": "o"}, {}, None)],
)  # fmt: skip
def test_the_time_that_options_give_a_search_holds_for_one_in_its_stead(
    options: dict[str, Any], call: dict[str, Any], seconds: float | None
) -> None:
    seam = around(client(), is_async=False)
    read = seam.derived(seam.raw.options(**options)).read({"index": "a", "query": QUERY, **call})
    assert read.own.get("request_timeout") == seconds


def test_a_serverless_project_is_told_the_same_version() -> None:
    raw = client(api_key="k")
    raw._is_serverless = True  # as by `server_mode`, which elasticsearch-py 8 does not know
    on_the_wire(raw, {"index": "a", "query": QUERY})
    own: Mapping[str, Any] = Recording.sent[-1][3]
    around(raw, is_async=False).search(Search("a", {"query": QUERY}), 1.0)
    leg: Mapping[str, Any] = Recording.sent[-1][3]
    assert leg["elastic-api-version"] == own.get("elastic-api-version", "2023-10-31")


def test_headers_go_with_a_leg_as_they_are() -> None:
    """An async client refuses a number, and its caller gets that error, where a rewritten search would be answered."""
    around(client(), is_async=False).search(Search("a", {"query": QUERY}, headers={"x-tenant": 5}), 1.0)
    sent: Mapping[str, Any] = Recording.sent[-1][3]
    assert sent["x-tenant"] == 5


def test_the_headers_of_options_go_with_every_leg_and_the_client_s_own_do_not() -> None:
    raw = client(api_key="mine", headers={"x-shop": "1"})
    seam = around(raw, is_async=False)
    assert seam.read({"index": "a"}).headers == {}
    other = seam.derived(raw.options(api_key="theirs", opaque_id="o", request_timeout=1))
    headers = other.read({"index": "a"}).headers
    assert headers["x-opaque-id"] == "o"
    assert headers["authorization"].startswith("ApiKey ")
    assert "x-shop" not in headers
    again = other.derived(raw.options(opaque_id="p"))
    assert again.read({"index": "a"}).headers["x-opaque-id"] == "p"


def test_an_answer_keeps_its_type_and_its_meta() -> None:
    seam = around(client(), is_async=False)
    response: ObjectApiResponse[Any] = ObjectApiResponse(body={"hits": 1}, meta=META)
    assert seam.body_of(response) == {"hits": 1}
    other = seam.with_body(response, {"hits": 2})
    assert type(other) is ObjectApiResponse
    assert (other.body, other.meta) == ({"hits": 2}, META)
    assert response.body == {"hits": 1}


def test_a_clone_sends_what_the_client_sends_and_never_retries() -> None:
    raw = client(headers={"x-shop": "1"}, basic_auth=("u", "p"), opaque_id="o", max_retries=5, meta_header=False)
    seam = around(raw, is_async=False)
    raw.search(index="a,b", query=QUERY, routing="7")
    _, target, body, headers = Recording.sent[-1]
    legs = seam.cloned(7)
    assert legs.search(Search("a,b", {"query": QUERY}, {"routing": "7"}), 1.0) == {"hits": {"hits": []}}
    assert Recording.sent[-1][1:3] == (target, body)
    assert Recording.sent[-1][3] == headers
    (node,) = legs.raw.transport.node_pool.all()
    assert node.config.connections_per_node == 7
    assert node is not next(iter(raw.transport.node_pool.all()))
    legs.search(Search("a", {}, {}, {"authorization": "ApiKey other"}), 1.0, is_leg=True)
    assert Recording.sent[-1][1] == "/a/_search?request_cache=false"
    assert Recording.sent[-1][3]["authorization"] == "ApiKey other"


def test_bodies_are_written_as_the_client_writes_them() -> None:
    class Marked(type(client().transport.serializers.get_serializer("application/json"))):  # type: ignore[misc]
        def default(self, data: Any) -> Any:
            return f"marked {data}"

    raw = client(serializer=Marked())
    body = {"query": {"term": {"a": {1}}}}
    raw.search(index="a", body=body)
    assert around(raw, is_async=False).write(body) == Recording.sent[-1][2]


def fault(status: int, error: Any) -> ApiError:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "h", 1))
    return ApiError("message", meta, {"error": error})


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (ConnectionTimeout("Connection timed out"), "late", "given up by its client"),
        (Unreachable("refused"), "failed", "ConnectionError(N/A, refused)"),
        (SerializationError("no JSON"), "failed", "SerializationError"),
        (RuntimeError("secret"), "failed", "RuntimeError"),
        (fault(400, {"type": "parsing_exception", "reason": "secret"}), "rejected", "ApiError(400, message)"),
        (fault(429, {"type": "es_rejected_execution_exception"}), "failed", "ApiError(429, message)"),
        (fault(503, {"type": "x", "root_cause": [{"type": "task_cancelled_exception"}]}), "late", "cancelled by the server"),
    ],
)  # fmt: skip
def test_errors_mean_what_they_mean_of_any_client(error: Exception, kind: str, detail: str) -> None:
    ended = leg_fault(around(client(), is_async=False).fault_of(error))
    assert (ended.kind, ended.detail) == (kind, detail)


def test_the_rewriters_own_requests_raise_the_client_s_errors() -> None:
    class Missing(Recording):
        status = 404
        answer = b'{"error": {"type": "index_not_found_exception"}, "status": 404}'

    seam = around(Elasticsearch(HOST, node_class=Missing), is_async=False)
    with pytest.raises(NotFoundError) as raised:
        seam.get_mapping("a", {}, 1.0)
    assert isinstance(raised.value, seam.errors)
    assert seam.fault_of(raised.value).status == 404
    assert not seam.fault_of(raised.value).refused


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://h", "http://h:9200"),
        ("http://h:1", "http://h:1"),
        ("https://h", "https://h:443"),
        ("http://u:p@h/x", "http://h:9200/x"),
        ("http://[::1]", "http://[::1]:9200"),
    ],
)  # fmt: skip
def test_a_host_without_a_port_has_the_usual_one(host: str, url: str) -> None:
    made = connect(Connection((host,), 3, 2.0), is_async=False)
    (node,) = made.raw.transport.node_pool.all()
    assert node.base_url == url
    assert node.config.connections_per_node == 3


async def test_an_async_client_is_told_from_a_sync_one() -> None:
    async with AsyncElasticsearch(HOST) as raw:
        found = library_of(raw)
        assert found is not None
        assert found.kind_of(raw) == "async"
        assert found.kind_of(client()) == "sync"
        assert found.kind_of(object()) is None
        legs = around(raw, is_async=True).cloned(2)
        assert isinstance(legs, ElasticsearchClient)
        await legs.close()


def test_each_client_is_one_module_or_package() -> None:
    assert names() == ("elasticsearch", "opensearch")
