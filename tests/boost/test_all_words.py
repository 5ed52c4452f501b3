"""The gate: which words a query has, and when nobody can tell."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rewriter.boost.all_words import MAX_CLAUSES, MAX_TEXT, all_words
from rewriter.index_facts import IndexFacts

KNOWN = IndexFacts(
    fields={
        "title": "text", "title.stem": "text", "title.raw": "keyword", "body": "text", "body.stem": "text", "note": "text",
        "brand": "keyword", "price": "double", "shop.name": "text",
    },
    analyzers={
        "title": "standard", "title.stem": "english", "body": "standard", "body.stem": "english", "note": "french",
        "shop.name": "standard",
    },
)  # fmt: skip
WORDS = "red shoe"


def gate(query: Any) -> Any:
    before = copy.deepcopy(query)
    found = all_words(query, KNOWN).clause
    assert query == before
    return found


def both(field: str, **more: Any) -> dict[str, Any]:
    return {"match": {field: {"query": WORDS, "operator": "and", **more}}}


def across(*fields: str, kind: str = "cross_fields", **more: Any) -> dict[str, Any]:
    return {"multi_match": {"query": WORDS, "fields": list(fields), "type": kind, "operator": "and", **more}}


WHOLE = {"multi_match": {"query": WORDS, "fields": ["brand"], "operator": "and", "lenient": True}}
TITLE: dict[str, Any] = {"match": {"title": WORDS}}
PHRASE = {"match_phrase": {"title": {"query": WORDS, "slop": 2}}}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (TITLE, both("title")),
        (
            {"match": {"title": {"query": WORDS, "minimum_should_match": "75%", "boost": 3, "fuzziness": "AUTO", "analyzer": "x"}}},
            both("title", fuzziness="AUTO", analyzer="x"),
        ),
        (PHRASE, PHRASE),
        ({"multi_match": {"query": WORDS, "fields": ["title^3"]}}, both("title")),
        ({"multi_match": {"query": WORDS, "fields": ["title^3", "body"], "tie_breaker": 0.3}}, across("title", "body")),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "title.stem"], "type": "most_fields"}},
            across("title", "title.stem", kind="best_fields"),
        ),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "title.stem"], "fuzziness": 1}},
            across("title", "title.stem", kind="best_fields", fuzziness=1),
        ),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "title.stem", "body"]}},
            across("title", "title.stem", "body"),
        ),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "body", "brand"]}},
            {"bool": {"should": [across("title", "body"), WHOLE]}},
        ),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "note"], "analyzer": "simple"}},
            across("title", "note", analyzer="simple"),
        ),
        (
            {"multi_match": {"query": WORDS, "fields": ["title.s*", "brand"]}},
            {"bool": {"should": [across("title.stem", kind="best_fields"), WHOLE]}},
        ),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "note"], "type": "phrase"}},
            {"multi_match": {"query": WORDS, "fields": ["title", "note"], "type": "phrase"}},
        ),
        ({"query_string": {"query": WORDS, "default_field": "title", "default_operator": "or"}}, both("title")),
        ({"simple_query_string": {"query": WORDS, "fields": ["title", "body"]}}, across("title", "body")),
        ({"bool": {"must": TITLE, "filter": [{"match": {"note": "in stock"}}]}}, both("title")),
        ({"bool": {"must": [TITLE], "should": [PHRASE, {"term": {"brand": "x"}}]}}, {"bool": {"should": [both("title"), PHRASE]}}),
        ({"bool": {"must": [TITLE], "should": [{"match": {"note": "new"}}]}}, both("title")),
        (
            {"bool": {"must": [TITLE], "should": [{"match": {"note": "big sale"}}], "minimum_should_match": 1}},
            {"bool": {"filter": [both("title"), {"match": {"note": {"query": "big sale", "operator": "and"}}}]}},
        ),
        ({"bool": {"must": [TITLE], "should": [{"match": {"note": "new"}}], "minimum_should_match": "50%"}}, both("title")),
        (
            {"bool": {"must": [TITLE], "should": [PHRASE, {"match": {"note": "new"}}], "minimum_should_match": "1"}},
            {"bool": {"should": [both("title"), PHRASE]}},
        ),
        ({"bool": {"must": [TITLE, {"match": {"note": ""}}], "should": [{"query_string": {"query": "*"}}]}}, both("title")),
        (
            {"multi_match": {"query": WORDS, "fields": ["title", "brand"], "analyzer": "simple"}},
            {
                "bool": {
                    "should": [
                        across("title", kind="best_fields", analyzer="simple"),
                        {"multi_match": {**WHOLE["multi_match"], "analyzer": "simple"}},
                    ]
                }
            },
        ),
        (
            {"query_string": {"query": "red", "default_field": "price", "lenient": True}},
            {"match": {"price": {"query": "red", "operator": "and", "lenient": True}}},
        ),
        (
            {"query_string": {"query": WORDS, "fields": ["title"], "auto_generate_synonyms_phrase_query": False}},
            both("title", auto_generate_synonyms_phrase_query=False),
        ),
        ({"bool": {"must": [TITLE], "should": [{"nested": {"path": "p", "query": TITLE}}]}}, both("title")),
        (
            {"bool": {"must": [TITLE, {"match": {"note": "sale"}}]}},
            {"bool": {"filter": [both("title"), {"match": {"note": {"query": "sale", "operator": "and"}}}]}},
        ),
        (
            {"bool": {"should": [TITLE, {"match": {"body": WORDS}}, {"range": {"price": {"lt": 9}}}]}},
            {"bool": {"should": [both("title"), both("body")]}},
        ),
        ({"dis_max": {"queries": [TITLE, TITLE]}}, both("title")),
        ({"function_score": {"query": TITLE, "functions": [{"weight": 2}]}}, both("title")),
        ({"script_score": {"query": TITLE, "script": {"source": "1"}}}, both("title")),
        ({"constant_score": {"filter": TITLE}}, both("title")),
        ({"boosting": {"positive": TITLE, "negative": {"match": {"note": "used"}}, "negative_boost": 0.5}}, both("title")),
    ],
)  # fmt: skip
def test_the_words_of_a_query(query: Any, wanted: Any) -> None:
    assert gate(query) == wanted


@pytest.mark.parametrize(
    "query",
    [
        {"term": {"brand": "nike"}},
        {"match_all": {}},
        {"match": {"price": 10}},
        {"bool": {"must": [{"range": {"price": {"lt": 9}}}], "should": [{"match": {"title": " "}}]}},
        {"bool": {"filter": [{"term": {"brand": "x"}}], "should": [{"match_phrase": {"title": {"query": ""}}}]}},
        {"dis_max": {"queries": [{"multi_match": {"query": "!?", "fields": ["title"]}}, {"match_all": {}}]}},
        {"simple_query_string": {"query": "\u3000", "fields": ["title"]}},
        {"bool": {"filter": [TITLE]}},
        {"function_score": {"functions": [{"weight": 2}]}},
        None,
        {},
        {"match": TITLE, "term": {}},
        {"match": {"title": WORDS, "body": WORDS}},
        {"match": {"title": {"query": WORDS, "surprise": 1}}},
        {"match": {"title": "x" * (MAX_TEXT + 1)}},
        {"multi_match": {"query": WORDS}},
        {"multi_match": {"query": WORDS, "fields": []}},
        {"multi_match": {"query": WORDS, "fields": [1]}},
        {"multi_match": {"query": WORDS, "fields": ["title", "unmapped"]}},
        {"multi_match": {"query": WORDS, "fields": ["title", "b*"]}},
        {"multi_match": {"query": WORDS, "fields": ["nothing.*"]}},
        {"multi_match": {"query": WORDS, "fields": ["title", "note"]}},
        {"multi_match": {"query": WORDS, "fields": ["title", "title.stem", "note"]}},
        {"multi_match": {"query": WORDS, "fields": ["title", "body"], "fuzziness": "AUTO"}},
        {"multi_match": {"query": WORDS, "fields": ["title", "body"], "type": "bool_prefix"}},
        {"multi_match": {"query": WORDS, "fields": ["title", "body"], "surprise": 1}},
        {"query_string": {"query": WORDS}},
        {"query_string": {"query": "red AND shoe", "fields": ["title"]}},
        {"query_string": {"query": "title:red", "fields": ["title"]}},
        {"query_string": {"query": WORDS, "fields": ["title", "brand"]}},
        {"simple_query_string": {"query": "red -shoe", "fields": ["title"]}},
        {"bool": {"should": [TITLE, {"match": {"note": "sale"}}]}},
        {"bool": {"must": [{"nested": {"path": "p", "query": TITLE}}]}},
        {"bool": {"should": [TITLE, {"knn": {"vector": {}}}]}},
        {"dis_max": {"queries": [TITLE, {"match": {"note": "sale"}}]}},
        {"match_bool_prefix": {"title": WORDS}},
        {"more_like_this": {"like": WORDS}},
        {"bool": {"should": [{"match": {f"field{at}": WORDS}} for at in range(MAX_CLAUSES + 1)]}},
    ],
)
def test_no_gate_where_that_is_not_certain(query: Any) -> None:
    assert gate(query) is None


def test_a_query_nested_without_end() -> None:
    query: dict[str, Any] = TITLE
    for _ in range(1_000):
        query = {"bool": {"must": [query]}}
    assert all_words(query, KNOWN).clause is None


def test_the_fields_with_whose_mappings_there_may_be_a_gate() -> None:
    """Outermost names alone: their mappings are read whole. A pattern over all fields would have all mappings read."""
    for fields, unknown in (
        (["title", "maker.name^2"], ("maker",)),
        (["shape.*"], ("shape",)),
        (["b*"], ()),
        (["body"], ()),
    ):
        assert all_words({"multi_match": {"query": WORDS, "fields": ["title", *fields]}}, KNOWN).unknown == unknown
