"""The table of docs/shapes.md equals the table in the code, and each of its examples is decided by its row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewriter.client.opensearch import OF_ONE_REQUEST
from rewriter.index_facts import IndexFacts
from rewriter.one_search import DIFFERENCES, EQUAL_AGGREGATIONS, difference
from rewriter.parsed_search import SAME_IN_BODY
from rewriter.query_form import inside, looks_up_ids, relevance
from rewriter.report import Reason, Strategy
from rewriter.settings import PolicySettings, Settings
from rewriter.shapes import CHANGES_NOTHING, CHANGES_RESULTS, TABLE, SearchFacts
from tests.arguments import parse_search

DOCS = (Path(__file__).parents[1] / "docs/shapes.md").read_text("utf-8")
MATCH = {"match": {"title": "shoe"}}
SETTINGS = Settings(
    policies={
        "rescored": PolicySettings(index=("rescored",), strategy="rescore", mode="rewrite"),
        "wrapped": PolicySettings(index=("wrapped",), strategy="wrap", mode="rewrite"),
        "browsed": PolicySettings(index=("browsed",), browse=True),
        "shop": PolicySettings(index=("products", "piped", "narrow", "short"), mode="rewrite"),
    }
)
FACTS = {
    "products": IndexFacts(),
    "piped": IndexFacts(default_pipeline="rerank"),
    "narrow": IndexFacts(max_rescore_window=100),
    "short": IndexFacts(max_result_window=30),
}


def decided(arguments: dict[str, Any]) -> tuple[str, str]:
    request = parse_search({"index": "products", **arguments}, SETTINGS, FACTS)
    assert (request.passed is None) is (request.strategy is not None)
    return str(request.passed or request.strategy), request.detail


def documented() -> Iterator[tuple[str, str, str, str, str]]:
    table = DOCS.partition("\n|---|---|---|---|---|\n")[2].partition("\n\n")[0]
    for line in table.splitlines():
        name, example, outcome, sent, detail = (cell.strip() for cell in line.strip("|").split("|"))
        yield name, example.strip("`"), outcome.strip("`"), sent, detail


def parallel() -> Iterator[tuple[str, str, str]]:
    section = DOCS.partition("## What goes parallel in `rewrite`\n")[2]
    for line in section.partition("\n|---|---|---|\n")[2].partition("\n\n")[0].splitlines():
        name, example, why = (cell.strip() for cell in line.strip("|").split("|"))
        yield name, example.strip("`"), why


ROWS = list(documented())
SAYS_WHAT = ("scored by chance", "not readable", "other key", "other parameter")


def test_the_documented_table_is_the_table() -> None:
    assert [(name, outcome, detail) for name, _, outcome, _, detail in ROWS] == [
        (shape.name, str(shape.outcome), shape.detail) for shape in TABLE
    ]


@pytest.mark.parametrize(("name", "example", "outcome", "sent", "detail"), ROWS, ids=[row[0] for row in ROWS])
def test_each_example_is_decided_by_its_row(name: str, example: str, outcome: str, sent: str, detail: str) -> None:
    found = decided(json.loads(example))
    search = parse_search({"index": "products", **json.loads(example)}, SETTINGS, FACTS)
    assert sent == ("–" if search.passed else "parallel" if search.difference else "one search")
    assert found[0] == outcome
    assert (found[1] != detail) if name in SAYS_WHAT else (found[1] == detail)


def test_a_row_that_needs_a_key_applies_to_no_search_without_it() -> None:
    tried = 0
    for _, example, *_ in ROWS:
        arguments = json.loads(example)
        body, policy = arguments.pop("body", {}), SETTINGS.policies["shop"]
        if not isinstance(body, dict):
            continue
        search = SearchFacts(body, arguments, None, 0, 10, policy, [], {key for key, _ in inside([body])})
        lacking = [shape for shape in TABLE if shape.needs and shape.needs not in {*body, *arguments}]
        assert [shape.name for shape in lacking if shape.applies(search)] == []
        tried += len(lacking)
    assert tried > 500


def test_the_documented_table_of_what_goes_parallel_is_the_table() -> None:
    assert [(name, why) for name, _, why in parallel()] == [(row.name, row.why) for row in DIFFERENCES]
    section = DOCS.partition("Known to answer the same beside a rescore are these aggregations: ")[2].partition(
        ". Under"
    )[0]
    assert set(re.findall(r"`(\w+)`", section)) == EQUAL_AGGREGATIONS


@pytest.mark.parametrize(("name", "example", "why"), list(parallel()), ids=[name for name, _, _ in parallel()])
def test_each_example_of_what_goes_parallel_does_by_its_row(name: str, example: str, why: str) -> None:
    search = parse_search({"index": "products", **json.loads(example)}, SETTINGS, FACTS)
    assert search.passed is None
    assert search.difference == (why if name != "aggregation" else search.difference) != ""
    fits = [
        row.name for row in DIFFERENCES if row.applies(search.body, search.own_params, search.strategy or "rescore")
    ]
    assert fits == [name]


@pytest.mark.parametrize(
    ("aggregation", "strategy", "parallel"),
    [
        ({"terms": {"field": "brand"}, "aggs": {"p": {"avg": {"field": "price"}}}}, "rescore", False),
        (
            {"terms": {"field": "brand"}, "aggs": {"p": {"filter": MATCH, "aggregations": {"t": {"top_hits": {}}}}}},
            "rescore",
            True,
        ),
        ({"terms": {"field": "brand"}, "meta": {"any": "thing"}}, "rescore", False),
        ({"unheard_of": {}}, "rescore", True),
        ({"avg": {"script": "_score"}}, "rescore", False),
        ({"avg": {"script": "_score"}}, "wrap", True),
        ({"sampler": {}}, "rescore", False),
        ({"sampler": {}}, "wrap", True),
        ("broken", "rescore", True),
    ],
)
def test_aggregations_that_answer_the_same(aggregation: Any, strategy: Strategy, parallel: bool) -> None:
    for key in ("aggs", "aggregations"):
        assert bool(difference({key: {"a": aggregation}}, {}, strategy)) is parallel
    assert difference({"aggs": "broken"}, {}, "rescore")


def test_a_thousand_aggregations_are_not_looked_at() -> None:
    many = {f"a{n}": {"avg": {"field": "price"}} for n in range(1_000)}
    assert difference({"aggs": many}, {}, "rescore")


def test_reasons_stand_in_the_order_of_decisions() -> None:
    reasons = [shape.outcome for shape in TABLE if isinstance(shape.outcome, Reason) and shape.name != "not readable"]
    assert reasons == sorted(reasons, key=list(Reason).index)


def test_the_documented_parameters_are_those_of_the_code() -> None:
    table = DOCS.partition("\n|---|---|\n")[2].partition("\n\n")[0]
    named = [set(re.findall(r"`(\w+)`", line.split("|")[1].replace("(of `false`)", ""))) for line in table.splitlines()]
    sources = {"_source", "_source_includes", "_source_excludes"}
    folded = {"from", "size", "stored_fields", "track_total_hits", *SAME_IN_BODY, *sources}
    opaque = {"opaque_id"}
    assert named == [folded, {"sort"}, set(OF_ONE_REQUEST), opaque, set(CHANGES_RESULTS), set(CHANGES_NOTHING), set()]


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ({"body": {"query": MATCH, "sort": "_score"}}, "rescore"),
        ({"body": {"query": MATCH, "sort": []}}, "rescore"),
        ({"body": {"query": MATCH, "sort": [{"_score": {"order": "DESC"}}]}}, "rescore"),
        ({"body": {"query": MATCH, "sort": {"_score": {}}}}, "rescore"),
        ({"body": {"query": MATCH, "sort": [{"_score": "asc"}]}}, "sorted"),
        ({"body": {"query": MATCH, "sort": ["_score", "_score"]}}, "sorted"),
        ({"body": {"query": MATCH, "sort": [{"_score": 1}]}}, "sorted"),
        ({"body": {"query": MATCH}, "sort": "_score:desc"}, "rescore"),
        ({"body": {"query": MATCH}, "sort": "_score"}, "rescore"),
        ({"body": {"query": MATCH}, "params": {"sort": "price:asc"}}, "sorted"),
        ({"body": {"query": MATCH, "sort": ["_score"]}, "sort": ["_score"]}, "sorted"),
        ({"body": {"query": MATCH, "size": 10}, "params": {"size": "0"}}, "no_hits"),
        ({"body": {"query": MATCH, "size": 51}}, "beyond_depth"),
        ({"body": {"query": MATCH, "size": 10**30}}, "beyond_depth"),
        ({"body": {"query": MATCH, "size": 50}}, "rescore"),
        ({"index": "short", "body": {"query": MATCH, "size": 31}}, "beyond_depth"),
        ({"index": "products,short", "body": {"query": MATCH, "size": 31}}, "beyond_depth"),
        ({"index": ["products", "piped"], "body": {"query": MATCH}}, "unsupported"),
        ({"index": "products,orders", "body": {"query": MATCH}}, "no_policy"),
        ({"index": "products,-short", "body": {"query": MATCH}}, "rescore"),
        ({"index": None, "body": {"query": MATCH}}, "no_policy"),
        ({"index": 5, "body": {"query": MATCH}}, "no_policy"),
        ({"body": {"suggest": {}, "query": MATCH}}, "rescore"),
        ({"body": {"query": MATCH, "explain": False, "profile": "false", "terminate_after": 0}}, "rescore"),
        ({"body": {"query": MATCH, "explain": "true"}}, "unsupported"),
        ({"body": {"query": MATCH}, "explain": ""}, "unsupported"),
        ({"body": {"query": MATCH}, "rest_total_hits_as_int": "false"}, "rescore"),
        ({"body": {"query": MATCH, "search_pipeline": {}}}, "unsupported"),
        ({"body": {"query": MATCH}, "stored_fields": "_none_"}, "unsupported"),
        ({"body": {"query": MATCH, "stored_fields": ["brand"]}}, "rescore"),
        ({"body": {"query": MATCH, "ext": {"ubi": {"query_id": "q"}}}}, "rescore"),
        ({"body": {}}, "flat_scores"),
        ({"index": "browsed", "body": {}}, "rescore"),
        ({"index": "browsed", "body": {"query": {"match_all": {}}, "collapse": {"field": "brand"}}}, "wrap"),
        ({"index": "browsed", "body": {"query": {"bool": {"filter": [MATCH]}}}}, "no_relevance"),
        ({"index": "browsed", "body": {"query": {"ids": {"values": ["1"]}}}}, "unsupported"),
        ({"index": "wrapped", "body": {"query": MATCH, "min_score": 0.1}}, "rescore"),
        ({"index": "wrapped", "body": {"query": MATCH, "rescore": [{"query": {"rescore_query": MATCH}}]}}, "rescore"),
        ({"index": "narrow", "body": {"query": MATCH, "rescore": {"window_size": 100, "query": {}}}}, "rescore"),
        ({"index": "narrow", "body": {"query": MATCH, "collapse": {"field": "brand"}}}, "wrap"),
        ({"body": {"query": {"script_score": {"query": MATCH, "script": "1"}}}}, "rescore"),
        ({"body": {"query": {"function_score": {"query": MATCH, "functions": []}}}}, "rescore"),
        ({"body": {"query": {"knn": {"vector": {"vector": [0.1], "k": 10}}}}}, "rescore"),
        ({"body": {"query": MATCH, "post_filter": MATCH, "indices_boost": [{"products": 2}]}}, "rescore"),
    ],
)
def test_shapes_at_the_edge_of_a_row(arguments: dict[str, Any], outcome: str) -> None:
    assert decided(arguments)[0] == outcome


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, "flat"),
        ({"match": {"title": "shoe"}}, "scored"),
        ({"terms": {"brand": ["a", "b"]}}, "flat"),
        ({"constant_score": {"filter": MATCH, "boost": 2}}, "flat"),
        ({"prefix": {"title": {"value": "sh"}}}, "flat"),
        ({"prefix": {"title": {"value": "sh", "rewrite": "scoring_boolean"}}}, "scored"),
        ({"query_string": {"query": "*:*"}}, "flat"),
        ({"query_string": {"query": "shoe"}}, "scored"),
        ({"bool": {}}, "flat"),
        ({"bool": {"filter": MATCH}}, "none"),
        ({"bool": {"must_not": [MATCH]}}, "none"),
        ({"bool": {"must": [{"match_all": {}}], "filter": [MATCH]}}, "flat"),
        ({"bool": {"must": {"bool": {"filter": [MATCH]}}}}, "none"),
        ({"bool": {"must": [{"bool": {"filter": [MATCH]}}, {"match_all": {}}]}}, "flat"),
        ({"bool": {"must": [{"match_all": {}}, MATCH]}}, "scored"),
        ({"bool": {"should": [{"exists": {"field": "n"}}]}}, "flat"),
        ({"bool": {"should": [{"exists": {"field": "n"}}], "filter": [MATCH]}}, "scored"),
        ({"bool": {"should": [{"term": {"a": 1}}, {"exists": {"field": "n"}}]}}, "scored"),
        ({"bool": {"should": [{"bool": {"filter": [MATCH]}}], "filter": [MATCH]}}, "none"),
        ({"bool": "broken"}, "scored"),
        ("broken", "scored"),
    ],
)
def test_what_the_form_of_a_query_says_about_its_scores(query: Any, expected: str) -> None:
    assert relevance(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"ids": {"values": ["1"]}}, True),
        ({"term": {"_id": "1"}}, True),
        ({"terms": {"_id": ["1", "2"]}}, True),
        ({"constant_score": {"filter": {"ids": {"values": ["1"]}}}}, True),
        ({"bool": {"filter": [{"ids": {"values": ["1"]}}]}}, True),
        ({"bool": {"must": {"term": {"_id": "1"}}}}, True),
        ({"bool": {"must": [MATCH], "filter": [{"ids": {"values": ["1"]}}]}}, False),
        ({"bool": {"should": [MATCH], "filter": [{"ids": {"values": ["1"]}}]}}, False),
        ({"term": {"brand": "_id"}}, False),
        (None, False),
    ],
)
def test_a_look_up_by_id_is_recognized(query: Any, expected: bool) -> None:
    assert looks_up_ids(query) is expected


def test_a_query_nested_a_thousand_deep_is_looked_at_only_so_far() -> None:
    query: dict[str, Any] = MATCH
    for _ in range(1_000):
        query = {"bool": {"must": [query]}}
    assert (relevance(query), looks_up_ids(query)) == ("scored", False)
