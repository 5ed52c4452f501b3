"""The spread of a query's scores, and the bare weight that is suggested where it is steep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rewriter.client.seam import LegFault, Search
from rewriter.evaluate.bare_weight import WEIGHTS, plain_pages, suggested, with_bare_weight
from rewriter.evaluate.spread import Spread, in_words, spread_of

MATCH = {"match": {"title": "milk"}}
POPULAR = {"field_value_factor": {"field": "sold", "modifier": "log1p"}}
WEIGHT = {"weight": 3.0}


def page(first: float, tenth: float) -> list[float]:
    return [first, *([tenth] * 9)]


def test_a_spread_is_the_median_of_pages_with_ten_hits() -> None:
    pages = [page(2.0, 1.0), page(6.0, 2.0), page(9.0, 1.0), [5.0, 1.0], page(1.0, 0.0), []]
    assert spread_of(pages) == Spread(3.0, 3)
    assert spread_of([[1.0] * 9, page(1.0, 0.0)]) is None


@pytest.mark.parametrize(
    ("ratio", "max_boost", "kind"),
    [
        (2.01, 1.5, "steep"),
        (2.01, 3.0, "even"),
        (3.01, 3.0, "steep"),
        (2.0, 1.5, "even"),
        (1.05, 1.5, "even"),
        (1.04, 1.5, "flat"),
    ],
)
def test_scores_are_steep_above_what_the_largest_boost_reaches(ratio: float, max_boost: float, kind: str) -> None:
    found = Spread(ratio, 7)
    assert found.kind(max_boost) == kind
    assert {"steep": "scores are steep", "even": "neither steep nor flat", "flat": "any boost decides"}[
        kind
    ] in in_words(found, max_boost)


@pytest.mark.parametrize(
    ("query", "functions"),
    [
        ({"function_score": {"query": MATCH, **POPULAR}}, [POPULAR]),
        ({"function_score": {"query": MATCH, **POPULAR, "weight": 2}}, [{**POPULAR, "weight": 2}]),
        ({"function_score": {"query": MATCH, "functions": [POPULAR]}}, [POPULAR]),
        (
            {"function_score": {"query": MATCH, "functions": [POPULAR, {"weight": 1}], "score_mode": "sum"}},
            [POPULAR, {"weight": 1}],
        ),
    ],
)
def test_a_weight_joins_the_functions(query: dict[str, Any], functions: list[Any]) -> None:
    wanted = {"function_score": {"query": MATCH, "functions": [*functions, WEIGHT], "score_mode": "sum"}}
    body = {"query": query, "size": 20}
    before = repr(body)
    assert with_bare_weight(body, 3.0) == {"query": wanted, "size": 20}
    wrapped = {"query": {"bool": {"must": [query], "filter": {"term": {"a": 1}}}}}
    assert with_bare_weight(wrapped, 3.0) == {"query": {"bool": {"must": [wanted], "filter": {"term": {"a": 1}}}}}
    assert repr(body) == before


@pytest.mark.parametrize(
    "query",
    [
        MATCH,
        {"function_score": {"query": MATCH}},
        {"function_score": {"query": MATCH, **POPULAR, "boost_mode": "sum"}},
        {"function_score": {"query": MATCH, "functions": [POPULAR, POPULAR]}},
        {"function_score": {"query": MATCH, "functions": [POPULAR, POPULAR], "score_mode": "max"}},
        {"function_score": {"query": MATCH, "functions": [POPULAR], "score_mode": "avg"}},
        {"bool": {"must": [MATCH, {"function_score": {"query": MATCH, **POPULAR}}]}},
        {"bool": {"must": {"function_score": {"query": MATCH, **POPULAR}}, "should": [MATCH]}},
        {"bool": {"filter": MATCH}},
        None,
    ],
)
def test_a_query_without_a_sum_of_functions_takes_no_weight(query: Any) -> None:
    assert with_bare_weight({"query": query}, 3.0) is None


def test_the_least_weight_is_suggested_with_which_scores_are_not_steep() -> None:
    """Ten documents of functions 10, 9, …, 1: (w + 10) / (w + 1) is at most 2 from w = 8 on."""
    sent: list[Search] = []

    def send(searches: Sequence[Search]) -> list[Any]:
        sent.extend(searches)
        return [answer(one) for one in searches]

    def answer(search: Search) -> Any:
        functions = search.body["query"]["function_score"].get("functions", [])
        weight = sum(one.get("weight", 0.0) for one in functions)
        return {"hits": {"hits": [{"_id": f"d{n}", "_score": weight + n} for n in range(10, 0, -1)]}}

    body = {"query": {"function_score": {"query": MATCH, **POPULAR}}, "from": 30, "aggs": {"a": {}}}
    searches = [Search("products", body), Search("products", body)]
    found = suggested(send, searches, 2.0)
    assert found is not None
    assert all(f"{one:.2g}" == f"{one:.12g}" or one >= 100.0 for one in WEIGHTS)
    assert found.weight == 10.0 == min(one for one in WEIGHTS if one >= 8.0)
    assert found.spread == Spread(20 / 11, 2)
    assert [one.ids[0] for one in found.pages if one is not None] == ["d10", "d10"]
    assert all(one.body["from"] == 0 and "aggs" not in one.body for one in sent)
    assert len(sent) <= 2 * 8
    assert suggested(send, [*searches, Search("products", {"query": MATCH})], 2.0) is None


def test_words_that_are_steep_themselves_have_no_weight() -> None:
    hits = [{"_id": f"d{n}", "_score": 10.0 ** (5 - n)} for n in range(10)]
    searches = [Search("products", {"query": {"function_score": {"query": MATCH, **POPULAR}}})]
    assert suggested(lambda given: [{"hits": {"hits": hits}} for _ in given], searches, 2.0) is None


def test_a_search_that_failed_has_no_page() -> None:
    assert plain_pages(lambda _: [LegFault("rejected", "no")], [Search("a", {"query": MATCH})]) == [None]
    assert plain_pages(lambda _: [], []) == []
