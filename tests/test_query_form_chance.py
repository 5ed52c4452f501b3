"""Queries with random scores are recognized by their form, at any depth."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.query_form import depends_on_collection, scored_by_chance

MATCH: dict[str, Any] = {"match": {"title": "shoe"}}


def script(source: str) -> dict[str, Any]:
    return {"script_score": {"query": MATCH, "script": {"source": source}}}


CHANCE: tuple[dict[str, Any], ...] = (
    {"function_score": {"random_score": {}}},
    {"function_score": {"query": MATCH, "functions": [{"weight": 2}, {"random_score": {"field": "_seq_no"}}]}},
    {"function_score": {"random_score": {"seed": None}}},
    script("1 + Math.random()"),
    script("Math . random ( )"),
    script("new Random().nextDouble()"),
    script("def r = new java.util.Random(); return r.nextInt(9)"),
    {"function_score": {"script_score": {"script": "Math.random() * _score"}}},
    {"bool": {"filter": [{"script": {"script": {"source": "Math.random() > 0.5", "lang": "painless"}}}]}},
)
STEADY = (
    MATCH,
    {"function_score": {"random_score": {"seed": 0, "field": "_seq_no"}}},
    {"function_score": {"random_score": {"seed": "a"}}},
    script("new Random(params.seed).nextDouble()"),
    script("Math.log(2 + doc['price'].value)"),
    {"match": {"title": "Math.random"}},
)


@pytest.mark.parametrize("query", CHANCE)
def test_a_random_score_is_recognized_at_any_depth(query: dict[str, Any]) -> None:
    deep = query
    for _ in range(200):
        deep = {"bool": {"must": [{"dis_max": {"queries": [deep]}}]}}
    rescore = {"query": {"rescore_query": query}}
    for body in (
        {"query": query},
        {"query": deep},
        {"query": MATCH, "rescore": rescore},
        {"query": MATCH, "rescore": [rescore]},
    ):
        assert scored_by_chance(body)


@pytest.mark.parametrize("query", STEADY)
def test_random_scripts_beside_the_query_are_no_random_score(query: dict[str, Any]) -> None:
    shown = {"script_fields": {"f": {"script": {"source": "Math.random()"}}}}  # changes what is shown, and not the list
    assert not scored_by_chance({"query": query, "post_filter": MATCH, **shown})


def test_boosting_is_found_at_any_depth() -> None:
    boosting = {"boosting": {"positive": MATCH, "negative": MATCH, "negative_boost": 0.5}}
    assert depends_on_collection({"query": {"bool": {"should": [{"nested": {"path": "a", "query": boosting}}]}}})
    assert depends_on_collection({"query": MATCH, "rescore": [{"query": {"rescore_query": boosting}}]})
    assert not depends_on_collection({"query": MATCH, "aggs": {"boosting": {"filter": boosting}}})
