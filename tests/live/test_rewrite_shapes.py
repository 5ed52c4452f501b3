"""What can be sent once answers as the caller's own search does, part by part, on the real server; what goes parallel would not.

Each body is sent plain, and once with boosts in it as `mode = "rewrite"` sends it. All but order and scores of hits has to be the
same.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opensearchpy import OpenSearch, TransportError, helpers

from rewriter.boost.body import bounded_body, without_own_names
from rewriter.boost.functions import Boost
from rewriter.one_search import EQUAL_AGGREGATIONS, OF_SCORES, aggregations
from rewriter.settings import Settings
from tests.arguments import parse_search
from tests.conftest import MakeIndex
from tests.live.shelf import MATCH, shoes

MAX_BOOST = 1.5
BOOSTS = (
    Boost({"term": {"brand": "nike"}}, 0.3),
    Boost({"terms": {"colour": ["red", "blue"]}}, 0.4),
    Boost({"range": {"price": {"lt": 40}}}, 0.1),
)
MAPPING: dict[str, Any] = {
    "title": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
    "brand": {"type": "keyword"},
    "colour": {"type": "keyword"},
    "price": {"type": "integer"},
    "listed": {"type": "date"},
    "place": {"type": "geo_point"},
    "ip": {"type": "ip"},
    "suggest": {"type": "completion"},
    "offers": {"type": "nested", "properties": {"shop": {"type": "keyword"}, "cost": {"type": "integer"}}},
}
BRAND = {"terms": {"field": "brand"}}
COLOUR = {"terms": {"field": "colour"}}
RED = {"term": {"colour": "red"}}
PRICE = {"field": "price"}
MONTHS = {"field": "listed", "calendar_interval": "month"}

AGGREGATIONS: dict[str, Any] = {
    "terms": {**BRAND, "aggs": {"p": {"avg": PRICE}}},
    "terms by a metric": {"terms": {"field": "brand", "order": {"p": "desc"}}, "aggs": {"p": {"avg": PRICE}}},
    "terms by the best score": {
        "terms": {"field": "brand", "order": {"m": "desc"}},
        "aggs": {"m": {"max": {"script": "_score"}}},
    },
    "avg of a script": {"avg": {"script": "_score"}},
    "multi_terms": {"multi_terms": {"terms": [{"field": "brand"}, {"field": "colour"}]}},
    "rare_terms": {"rare_terms": {"field": "colour", "max_doc_count": 50}},
    "significant_terms": {"significant_terms": {"field": "colour", "min_doc_count": 1}},
    "significant_text": {"significant_text": {"field": "title", "min_doc_count": 1}},
    "range": {"range": {**PRICE, "ranges": [{"to": 50}, {"from": 50}]}},
    "date_range": {"date_range": {"field": "listed", "ranges": [{"to": "2026-06-01"}]}},
    "ip_range": {"ip_range": {"field": "ip", "ranges": [{"to": "10.0.0.50"}]}},
    "histogram": {"histogram": {**PRICE, "interval": 20}},
    "date_histogram": {"date_histogram": MONTHS},
    "auto_date_histogram": {"auto_date_histogram": {"field": "listed", "buckets": 4}},
    "variable_width_histogram": {"variable_width_histogram": {**PRICE, "buckets": 4}},
    "filter": {"filter": RED},
    "filters": {"filters": {"filters": {"red": RED}}},
    "missing": {"missing": {"field": "nowhere"}},
    "global": {"global": {}, "aggs": {"b": BRAND}},
    "nested": {
        "nested": {"path": "offers"},
        "aggs": {"s": {"terms": {"field": "offers.shop"}, "aggs": {"r": {"reverse_nested": {}, "aggs": {"b": BRAND}}}}},
    },
    "adjacency_matrix": {"adjacency_matrix": {"filters": {"red": RED, "nike": {"term": {"brand": "nike"}}}}},
    "composite": {"composite": {"sources": [{"b": BRAND}]}},
    "sampler": {"sampler": {"shard_size": 5}, "aggs": {"b": BRAND}},
    "diversified_sampler": {"diversified_sampler": {"shard_size": 5, "field": "brand"}, "aggs": {"c": COLOUR}},
    "scripted_metric": {
        "scripted_metric": {
            "init_script": "state.s = 0.0",
            "map_script": "state.s += _score",
            "combine_script": "return state.s",
            "reduce_script": "double all = 0; for (one in states) { all += one } return all",
        }
    },
    "geo_distance": {"geo_distance": {"field": "place", "origin": "10,10", "ranges": [{"to": 1_000_000}]}},
    "geo_centroid": {"geo_centroid": {"field": "place"}},
    **{
        kind: {kind: PRICE}
        for kind in (
            "avg", "sum", "min", "max", "stats", "extended_stats", "value_count", "cardinality", "percentiles",
            "median_absolute_deviation",
        )
    },
    "percentile_ranks": {"percentile_ranks": {**PRICE, "values": [30]}},
    "weighted_avg": {"weighted_avg": {"value": PRICE, "weight": PRICE}},
    "pipelines inside": {
        "date_histogram": MONTHS,
        "aggs": {
            "p": {"sum": PRICE},
            "c": {"cumulative_sum": {"buckets_path": "p"}},
            "d": {"derivative": {"buckets_path": "p"}},
            "m": {"moving_fn": {"buckets_path": "p", "window": 3, "script": "MovingFunctions.max(values)"}},
            "s": {"serial_diff": {"buckets_path": "p"}},
            "x": {"bucket_script": {"buckets_path": {"p": "p"}, "script": "params.p * 2"}},
            "e": {"bucket_selector": {"buckets_path": {"p": "p"}, "script": "params.p > 0"}},
            "o": {"bucket_sort": {"size": 5}},
        },
    },
}  # fmt: skip
PHRASE = {"match_phrase": {"title": "red shoe"}}
NAMED = {"match": {"title": {"query": "red shoe", "_name": "mine"}}}
DERIVED = {"d": {"type": "long", "script": {"source": "emit(doc['price'].value * 2)"}}}
SIBLINGS = {
    "b": {**BRAND, "aggs": {"p": {"sum": PRICE}}},
    **{
        kind: {kind: {"buckets_path": "b>p"}}
        for kind in (
            "avg_bucket", "max_bucket", "min_bucket", "sum_bucket", "stats_bucket", "extended_stats_bucket", "percentiles_bucket",
        )
    },
}  # fmt: skip
OFFERS = {"nested": {"path": "offers", "query": {"range": {"offers.cost": {"gt": 10}}}, "inner_hits": {}}}
PRICED = {"function_score": {"query": MATCH, "field_value_factor": {**PRICE, "modifier": "log1p"}}}
DOUBLED = {"script_score": {"query": MATCH, "script": {"source": "_score * 2"}}}
BOOSTING = {"boosting": {"positive": MATCH, "negative": {"range": {"price": {"lt": 50}}}, "negative_boost": 0.3}}

BODIES: dict[str, dict[str, Any]] = {
    "a match": {"query": MATCH},
    "a page": {"query": MATCH, "from": 0, "size": 10},
    **{f"track_total_hits {wanted}": {"query": MATCH, "track_total_hits": wanted} for wanted in (True, False, 5, 0)},
    **{f"boosting, total {wanted}": {"query": BOOSTING, "track_total_hits": wanted} for wanted in (True, False)},
    "min_score": {"query": MATCH, "min_score": 0.2},
    "post_filter": {"query": MATCH, "post_filter": RED, "aggs": {"b": BRAND}},
    "own rescore": {"query": MATCH, "rescore": {"window_size": 20, "query": {"rescore_query": PHRASE}}},
    "highlight": {"query": MATCH, "highlight": {"fields": {"title": {}}}},
    "highlight of a phrase": {"query": {"match_phrase": {"title": "shoe red"}}, "highlight": {"fields": {"title": {}}}},
    "highlight of all fields": {"query": MATCH, "highlight": {"fields": {"*": {}}, "require_field_match": False}},
    "fields": {"query": MATCH, "fields": ["brand"], "docvalue_fields": ["price"], "version": True, "seq_no_primary_term": True},
    "script_fields": {"query": MATCH, "script_fields": {"d": {"script": "doc['price'].value * 2"}}},
    "derived": {"query": MATCH, "derived": DERIVED, "fields": ["d"]},
    "no source": {"query": MATCH, "_source": False, "stored_fields": []},
    "inner_hits": {"query": {"bool": {"must": [MATCH], "should": [OFFERS]}}},
    "named": {"query": NAMED},
    "named, with scores": {"query": NAMED, "include_named_queries_score": True},
    "by score": {"query": MATCH, "sort": [{"_score": "desc"}], "track_scores": True, "stats": ["shop"], "timeout": "5s"},
    "suggest a term": {"query": MATCH, "suggest": {"s": {"text": "sho", "term": {"field": "title"}}}},
    "suggest a phrase": {"query": MATCH, "suggest": {"s": {"text": "sho", "phrase": {"field": "title"}}}},
    "function_score": {"query": PRICED},
    "script_score": {"query": DOUBLED},
    "dis_max": {"query": {"dis_max": {"queries": [MATCH, {"term": {"brand": "nike"}}]}}},
    "match_all": {"query": {"match_all": {}}},
    "sibling pipelines": {"query": MATCH, "aggs": SIBLINGS},
    **{f"aggregation: {name}": {"query": MATCH, "aggs": {"a": one}} for name, one in AGGREGATIONS.items()},
}  # fmt: skip
WRAPPED: dict[str, dict[str, Any]] = {
    "collapse": {"query": MATCH, "collapse": {"field": "brand"}},
    "collapse, fields": {"query": MATCH, "collapse": {"field": "brand"}, "fields": ["price"], "version": True},
    "collapse, min and max": {"query": MATCH, "collapse": {"field": "price"}, "aggs": {"b": BRAND, "m": {"max": PRICE}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def indices(opensearch: OpenSearch) -> Iterator[str]:
    """Two indices of three shards behind a pattern."""
    name = f"rewrite-{uuid.uuid4().hex[:8]}"
    made = []
    for part, count in (("a", 60), ("b", 30)):
        made.append(f"{name}-{part}")
        body = {
            "settings": {"number_of_shards": 3, "number_of_replicas": 0},
            "mappings": {"properties": MAPPING},
        }
        opensearch.indices.create(index=made[-1], body=body)
        documents = [
            {
                **source,
                "_index": made[-1],
                "_id": one,
                "listed": f"2026-{1 + number % 12:02d}-01",
                "place": {"lat": 10 + number % 20, "lon": 5 + number % 30},
                "ip": f"10.0.0.{number}",
                "suggest": {"input": [f"shoe {number}"], "weight": number},
                "offers": [{"shop": "ab"[number % 2], "cost": number}, {"shop": "c", "cost": 2 * number}],
            }
            for number, (one, source) in enumerate(shoes(count, part).items())
        ]
        for document in documents:
            document.pop("hidden")
        helpers.bulk(opensearch, documents, refresh=True)
    yield f"{name}-*"
    for one in made:
        opensearch.indices.delete(index=one)


def settings(strategy: str = "auto") -> Settings:
    policy = {
        "index": "*",
        "max_boost": MAX_BOOST,
        "strategy": strategy,
        "browse": True,
        "mode": "rewrite",
        "max_depth": 100,
    }
    return Settings.model_validate({"policies": {"shop": policy}})


def both(client: OpenSearch, index: str, body: Mapping[str, Any], strategy: str = "auto") -> tuple[Any, Any]:
    """The answer to a body as it is, and to the same search with boosts in it, without our names."""
    body = {"size": 100, **body}
    search = parse_search({"index": index, "body": body}, settings(strategy), {})
    assert search.strategy
    window = min(200, search.own_rescore_window or 200)
    boosted = bounded_body(search.body, BOOSTS, MAX_BOOST, search.strategy, window)
    plain, rewritten = client.search(index=index, body=body), client.search(index=index, body=boosted)
    rewritten["hits"]["hits"] = [without_own_names(hit) for hit in rewritten["hits"]["hits"]]
    return plain, rewritten


def parts(answer: Mapping[str, Any]) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """All of an answer but its hits, and what each hit holds; without order, scores and the time that it took."""
    envelope = {key: value for key, value in answer["hits"].items() if key not in ("hits", "max_score")}
    found = {
        (hit["_index"], hit["_id"]): {key: value for key, value in hit.items() if key not in ("_score", "sort")}
        for hit in answer["hits"]["hits"]
    }
    return {**{key: value for key, value in answer.items() if key != "took"}, "hits": envelope}, found


@pytest.mark.parametrize("name", BODIES)
def test_one_search_answers_as_the_caller_s_own(opensearch: OpenSearch, indices: str, name: str) -> None:
    body = BODIES[name]
    assert parse_search({"index": indices, "body": body}, settings(), {}).difference == ""
    plain, rewritten = both(opensearch, indices, body)
    envelope, hits = parts(plain)
    other_envelope, other_hits = parts(rewritten)
    assert other_envelope == envelope
    assert "rewriter:" not in json.dumps(rewritten)
    if body.get("size", 100) == 100:
        assert other_hits == hits
        base = {(hit["_index"], hit["_id"]): hit["_score"] for hit in plain["hits"]["hits"]}
        ratios = [hit["_score"] / base[hit["_index"], hit["_id"]] for hit in rewritten["hits"]["hits"]]
        assert min(ratios) >= 1.0 - 1e-6
        assert max(ratios) <= MAX_BOOST * (1.0 + 1e-6)
        assert max(ratios) > 1.3, "the boosts had no effect"


@pytest.mark.parametrize("name", WRAPPED)
def test_one_wrapped_search_answers_as_the_caller_s_own(opensearch: OpenSearch, indices: str, name: str) -> None:
    body = WRAPPED[name]
    assert parse_search({"index": indices, "body": body}, settings(), {}).difference == ""
    plain, rewritten = both(opensearch, indices, body)
    assert parts(rewritten)[0] == parts(plain)[0]
    assert [
        sorted(hit["fields"][body["collapse"]["field"]][0] for hit in one["hits"]["hits"]) for one in (plain, rewritten)
    ]
    assert "rewriter:" not in json.dumps(rewritten)


def test_every_aggregation_that_is_said_to_answer_the_same_was_tried() -> None:
    tried = {kind for body in BODIES.values() for kind, _ in aggregations(body)}
    assert tried == EQUAL_AGGREGATIONS


@pytest.mark.parametrize("strategy", ["auto", "wrap"])
def test_top_hits_would_show_boosted_hits_and_our_names(opensearch: OpenSearch, indices: str, strategy: str) -> None:
    body = {"query": MATCH, "aggs": {"b": {**BRAND, "aggs": {"best": {"top_hits": {"size": 2}}}}}}
    assert "top_hits" in parse_search({"index": indices, "body": body}, settings(strategy), {}).difference
    plain, rewritten = both(opensearch, indices, body, strategy)
    assert plain["aggregations"] != rewritten["aggregations"]
    assert "rewriter:" in json.dumps(rewritten["aggregations"])


@pytest.mark.parametrize("kind", [*sorted(OF_SCORES), "avg of a script"])
def test_under_wrap_what_reads_scores_would_differ(opensearch: OpenSearch, indices: str, kind: str) -> None:
    body = {"query": MATCH, "aggs": {"a": AGGREGATIONS[kind]}}
    assert "may read boosted scores" in parse_search({"index": indices, "body": body}, settings("wrap"), {}).difference
    plain, rewritten = both(opensearch, indices, body, "wrap")
    assert plain["aggregations"] != rewritten["aggregations"]


def test_inner_hits_of_a_group_would_be_ordered_by_boosts(opensearch: OpenSearch, indices: str) -> None:
    body = {"query": MATCH, "collapse": {"field": "brand", "inner_hits": {"name": "more", "size": 3}}}
    assert parse_search({"index": indices, "body": body}, settings(), {}).difference
    plain, rewritten = both(opensearch, indices, body)
    groups = [
        {hit["fields"]["brand"][0]: hit["inner_hits"]["more"]["hits"]["max_score"] for hit in one["hits"]["hits"]}
        for one in (plain, rewritten)
    ]
    assert groups[0] != groups[1]


def test_suggested_documents_of_one_shard_would_have_scores_of_other_hits(
    opensearch: OpenSearch, index: MakeIndex
) -> None:
    documents = {one: {**source, "suggest": f"shoe {one}"} for one, source in shoes(60).items()}
    name = index({"title": {"type": "text"}, "suggest": {"type": "completion"}}, documents=documents, shards=1)
    body = {"query": MATCH, "size": 5, "suggest": {"s": {"prefix": "sh", "completion": {"field": "suggest"}}}}
    assert "scores of other hits" in parse_search({"index": name, "body": body}, settings(), {}).difference
    answers = [opensearch.search(index=name, body=one) for one in (body, bounded_body(body, (), 1.5, "rescore", 200))]
    plain, rewritten = ([one["_score"] for one in found["suggest"]["s"][0]["options"]] for found in answers)
    assert plain != rewritten


def test_an_explanation_of_inner_hits_would_count_our_rescore(opensearch: OpenSearch, indices: str) -> None:
    nested = {"nested": {"path": "offers", "query": {"term": {"offers.shop": "a"}}, "inner_hits": {"explain": True}}}
    body = {"query": {"bool": {"must": [MATCH, nested]}}, "size": 100}
    assert parse_search({"index": indices, "body": body}, settings(), {}).strategy is None
    boosted = bounded_body(body, BOOSTS, MAX_BOOST, "rescore", 200)
    found = []
    for one in (body, boosted):
        hits = parts(opensearch.search(index=indices, body=one))[1]
        found.append({key: hit["inner_hits"]["offers"]["hits"]["hits"][0]["_explanation"] for key, hit in hits.items()})
    plain, rewritten = found
    assert plain.keys() == rewritten.keys()
    assert plain != rewritten


@pytest.mark.parametrize("strategy", ["rescore", "wrap"])
def test_pages_are_slices_of_one_list_and_each_has_its_max_score(
    opensearch: OpenSearch, indices: str, strategy: str
) -> None:
    def page(from_: int, size: int) -> Any:
        body = bounded_body({"query": MATCH, "from": from_, "size": size}, BOOSTS, MAX_BOOST, strategy, 200)  # type: ignore[arg-type]
        return opensearch.search(index=indices, body=body)["hits"]

    whole = page(0, 80)
    for from_ in (9, 18, 47, 70):
        part = page(from_, 10)
        assert [hit["_id"] for hit in part["hits"]] == [hit["_id"] for hit in whole["hits"][from_ : from_ + 10]]
        assert part["max_score"] == whole["max_score"]
    assert page(95, 10)["max_score"] == whole["max_score"]


def test_a_shard_that_refuses_our_part_takes_its_hits_and_totals_out_of_a_200(
    opensearch: OpenSearch, indices: str
) -> None:
    """Why a rewritten answer with a failed shard is not served: `brand` is a date in another index."""
    other = indices.replace("*", "c")
    opensearch.indices.create(
        index=other, body={"mappings": {"properties": {"title": {"type": "text"}, "brand": {"type": "date"}}}}
    )
    try:
        opensearch.index(index=other, body={"title": "red shoe"}, refresh=True)
        body = {"query": MATCH, "size": 0, "track_total_hits": True}
        boosted = bounded_body({**body, "size": 10}, BOOSTS[:1], MAX_BOOST, "rescore", 200)
        plain, rewritten = (opensearch.search(index=indices, body=one) for one in (body, boosted))
        assert plain["_shards"]["failed"] == 0
        assert rewritten["_shards"]["failed"] == 1
        assert rewritten["hits"]["total"]["value"] == plain["hits"]["total"]["value"] - 1
        with pytest.raises(TransportError):
            opensearch.search(index=other, body=boosted)
    finally:
        opensearch.indices.delete(index=other)
