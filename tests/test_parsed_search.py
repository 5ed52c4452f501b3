"""Parsing of a search: nothing of the caller's is modified, URL parameters are folded in, and nothing raises."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.parsed_search import ParsedSearch, key_of, search_key
from rewriter.report import Reason
from rewriter.settings import PolicySettings, Settings
from tests.arguments import parse_search

SETTINGS = Settings(policies={"shop": PolicySettings(index=("products*",)), "all": PolicySettings(index=("*",))})
QUERY = {"match": {"title": "shoe"}}


def read(body: Any = None, **arguments: Any) -> ParsedSearch:
    return parse_search(
        {"index": "products", "body": {"query": QUERY} if body is None else body, **arguments}, SETTINGS, {}
    )


def test_a_search_is_parsed_with_its_parameters_and_headers() -> None:
    request = read(
        {"query": QUERY, "from": 10, "rescore": [{"window_size": 80, "query": {}}, {"query": {}}]},
        params={"routing": "eu", "size": "20"},
        search_type="dfs_query_then_fetch",
        headers={"Authorization": "Bearer t"},
        opaque_id="o",
        request_timeout=3,
        timeout=3,
        ignore=404,
        request_cache=True,
        cancel_after_time_interval="1s",
    )
    assert request.indices == ("products",)
    assert (request.from_, request.size) == (10, 20)
    assert request.params == {"routing": "eu", "search_type": "dfs_query_then_fetch"}
    assert request.headers == {"Authorization": "Bearer t", "x-opaque-id": "o"}
    assert (request.policy, request.strategy, request.passed) == ("shop", "rescore", None)
    assert request.own_rescore_window == 10


def test_a_collapsed_search_names_its_field() -> None:
    request = read({"query": QUERY, "collapse": {"field": "brand", "inner_hits": {"name": "more"}}})
    assert (request.collapse_field, request.strategy, request.own_rescore_window) == ("brand", "wrap", None)


@pytest.mark.parametrize(
    ("index", "indices", "policy"),
    [
        ("products", ("products",), "shop"),
        ("products-1,products-2", ("products-1", "products-2"), "shop"),
        (["products-1", "products-2,orders"], ("products-1", "products-2", "orders"), "all"),
        (("products*", "-products-old"), ("products*", "-products-old"), "shop"),
        ("*", ("*",), "all"),
        ("_all", (), None),
        ("", (), None),
        (None, (), None),
        ([None], (), None),
        (b"products", (), None),
    ],
)
def test_an_index_argument_names_its_indices_and_their_policy(
    index: Any, indices: tuple[str, ...], policy: str | None
) -> None:
    request = read(index=index)
    assert (request.indices, request.policy) == (indices, policy)


@pytest.mark.parametrize(
    ("arguments", "folded"),
    [
        ({"from_": 5, "size": 7}, {"from": 5, "size": 7}),
        ({"params": {"from": "5", "size": "7"}}, {"from": "5", "size": "7"}),
        ({"params": {"from_": 5, "size": 1}, "size": 2}, {"from": 5, "size": 2}),
        ({"track_total_hits": "true"}, {"track_total_hits": True}),
        ({"track_total_hits": 500}, {"track_total_hits": 500}),
        ({"sort": "_score:desc"}, {"sort": [{"_score": "desc"}]}),
        ({"_source": "title,brand"}, {"_source": {"includes": ["title", "brand"]}}),
        (
            {"_source": ["title"], "_source_excludes": "brand"},
            {"_source": {"includes": ["title"], "excludes": ["brand"]}},
        ),
        ({"_source": "false"}, {"_source": False}),
        ({"_source": False, "_source_includes": "title"}, {"_source": False}),
        ({"_source": True, "_source_excludes": ["brand"]}, {"_source": {"excludes": ["brand"]}}),
        ({"stored_fields": "brand,price"}, {"stored_fields": ["brand", "price"]}),
        ({"explain": None, "size": None}, {}),
    ],
)
def test_parameters_that_mean_a_key_of_the_body(arguments: dict[str, Any], folded: dict[str, Any]) -> None:
    request = read(**arguments)
    assert request.body == {"query": QUERY, **folded}
    assert request.params == {}


class Unwritable:
    """A value whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


NO_RESCORES: tuple[Any, ...] = (None, {}, "", 0, False, "x", 5)
REFUSED: dict[str, tuple[Any, ...]] = {
    "index": (["", "products"], ("products", ""), "products,,other", ",products", {"products"}, 5),
    "size": (5.5, True, "5.0", Decimal("5.5"), [5, 6], "abc", -1, Unwritable()),
    "from_": (5.5, False, "1e1", {}),
    "body": tuple({"query": QUERY, "rescore": one} for one in NO_RESCORES),
    "routing": (Unwritable(), datetime),
    "params": ({"size": 5.5}, {"size": True}, {"size": [5]}),
}


@pytest.mark.parametrize("arguments", [{name: value} for name, values in REFUSED.items() for value in values])
def test_what_client_or_server_refuses_is_not_mended(arguments: dict[str, Any]) -> None:
    """In `mode = "rewrite"` the search would be answered with boosts and refused without."""
    assert read(**arguments).passed in (Reason.UNSUPPORTED, Reason.NO_POLICY)


@pytest.mark.parametrize("size", [5, "5", Decimal(5), Fraction(5)])
def test_a_size_in_the_url_that_the_server_reads(size: Any) -> None:
    assert (read(size=size).size, read(size=size).passed) == (5, None)


def test_entries_of_params_are_sent_by_their_text_and_keywords_as_the_client_writes_them() -> None:
    given = {"human": True, "stats": ["a", "b"], "routing": None}
    assert read(params=given).params == {"human": "True", "stats": "['a', 'b']", "routing": None}
    assert read(**given).params == {"human": "true", "stats": "a,b"}


def test_a_search_without_a_query_is_given_the_one_that_it_means() -> None:
    browsing = Settings(policies={"shop": PolicySettings(index=("products",), browse=True, strategy="wrap")})
    body: dict[str, Any] = {}
    request = parse_search({"index": "products", "body": body}, browsing, {})
    assert (request.body, request.strategy, body) == ({"query": {"match_all": {}}}, "wrap", {})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"body": '{"query": {}}'}, "body"),
        ({"body": b"{}"}, "body"),
        ({"body": [{}]}, "body"),
        ({"body": {"query": {}}}, "query"),
        ({"body": {"query": None}}, "query"),
        ({"body": {"query": "shoe"}}, "query"),
        ({"body": {"query": QUERY, "size": -1}}, "size"),
        ({"body": {"query": QUERY, "size": True}}, "size"),
        ({"body": {"query": QUERY, "size": None}}, "size"),
        ({"body": {"query": QUERY, "from": float("nan")}}, "from"),
        ({"size": ""}, "size"),
        ({"size": "9" * 5_000}, "size"),
        ({"from_": "²"}, "from"),
        ({"body": {"query": QUERY, "collapse": "brand"}}, "collapse"),
        ({"body": {"query": QUERY, "collapse": {"inner_hits": {}}}}, "collapse"),
        ({"body": {"query": QUERY, "rescore": "all"}}, "rescore"),
        ({"body": {"query": QUERY, "rescore": [{"window_size": "many"}]}}, "rescore"),
        ({"body": {"query": QUERY, "ext": None}}, "ext"),
        ({"params": "size=5"}, "params"),
        ({"headers": [("a", "b")]}, "headers"),
        ({"body": {"query": QUERY, "retriever": {}}}, "retriever"),
        ({"body": {"query": QUERY, 5: {}}}, "5"),
        ({"foo": 1}, "foo"),
        ({"params": {"foo": "1"}}, "foo"),
    ],
)
def test_what_cannot_be_read_is_passed_through_and_named(arguments: dict[str, Any], says: str) -> None:
    request = read(**arguments)
    assert (request.passed, request.strategy) == (Reason.UNSUPPORTED, None)
    assert f"`{says}`" in request.detail or says in request.detail.split()


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.just("_score"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["bool", "must", "_score"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "query",
        "from",
        "size",
        "sort",
        "rescore",
        "collapse",
        "min_score",
        "ext",
        "stored_fields",
        "explain",
        "aggs",
        "pit",
        "x",
    ]
)
PARAMETERS = st.sampled_from(
    [
        "from_",
        "from",
        "size",
        "sort",
        "_source",
        "_source_includes",
        "stored_fields",
        "routing",
        "q",
        "track_total_hits",
        "x",
    ]
)


@given(
    body=st.dictionaries(KEYS, ANYTHING, max_size=5) | ANYTHING,
    arguments=st.dictionaries(PARAMETERS, ANYTHING, max_size=3),
    params=st.dictionaries(PARAMETERS, ANYTHING, max_size=3) | ANYTHING,
    index=st.sampled_from(["products", ["products", "b"]]) | ANYTHING,
)
def test_nothing_raises_and_nothing_of_the_callers_is_modified(
    body: Any, arguments: Any, params: Any, index: Any
) -> None:
    given_ = {**arguments, "index": index, "body": body, "params": params}
    before = deepcopy(given_)
    request = parse_search(given_, SETTINGS, {})
    assert repr(given_) == repr(before)
    assert (request.passed is None) is (request.strategy is not None)
    assert request.passed is None or request.detail
    if request.passed is None:
        assert request.from_ + request.size <= 50
        assert request.body is not body
        assert len(search_key(request)) == 32


def test_what_the_caller_changes_afterwards_changes_nothing_here() -> None:
    routing = ["a"]
    body: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "aggs": {"b": {"terms": {"field": "brand"}}}}
    request = read(body, size=5, routing=routing)
    before = deepcopy((request.body, request.params, search_key(request)))
    assert "size" not in body
    body["query"]["match"]["title"] = "boot"
    body["aggs"].clear()
    routing.append("b")
    assert (request.body, request.params, search_key(request)) == before


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"query": QUERY, "from": 20, "size": 20}},
        {"body": {"query": QUERY, "aggs": {"b": {"terms": {"field": "brand"}}}, "highlight": {}, "_source": ["title"]}},
        {"body": {"query": QUERY, "ext": {"ubi": {"query_id": "another"}}}},
        {"body": {"query": {"match": dict(reversed({"title": "shoe"}.items()))}}},
        {"_source": "title", "from_": 5, "track_total_hits": False, "version": True, "request_timeout": 9},
        {"headers": {"X-Opaque-Id": "another", "traceparent": "00-1"}},
        {"headers": {"Authorization": "Bearer renewed", "Cookie": "session=renewed"}},
        {"index": ["products"]},
    ],
)
def test_pages_of_one_list_have_one_key(other: dict[str, Any]) -> None:
    assert search_key(read(**other)) == search_key(read())


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"query": {"match": {"title": "boot"}}}},
        {"body": {"query": QUERY, "post_filter": QUERY}},
        {"body": {"query": QUERY, "min_score": 1}},
        {"index": "products,products"},
        {"routing": "eu"},
        {"preference": "me"},
        {"search_type": "dfs_query_then_fetch"},
        {"headers": {"securitytenant": "another"}},
        {"headers": {"X-Proxy-Roles": "staff"}},
    ],
)
def test_other_lists_have_other_keys(other: dict[str, Any]) -> None:
    assert search_key(read(**other)) != search_key(read())


def test_a_body_whose_keys_do_not_sort_has_a_key() -> None:
    body = {"query": {"terms": {"brand": ["a"], 5: 1}}}
    assert search_key(read({"query": {"bool": {"must": [QUERY, body["query"]]}}})) != search_key(read())


TRACING = (
    "traceparent", "tracestate", "baggage", "x-amzn-trace-id", "x-b3-traceid", "x-b3-spanid", "b3", "x-datadog-trace-id",
    "sentry-trace", "x-cloud-trace-context", "uber-trace-id", "x-correlation-id", "X-Request-ID", "newrelic", "user-agent",
    "x-some-tracer-of-next-year",
)  # fmt: skip


@pytest.mark.parametrize("header", TRACING)
def test_credentials_count_for_an_answer_and_traces_do_not(header: str) -> None:
    request = read(headers={"Authorization": "Bearer t", header: "00-1"}, opaque_id="o")
    assert request.varies == {"authorization": "Bearer t"}
    assert request.headers[header] == "00-1"


def test_headers_that_settings_name_count() -> None:
    settings = Settings.model_validate({"opensearch": {"vary_headers": ["X-Shop"]}})
    one, other = (
        parse_search(
            {"index": "i", "body": {"query": QUERY}, "headers": {"x-shop": shop, "authorization": "t"}}, settings, {}
        )
        for shop in ("de", "fr")
    )
    assert (one.varies, other.varies) == ({"x-shop": "de"}, {"x-shop": "fr"})
    assert search_key(one) != search_key(other)


def test_a_key_holds_for_texts_that_no_encoding_knows() -> None:
    assert key_of("shoe\ud800") != key_of("shoe")


def test_a_keyword_that_the_client_refuses_has_the_search_pass_through() -> None:
    """A rewritten search would be answered, where the caller has to get the client's TypeError."""
    request = read(**{"from": 10})
    assert (request.passed, request.detail) == (Reason.UNSUPPORTED, "the client takes `from_`")
    assert read(params={"from": 10}).from_ == 10
