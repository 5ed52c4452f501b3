"""Parts of an answer that optional legs must not change, on a real server: names in inner hits, scores, envelope, highlights."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pytest
from opensearchpy import OpenSearch, helpers

from rewriter import Reason, Report, Rewriter, Settings, Subject
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex
from tests.live.engine import search_client, storable, supported, url_of

ANN = Subject("ann", "s1")
MATCH: dict[str, Any] = {"match": {"title": "shoe"}}
BRANDS = ("nike", "puma", "asics", "fila")
MAPPING: dict[str, Any] = {
    "title": {"type": "text"},
    "brand": {"type": "keyword"},
    "price": {"type": "integer"},
    "listed": {"type": "date"},
    "group": {"type": "integer"},
    "name": {"type": "completion"},
    "offers": {"type": "nested", "properties": {"shop": {"type": "keyword"}, "parts": {"type": "nested"}}},
    "rel": {"type": "join", "relations": {"product": "offer"}},
}


def shoes(count: int = 80) -> dict[str, dict[str, Any]]:
    """Products with their own prices; every fourth is a puma, which Ann likes."""
    return {
        f"p{number}": {
            "title": "shoe " * (1 + number % 5) + f"red trail shoe model {number}",
            "brand": BRANDS[number % 4],
            "price": number,
            "listed": "2026-11-01",
            "group": number % 11,
            "name": f"shoe {number}",
            "offers": [{"shop": "a", "parts": [{"n": 1}]}],
        }
        for number in range(count)
    }


@contextmanager
def rewriter(client: OpenSearch, *indices: str, switches: Any = None, **policy: Any) -> Iterator[Rewriter]:
    """A rewriter that has time enough and knows what Ann likes; it is ready when the facts of `indices` are known."""
    given = {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
        "policies": {
            "shelf": {
                "index": "*",
                "item_repeat_share": 1.0,
                "fields": {"brand": {"scale": 0.5}},
                "max_boost": 1.5,
                **policy,
            }
        },
    }
    store, now_s = MemoryStore(), time.time()
    liked = Counters({("brand", "puma"): 9.0, ("item", "p7"): 6.0}, {"brand": 9.0, "item": 6.0}, now_s, now_s, 3.0)
    store.write(Keys().profile("ann"), liked, None)
    everybody = Counters({("brand", one): 1_000.0 for one in BRANDS}, {"brand": 4_000.0}, now_s, now_s, 9.0)
    store.write(Keys().population(0), everybody, None)
    with (
        closing(search_client(url_of(client))) as searched_by,
        Rewriter(searched_by, store, Settings.model_validate(given)) as made,
    ):
        until_s = time.monotonic() + 20.0
        while not (set(indices) <= set(made.status().indices) and made._runtime.core.snapshot.population.totals):  # type: ignore[union-attr]
            assert time.monotonic() < until_s, made.status()
            made.search(index=",".join(indices), body={"query": MATCH, "size": 1}, subject=ANN)
            for one in indices:
                made.search(index=one, body={"query": MATCH, "size": 1}, subject=ANN)
            time.sleep(0.05)
        yield made


def searched(
    made: Rewriter, index: str, body: Mapping[str, Any], **params: Any
) -> tuple[list[dict[str, Any]], Report, Any]:
    """Return the page's hits, the report and the whole answer; what was searched is personalized."""
    answer, report = made.search_details(index=index, body=body, subject=ANN, **params)
    assert report.reason is Reason.PERSONALIZED, report
    return answer["hits"]["hits"], report, getattr(answer, "body", answer)


def every(
    client: OpenSearch, index: str, body: Mapping[str, Any], **params: Any
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """All hits of the caller's own search by identity."""
    found = client.search(index=index, body={**body, "from": 0, "size": 1_000}, params=params)
    return {key(hit): hit for hit in found["hits"]["hits"]}


def key(hit: Mapping[str, Any]) -> tuple[Any, ...]:
    return hit["_index"], hit["_id"], hit.get("_routing")


# --- hits inside hits -------------------------------------------------------------------------------------------------


NAMED = {"term": {"offers.shop": {"value": "a", "_name": "theirs"}}}
INSIDE: dict[str, dict[str, Any]] = {
    "nested": {"query": {"bool": {"must": [MATCH, {"nested": {"path": "offers", "query": NAMED, "inner_hits": {}}}]}}},
    "nested in nested": {
        "query": {
            "bool": {
                "must": [
                    MATCH,
                    {
                        "nested": {
                            "path": "offers",
                            "inner_hits": {},
                            "query": {
                                "nested": {
                                    "path": "offers.parts",
                                    "query": {"match_all": {}},
                                    "inner_hits": {"name": "deep"},
                                }
                            },
                        }
                    },
                ]
            }
        }
    },
    "has_child": {
        "query": {
            "bool": {"must": [MATCH, {"has_child": {"type": "offer", "query": {"match_all": {}}, "inner_hits": {}}}]}
        }
    },
    "collapse": {"query": MATCH, "collapse": {"field": "group", "inner_hits": {"name": "more", "size": 3}}},
    "two collapses": {
        "query": MATCH,
        "collapse": {
            "field": "group",
            "inner_hits": [{"name": "more", "size": 3}, {"name": "cheap", "size": 2, "sort": [{"price": "asc"}]}],
        },
    },
    "top hits and suggestions": {
        "query": MATCH,
        "aggs": {"brands": {"terms": {"field": "brand"}, "aggs": {"best": {"top_hits": {"size": 2}}}}},
        "suggest": {
            "s": {"text": "shoo", "term": {"field": "title"}},
            "c": {"prefix": "sho", "completion": {"field": "name"}},
        },
    },
}


@pytest.mark.parametrize("name", INSIDE)
def test_no_name_of_ours_at_any_depth(opensearch: OpenSearch, index: MakeIndex, name: str) -> None:
    products = index(MAPPING, shards=2)
    actions = []
    for number, (product, source) in enumerate(shoes(60).items()):
        more = {"_index": products, "routing": "r" if number % 2 else "s"}
        actions += [
            {**more, "_id": product, "_source": storable(MAPPING, {**source, "rel": "product"})},
            {
                **more,
                "_id": f"o-{product}",
                "_source": storable(MAPPING, {"brand": "puma", "rel": {"name": "offer", "parent": product}}),
            },
        ]
    helpers.bulk(opensearch, actions, refresh=True)
    body = INSIDE[name]
    with rewriter(opensearch, products) as made:
        hits, report, answer = searched(made, products, body)
        assert report.boosts
        plain = opensearch.search(index=products, body=body)
    assert '"rewriter:' not in json.dumps(answer)
    assert ("theirs" in json.dumps(answer)) == ("theirs" in json.dumps(plain))
    assert {k: v for k, v in answer.items() if k not in ("took", "hits")} == {
        k: v for k, v in plain.items() if k not in ("took", "hits")
    }
    if name not in {"collapse", "two collapses"}:
        deep = every(opensearch, products, body)
        for hit in hits:
            found = {
                part: [key(one) for one in inner["hits"]["hits"]] for part, inner in hit.get("inner_hits", {}).items()
            }
            own = deep[key(hit)].get("inner_hits", {})
            assert found == {part: [key(one) for one in inner["hits"]["hits"]] for part, inner in own.items()}


# --- scores -----------------------------------------------------------------------------------------------------------


def demoting(**more: Any) -> dict[str, Any]:
    negative = {"range": {"price": {"gte": 1_000}}}
    boosting = {"boosting": {"positive": {"match": {"title": "shoe red"}}, "negative": negative, "negative_boost": 0.3}}
    return {"query": boosting, "size": 10, **more}


AGGS = {"aggs": {"brands": {"terms": {"field": "brand"}}}}


@pytest.fixture(scope="module")
def many(opensearch: OpenSearch) -> Iterator[str]:
    """30,000 products, so that the server skips hits; those that match best are demoted by their price."""
    name = f"rewriter-test-many-{time.time_ns()}"
    body = {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": supported(MAPPING)},
    }
    opensearch.indices.create(index=name, body=body)
    helpers.bulk(
        opensearch,
        (
            {
                "_index": name, "_id": f"p{n}", "title": "shoe " + "red " * (n % 3) + "x " * (n % 9), "brand": BRANDS[n % 4],
                "price": 1_000 if n % 3 == 2 else n % 40, "group": n % 11,
            }
            for n in range(30_000)
        ),
        chunk_size=5_000,
        refresh=True,
    )  # fmt: skip
    yield name
    opensearch.indices.delete(index=name)


@pytest.mark.parametrize("strategy", ["rescore", "wrap"])
@pytest.mark.parametrize(
    "body",
    [
        demoting(),
        demoting(track_total_hits=True),
        demoting(track_total_hits=20_000),
        demoting(**AGGS),
        demoting(**AGGS, track_total_hits=False),
        demoting(**AGGS, min_score=0.0001),
        demoting(post_filter={"exists": {"field": "brand"}}),
    ],
    ids=json.dumps,
)
def test_demoted_hits_stay_demoted(opensearch: OpenSearch, many: str, body: dict[str, Any], strategy: str) -> None:
    with rewriter(opensearch, many, strategy=strategy, exploration_share=0) as made:
        hits, _, _ = searched(made, many, body)
    own = opensearch.search(
        index=many,
        body={
            "query": {"bool": {"must": [body["query"]], "filter": [{"ids": {"values": [hit["_id"] for hit in hits]}}]}},
            "track_total_hits": True,
        },
    )
    base = {hit["_id"]: hit["_score"] for hit in own["hits"]["hits"]}
    ratios = [hit["_score"] / base[hit["_id"]] for hit in hits]
    assert 1.0 - 1e-5 <= min(ratios) <= max(ratios) <= 1.5 * (1.0 + 1e-5)
    assert all(hit["_source"]["price"] < 1_000 for hit in hits)


def test_scores_that_the_plain_search_gets_wrong_are_not_made_worse(opensearch: OpenSearch, many: str) -> None:
    """Where the caller's own `track_total_hits: false` makes the server forget, the page is as far off, and no further."""
    body = demoting(track_total_hits=False)
    with rewriter(opensearch, many, exploration_share=0) as made:
        answer, report = made.search_details(index=many, body=body, subject=ANN)
    plain = opensearch.search(index=many, body=body)
    base = {hit["_id"]: hit["_score"] for hit in plain["hits"]["hits"]}
    both = [hit["_score"] / base[hit["_id"]] for hit in answer["hits"]["hits"] if hit["_id"] in base]
    assert report.reason in (Reason.PERSONALIZED, Reason.ANSWERS_DIFFER)
    assert all(1.0 - 1e-5 <= ratio <= 1.5 * (1.0 + 1e-5) for ratio in both)


@pytest.mark.parametrize("shards", [1, 3])
def test_max_score_speaks_of_the_whole_list(opensearch: OpenSearch, index: MakeIndex, shards: int) -> None:
    products = index(MAPPING, documents=shoes(), shards=shards)
    with rewriter(opensearch, products) as made:
        found = []
        for start in (0, 10, 20):
            hits, _, answer = searched(made, products, {"query": MATCH, "from": start, "size": 10})
            assert max(hit["_score"] for hit in hits) <= answer["hits"]["max_score"]
            found.append(answer["hits"]["max_score"])
            until_s = time.monotonic() + 20.0
            while made.status().in_flight and time.monotonic() < until_s:
                time.sleep(0.01)
    assert found[1:] == pytest.approx(found[:1] * 2)


def test_the_switch_max_boost_bounds_exploration_too(
    opensearch: OpenSearch, index: MakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_SWITCH_MAX_BOOST", "1.05")
    products = index(MAPPING, documents={name: {**source, "listed": "2999-01-01"} for name, source in shoes().items()})
    body = {"query": MATCH, "size": 20}
    with rewriter(opensearch, products, date_field="listed") as made:
        hits, report, _ = searched(made, products, body)
    base = every(opensearch, products, body)
    assert report.slots
    assert report.factor_limit_used == 1.05
    assert max(hit["_score"] / base[key(hit)]["_score"] for hit in hits) <= 1.05 * (1.0 + 1e-5)


# --- identity ---------------------------------------------------------------------------------------------------------


def test_one_id_under_several_routings(opensearch: OpenSearch, index: MakeIndex) -> None:
    products, others = (index(MAPPING, shards=5) for _ in range(2))
    actions = [
        {"_index": one, "_id": product, "routing": shop, "_source": {**source, "shop": shop}}
        for one in (products, others)
        for product, source in shoes(12).items()
        for shop in ("berlin", "paris", "rome")
    ]
    helpers.bulk(opensearch, actions, refresh=True)
    names = f"{products},{others}"
    with rewriter(opensearch, names) as made:
        seen: list[Any] = []
        for start in (0, 12, 24):
            hits, report, _ = searched(made, names, {"query": MATCH, "size": 12, "from": start})
            seen += map(key, hits)
            assert len(hits) == 12
            assert report.errors == ()
            until_s = time.monotonic() + 20.0
            while made.status().in_flight and time.monotonic() < until_s:
                time.sleep(0.01)
    assert len(set(seen)) == len(seen) == 36


# --- highlights -------------------------------------------------------------------------------------------------------


PHRASE = {"match_phrase": {"title": "trail shoe"}}
HIGHLIGHTS: tuple[dict[str, Any], ...] = (
    {"highlight": {"fields": {"title": {}}}},
    {"highlight": {"fields": {"title": {"type": "plain"}}}},
    {"highlight": {"fields": [{"title": {"number_of_fragments": 0}}], "pre_tags": ["<b>"], "post_tags": ["</b>"]}},
    {"highlight": {"fields": {"title": {}}, "highlight_query": {"match": {"title": "model"}}}},
    {"highlight": {"fields": {"title": {"highlight_query": {"match": {"title": "red"}}}}}},
    {"highlight": {"fields": {"*": {}}, "require_field_match": False}},
)


@pytest.mark.parametrize("highlight", HIGHLIGHTS, ids=json.dumps)
@pytest.mark.parametrize("form", ["rescore", "wrap", "collapse", "inner hits"])
def test_highlights_are_the_plain_client_s(
    opensearch: OpenSearch, index: MakeIndex, form: str, highlight: dict[str, Any]
) -> None:
    products = index(MAPPING, documents=shoes(), shards=2)
    query = {"bool": {"must": [PHRASE], "should": [{"match": {"title": "red"}}]}}
    body: dict[str, Any] = {"query": query, "size": 10, **highlight}
    if form == "collapse":
        body["collapse"] = {"field": "group"}
    if form == "inner hits":
        body["collapse"] = {"field": "group", "inner_hits": {"name": "more", "size": 9, **highlight}}
    with rewriter(opensearch, products, strategy="wrap" if form == "wrap" else "auto") as made:
        hits, _, _ = searched(made, products, body)
    own = {key(hit): hit.get("highlight") for hit in opensearch.search(
        index=products, body={"query": query, "size": 100, **highlight}
    )["hits"]["hits"]}  # fmt: skip
    shown = [
        *hits,
        *(one for hit in hits for part in hit.get("inner_hits", {}).values() for one in part["hits"]["hits"]),
    ]
    assert len(shown) >= 10
    assert {key(hit): hit.get("highlight") for hit in shown} == {key(hit): own[key(hit)] for hit in shown}
