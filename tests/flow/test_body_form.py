"""The form of a body, and which bodies have a part that is computed per hit, at any depth."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rewriter.flow.body_form import form_of, works_out_per_hit

MATCH: dict[str, Any] = {"match": {"title": "red shoe"}}


def nested(inner: dict[str, Any]) -> dict[str, Any]:
    return {"query": {"bool": {"must": [MATCH], "should": [{"nested": {"path": "o", "query": MATCH, **inner}}]}}}


@pytest.mark.parametrize(
    "body",
    [
        {"query": MATCH, "highlight": {"fields": {"title": {}}}},
        {"query": MATCH, "script_fields": {"x": {"script": "1"}}},
        {"query": MATCH, "fields": [{"field": "listed", "format": "yyyy"}]},
        {"query": MATCH, "docvalue_fields": ["listed"]},
        {"query": MATCH, "collapse": {"field": "brand", "inner_hits": {"name": "x"}}},
        {"query": MATCH, "derived": {"x": {"type": "keyword", "script": "emit('x')"}}},
        nested({"inner_hits": {}}),
        nested({"inner_hits": {"highlight": {"fields": {"o.text": {}}}}}),
        {
            "query": {
                "has_child": {"type": "c", "query": MATCH, "inner_hits": {"script_fields": {"x": {"script": "1"}}}}
            }
        },
        {"query": {"script_score": {"query": MATCH, "script": {"source": "doc['price'].value"}}}},
        {"query": {"function_score": {"query": MATCH, "functions": [{"script_score": {"script": "1"}}]}}},
        {"query": MATCH, "rescore": [{"query": {"rescore_query": {"script_score": {"query": MATCH, "script": "1"}}}}]},
        {"query": {"bool": {"should": [[{"bool": {"filter": {"script": {"script": "true"}}}}]]}}},
        {"query": {"bool": {"should": [{"term": {f"f{n}": n}} for n in range(5_000)]}}},
    ],
)
def test_something_is_worked_out_per_hit(body: dict[str, Any]) -> None:
    assert works_out_per_hit(body)


@pytest.mark.parametrize(
    "body",
    [
        {"query": MATCH},
        {"query": {"match": {"title": "highlight script inner_hits"}}},
        {"query": {"multi_match": {"query": "x", "fields": ["title^2", "script"]}}},
        {"query": MATCH, "post_filter": {"terms": {"sku": ["x"] * 20_000}}},
        {"query": MATCH, "aggs": {"x": {"avg": {"script": "1"}}}},
        {"query": MATCH, "suggest": {"x": {"text": "y", "phrase": {"field": "t", "highlight": {}}}}},
        {"query": MATCH, "_source": ["title"], "size": 5},
    ],
)
def test_nothing_is_worked_out_per_hit_in_a_leg(body: dict[str, Any]) -> None:
    assert not works_out_per_hit(body)


def test_words_change_no_form_and_keys_do() -> None:
    def body(words: str, **more: Any) -> dict[str, Any]:
        return {"query": {"bool": {"must": [{"match": {"title": words}}]}}, **more}

    assert form_of(body("red shoe")) == form_of(body("blue")) == form_of(body("x", aggs={"a": {}}))
    forms = [
        body("x"), body("x", size=10), body("x", highlight={"fields": {"title": {}}}), body("x", min_score=0.1),
        {"query": {"match": {"title": "x"}}}, {"query": {"match": {"name": "x"}}}, {},
    ]  # fmt: skip
    assert len({form_of(one) for one in forms}) == len(forms)


def test_a_large_or_deep_body_costs_less_than_a_millisecond_or_so() -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"bool": {"must": [deep]}}
    wide = {"query": {"bool": {"should": [{"term": {f"f{n}": n}} for n in range(50_000)]}}}
    for body in (deep, wide):
        best_s = float("inf")
        for _ in range(20):
            started_s = time.thread_time()
            form_of(body)
            works_out_per_hit(body)
            best_s = min(best_s, time.thread_time() - started_s)
        assert best_s < 0.005
