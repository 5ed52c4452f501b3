"""The claims of the table of shapes about the server, tested on the server.

Each personalized search is sent as the body that a leg sends, and each hit's score is held against its base score. Each
search that is passed through because boosts would break it is sent with them all the same, to show that they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter.boost.body import bounded_body
from rewriter.boost.functions import Boost
from rewriter.index_facts import facts_of
from rewriter.parsed_search import ParsedSearch
from rewriter.report import Strategy
from rewriter.settings import Settings
from tests.arguments import parse_search
from tests.conftest import MakeIndex
from tests.live.shelf import MAPPING, MATCH, flat_settings, refused, scores, search, shoes

MAX_BOOST = 1.5
BOOSTS = (
    Boost({"term": {"brand": "nike"}}, 0.3),
    Boost({"terms": {"colour": ["red", "blue"]}}, 0.4),
    Boost({"range": {"price": {"lt": 40}}}, 0.1),
)


def settings(strategy: str = "auto") -> Settings:
    policy = {"index": "*", "max_boost": MAX_BOOST, "strategy": strategy, "browse": True}
    return Settings.model_validate({"policies": {"shop": policy}})


def boosted(request: ParsedSearch, strategy: Strategy | None = None, window: int | None = None) -> dict[str, Any]:
    window_size = window or min(200, request.own_rescore_window or 200)
    return bounded_body(request.body, BOOSTS, MAX_BOOST, strategy or request.strategy or "rescore", window_size)


# --- what is personalized stays within its bounds ---------------------------------------------------------------------


SHOWN: dict[str, Any] = {
    "highlight": {"fields": {"title": {}}},
    "fields": ["brand"],
    "docvalue_fields": ["price"],
    "script_fields": {"double": {"script": "doc['price'].value * 2"}},
    "stored_fields": [],
    "version": True,
    "seq_no_primary_term": True,
    "track_scores": True,
    "stats": ["shop"],
    "timeout": "5s",
}
BY_PRICE = {"function_score": {"query": MATCH, "field_value_factor": {"field": "price", "modifier": "log1p"}}}
BY_SCRIPT = {"script_score": {"query": MATCH, "script": {"source": "1 + _score * doc['price'].value"}}}
PHRASE = {"window_size": 5, "query": {"rescore_query": {"match": {"title": "model3"}}}}
TWO_RESCORES = [
    {"window_size": 20, "query": {"rescore_query": {"match_all": {}}, "rescore_query_weight": 3}},
    {"query": {"rescore_query": {"term": {"brand": "puma"}}, "score_mode": "max"}},
]


@pytest.mark.parametrize(
    ("body", "params", "policy", "strategy"),
    [
        ({"query": MATCH}, {}, "auto", "rescore"),
        ({"query": MATCH}, {}, "wrap", "wrap"),
        ({"query": MATCH, "sort": [{"_score": "desc"}]}, {}, "auto", "rescore"),
        ({"query": MATCH}, {"sort": "_score"}, "auto", "rescore"),
        ({"query": MATCH, "collapse": {"field": "price"}}, {}, "auto", "wrap"),
        ({"query": MATCH, "min_score": 0.2}, {}, "auto", "rescore"),
        ({"query": MATCH, "min_score": 0.2}, {}, "wrap", "rescore"),
        ({"query": MATCH, "rescore": PHRASE}, {}, "auto", "rescore"),
        ({"query": MATCH, "rescore": TWO_RESCORES}, {}, "wrap", "rescore"),
        ({"query": BY_PRICE}, {}, "auto", "rescore"),
        ({"query": BY_PRICE}, {}, "wrap", "wrap"),
        ({"query": BY_SCRIPT}, {}, "auto", "rescore"),
        ({"query": {"match": {"title": {"query": "red shoe", "boost": 7}}}}, {}, "auto", "rescore"),
        ({"query": MATCH, "post_filter": {"term": {"colour": "red"}}}, {}, "auto", "rescore"),
        ({"query": MATCH}, {"search_type": "dfs_query_then_fetch", "routing": "1"}, "auto", "rescore"),
        ({"query": MATCH, **SHOWN}, {}, "auto", "rescore"),
        ({}, {}, "auto", "rescore"),
        ({}, {}, "wrap", "wrap"),
        ({"query": {"match_all": {}}}, {}, "auto", "rescore"),
    ],
)
def test_every_ratio_lies_in_bounds(
    opensearch: OpenSearch, products: str, body: dict[str, Any], params: dict[str, Any], policy: str, strategy: str
) -> None:
    request = parse_search({"index": products, "body": body, **params}, settings(policy), {})
    assert (request.passed, request.strategy) == (None, strategy)
    plain = search(opensearch, products, request.body, **request.params)
    personal = search(opensearch, products, boosted(request), **request.params)
    base, now = scores(plain), scores(personal)
    assert personal["hits"]["total"] == plain["hits"]["total"]
    assert now.keys() == base.keys()
    ratios = [now[key] / base[key] for key in base]
    assert min(ratios) >= 1 - 1e-6
    assert max(ratios) <= MAX_BOOST * (1 + 1e-6)
    assert max(ratios) > 1.3, "the boosts had no effect"


def test_each_group_of_a_collapsed_search_shows_one_hit_in_bounds(opensearch: OpenSearch, products: str) -> None:
    base = scores(search(opensearch, products, {"query": MATCH}))
    body = {"query": MATCH, "collapse": {"field": "brand"}}
    request = parse_search({"index": products, "body": body}, settings(), {})
    hits = search(opensearch, products, boosted(request))["hits"]["hits"]
    assert sorted(hit["fields"]["brand"][0] for hit in hits) == ["asics", "nike", "puma"]
    assert all(1 - 1e-6 <= hit["_score"] / base[hit["_id"]] <= MAX_BOOST * (1 + 1e-6) for hit in hits)


def test_scores_of_several_indices_stay_in_bounds_under_indices_boost(opensearch: OpenSearch, index: MakeIndex) -> None:
    first, second = (index(MAPPING, documents=shoes(30, part)) for part in "ab")
    body = {"query": MATCH, "indices_boost": [{first: 3.0}, {second: 0.5}]}
    request = parse_search({"index": [first, second], "body": body}, settings(), {})
    names = ",".join(request.indices)
    base, now = scores(search(opensearch, names, request.body)), scores(search(opensearch, names, boosted(request)))
    assert len(base) == 60
    assert all(1 - 1e-6 <= now[key] / base[key] <= MAX_BOOST * (1 + 1e-6) for key in base)


# --- what is passed through, and would break --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "params", "says"),
    [
        ({"query": MATCH, "sort": ["price"]}, {}, "Cannot use [sort] option in conjunction with [rescore]"),
        ({"query": MATCH, "sort": ["_score", "price"]}, {}, "Cannot use [sort] option"),
        ({"query": MATCH, "sort": [{"_score": "asc"}]}, {}, "Cannot use [sort] option"),
        ({"query": MATCH, "sort": ["_score", "_score"]}, {}, "Cannot use [sort] option"),
        (
            {"query": MATCH, "collapse": {"field": "price"}},
            {},
            "cannot use `collapse` in conjunction with `rescore`",
        ),
        ({"query": MATCH}, {"scroll": "1m"}, "using [rescore] is not allowed in a scroll context"),
    ],
)
def test_the_server_refuses_a_rescore_here(
    opensearch: OpenSearch, products: str, body: dict[str, Any], params: dict[str, Any], says: str
) -> None:
    request = parse_search({"index": products, "body": body, **params}, settings("rescore"), {})
    assert request.strategy is None
    assert says in refused(opensearch, products, boosted(request), **params)
    assert opensearch.search(index=products, body=body, params=params)["hits"]["hits"], (
        "the caller's own search is fine"
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"query": MATCH, "size": None}, "Unknown key for a VALUE_NULL in [size]"),
        ({"query": MATCH, "size": True}, "not numeric"),
        ({"query": MATCH, "from": -1}, "cannot be negative"),
        ({"query": {}}, "query malformed, empty clause found"),
        ({"query": None}, "Unknown key for a VALUE_NULL in [query]"),
        ({"query": MATCH, "retriever": {}}, "Unknown key for a START_OBJECT in [retriever]"),
        (
            {"query": MATCH, "collapse": {"field": "price"}, "rescore": {"query": {"rescore_query": MATCH}}},
            "cannot use `collapse`",
        ),
    ],
)
def test_the_server_refuses_what_cannot_be_read(
    opensearch: OpenSearch, products: str, body: dict[str, Any], says: str
) -> None:
    assert parse_search({"index": products, "body": body}, settings(), {}).strategy is None
    assert says in refused(opensearch, products, body)


@pytest.mark.parametrize(("size", "expected"), [("20", 20), (20.0, 20), (20.7, 20)])
def test_sizes_are_read_as_the_server_reads_them(
    opensearch: OpenSearch, products: str, size: Any, expected: int
) -> None:
    body = {"query": MATCH, "size": size}
    assert len(opensearch.search(index=products, body=body)["hits"]["hits"]) == expected
    assert parse_search({"index": products, "body": body}, settings(), {}).size == expected


def test_a_sort_in_the_url_is_appended_to_the_body_s(opensearch: OpenSearch, products: str) -> None:
    found = opensearch.search(index=products, body={"query": MATCH, "sort": ["_score"]}, params={"sort": "price:desc"})
    assert [len(hit["sort"]) for hit in found["hits"]["hits"]] == [2] * 10
    asked = parse_search(
        {"index": products, "body": {"query": MATCH, "sort": ["_score"]}, "sort": "price:desc"}, settings(), {}
    )
    assert asked.body["sort"] == ["_score", {"price": "desc"}]


def test_wrapped_documents_below_min_score_get_in(opensearch: OpenSearch, products: str) -> None:
    every = sorted(scores(search(opensearch, products, {"query": MATCH})).values())
    body = {"query": MATCH, "min_score": every[len(every) // 2]}
    request = parse_search({"index": products, "body": body}, settings("wrap"), {})
    plain, wrapped, rescored = (
        search(opensearch, products, one)["hits"]["total"]["value"]
        for one in (body, boosted(request, "wrap"), boosted(request))
    )
    assert wrapped > plain
    assert rescored == plain


def test_wrapped_under_an_own_rescore_a_score_changes_by_any_factor(opensearch: OpenSearch, products: str) -> None:
    own = {"window_size": 5, "query": {"rescore_query": {"match_all": {}}, "rescore_query_weight": 100}}
    request = parse_search({"index": products, "body": {"query": MATCH, "rescore": own}}, settings("wrap"), {})
    base = scores(search(opensearch, products, request.body))
    wrapped = scores(search(opensearch, products, boosted(request, "wrap")))
    ratios = [wrapped[key] / base[key] for key in base]
    assert min(ratios) < 0.1
    assert max(ratios) > 10


def test_after_an_own_rescore_a_larger_window_of_ours_changes_the_page_without_any_boost(
    opensearch: OpenSearch, index: MakeIndex
) -> None:
    """As many hits are collected as the largest window or the page needs: what theirs moved down falls off the page."""
    name = index(MAPPING, documents=shoes(30))
    demotion = {"function_score": {"functions": [{"weight": 0.1}]}}
    own = {"window_size": 5, "query": {"rescore_query": demotion, "score_mode": "multiply"}}
    request = parse_search({"index": name, "body": {"query": MATCH, "rescore": own}}, settings(), {})

    def page(body: Mapping[str, Any]) -> dict[str, float]:
        return scores(opensearch.search(index=name, body=body))

    plain = page(request.body)
    assert request.own_rescore_window == 5
    assert page(bounded_body(request.body, (), MAX_BOOST, "rescore", 5)) == plain
    assert page(bounded_body(request.body, (), MAX_BOOST, "rescore", 200)).keys() != plain.keys()


def test_a_window_above_the_index_s_is_refused(opensearch: OpenSearch, index: MakeIndex) -> None:
    name = index(MAPPING, documents=shoes(5), settings={"max_result_window": 100})
    facts = facts_of(opensearch.indices.get_mapping(index=name), flat_settings(opensearch, name))
    body = {"query": MATCH}
    request = parse_search({"index": name, "body": body}, settings(), {name: facts})
    assert request.detail.startswith("`window_size` > the index's `max_rescore_window`")
    assert "Rescore window [200] is too large" in refused(opensearch, name, boosted(request, "rescore"))
    assert scores(search(opensearch, name, boosted(request, "rescore", window=100)))


def test_hits_without_stored_fields_have_no_id(opensearch: OpenSearch, products: str) -> None:
    body = {"query": MATCH, "stored_fields": "_none_"}
    assert all("_id" not in hit for hit in opensearch.search(index=products, body=body)["hits"]["hits"])
    assert parse_search({"index": products, "body": body}, settings(), {}).strategy is None


def test_suggestions_alone_have_no_hits(opensearch: OpenSearch, products: str) -> None:
    body = {"suggest": {"s": {"text": "sho", "term": {"field": "title"}}}}
    assert opensearch.search(index=products, body=body)["hits"]["hits"] == []
