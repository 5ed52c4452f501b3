"""The all-words gate on a real server: what it finds is what holds every word, whatever the analyzers make of the words."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch, helpers

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.boost.all_words import all_words
from rewriter.boost.body import bounded_body, own_names
from rewriter.boost.functions import Boost
from rewriter.index_facts import IndexFacts
from rewriter.report import Strategy
from rewriter.signals.counters import Counters, Value
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys

ANALYSIS = {
    "analyzer": {
        "plain": {"tokenizer": "standard", "filter": ["lowercase"]},
        "stopped": {"tokenizer": "standard", "filter": ["lowercase", "stop"]},
        "stemmed": {"tokenizer": "standard", "filter": ["lowercase", "stop", "porter_stem"]},
        "synonyms": {"tokenizer": "standard", "filter": ["lowercase", "same"]},
        "grams": {"tokenizer": "standard", "filter": ["lowercase", "edges"]},
    },
    "filter": {
        "same": {"type": "synonym_graph", "synonyms": ["sneaker, trainer", "tee, t shirt", "red => crimson, scarlet"]},
        "edges": {"type": "edge_ngram", "min_gram": 2, "max_gram": 10},
    },
}
TEXT: dict[str, Any] = {
    "type": "text",
    "analyzer": "plain",
    "fields": {
        "stopped": {"type": "text", "analyzer": "stopped"},
        "stemmed": {"type": "text", "analyzer": "stemmed"},
        "synonyms": {"type": "text", "analyzer": "plain", "search_analyzer": "synonyms"},
        "grams": {"type": "text", "analyzer": "grams", "search_analyzer": "plain"},
        "raw": {"type": "keyword"},
    },
}
MAPPING = {"title": TEXT, "body": TEXT, "brand": {"type": "keyword"}, "price": {"type": "double"}}
ANALYZERS = {"": "plain", ".stopped": "stopped", ".stemmed": "stemmed", ".synonyms": "synonyms", ".grams": "plain"}
KNOWN = IndexFacts(
    fields={
        **{f"{root}{sub}": "text" for root in ("title", "body") for sub in ANALYZERS},
        **{f"{root}.raw": "keyword" for root in ("title", "body")},
        "brand": "keyword",
        "price": "double",
    },
    analyzers={f"{root}{sub}": analyzer for root in ("title", "body") for sub, analyzer in ANALYZERS.items()},
)
VOCABULARY = [
    *("the", "of", "and", "red", "crimson", "scarlet", "blue", "nike"),
    *("shoe", "shoes", "running", "runner", "run", "sneaker", "trainer", "tee", "t", "shirt"),
]
TEXTS = [
    "red shoe",
    "the shoe of nike",
    "running shoes",
    "sneaker blue",
    "tee",
    "red t shirt",
    "ru sho",
    "nike",
    "NIKE the",
]
PRICED = {"exists": {"field": "price"}}
SEED = 11


@pytest.fixture(scope="module")
def index(opensearch: OpenSearch) -> Iterator[str]:
    name, chance = f"words-{uuid.uuid4().hex[:8]}", random.Random(SEED)
    opensearch.indices.create(
        index=name,
        body={
            "settings": {"number_of_shards": 2, "number_of_replicas": 0, "analysis": ANALYSIS},
            "mappings": {"properties": MAPPING},
        },
    )
    documents = [
        {
            "title": " ".join(chance.choices(VOCABULARY, k=chance.randint(0, 4))),
            "body": " ".join(chance.choices(VOCABULARY, k=chance.randint(0, 3))),
            "brand": chance.choice(["nike", "red shoe", "none"]),
            "price": at,
        }
        for at in range(400)
    ]
    helpers.bulk(
        opensearch, ({"_index": name, "_id": at, "_source": one} for at, one in enumerate(documents)), refresh=True
    )
    yield name
    opensearch.indices.delete(index=name)


def found(client: OpenSearch, index: str, query: Any) -> set[str]:
    hits = client.search(index=index, body={"query": query, "size": 1_000, "_source": False})["hits"]["hits"]
    return {hit["_id"] for hit in hits}


def holding(client: OpenSearch, index: str, text: str, fields: list[str], analyzer: str) -> set[str]:
    """The documents that hold every word in any of the fields: one term query a token, the tokens as the server makes them."""
    tokens = client.indices.analyze(index=index, body={"analyzer": analyzer, "text": text})["tokens"]
    held: set[str] | None = None
    for position in sorted({token["position"] for token in tokens}):
        terms = [{"term": {name: one["token"]}} for one in tokens if one["position"] == position for name in fields]
        at = found(client, index, {"bool": {"should": terms}})
        held = at if held is None else held & at
    return held or set()


@pytest.mark.parametrize("sub", [sub for sub in ANALYZERS if sub != ".synonyms"])
@pytest.mark.parametrize("kind", ["match", "multi_match", "query_string", "bool"])
def test_the_gate_finds_what_holds_every_word(opensearch: OpenSearch, index: str, sub: str, kind: str) -> None:
    """Stop words count for no word, stems and n-grams count as the words they are of; words may lie in two fields."""
    seen = 0
    for text in TEXTS:
        fields = [f"title{sub}"] if kind == "match" else [f"title{sub}", f"body{sub}"]
        queries: dict[str, dict[str, Any]] = {
            "match": {"match": {fields[0]: {"query": text, "minimum_should_match": "50%"}}},
            "multi_match": {"multi_match": {"query": text, "fields": fields, "type": "most_fields"}},
            "query_string": {"query_string": {"query": text, "fields": fields}},
            "bool": {"bool": {"should": [{"multi_match": {"query": text, "fields": fields}}], "filter": PRICED}},
        }  # fmt: skip
        query = queries[kind]
        gate = all_words(query, KNOWN).clause
        assert gate is not None
        wanted = holding(opensearch, index, text, fields, ANALYZERS[sub])
        assert found(opensearch, index, {"constant_score": {"filter": gate}}) == wanted
        assert wanted <= found(opensearch, index, query)
        seen += len(wanted)
    assert seen > 20


@pytest.mark.parametrize("kind", ["query_string", "simple_query_string"])
def test_the_server_accepts_the_gate_of_a_lenient_query(opensearch: OpenSearch, index: str, kind: str) -> None:
    """Words are no numbers: a query that ignores this has a gate that does so too."""
    lenient: dict[str, Any] = {kind: {"query": "red", "fields": ["price"], "lenient": True}}
    for query in (lenient, {"bool": {"should": [{"match": {"title": "red"}}, lenient]}}):
        gate = all_words(query, KNOWN).clause
        assert gate is not None
        assert found(opensearch, index, {"constant_score": {"filter": gate}}) <= found(opensearch, index, query)


@pytest.mark.parametrize("blank", ["", "  ", "!?", "\u3000"])
def test_an_empty_search_box_boosts_all_hits(opensearch: OpenSearch, index: str, blank: str) -> None:
    """No document holds what has no words: a gate of it would let no boost act."""
    clause = {"match": {"title": blank}}
    assert found(opensearch, index, clause) == set()
    query = {"bool": {"must": [PRICED], "should": [clause]}}
    assert len(found(opensearch, index, query)) > 100
    assert all_words(query, KNOWN).clause is None


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("sneaker blue", [["sneaker", "blue"], ["trainer", "blue"]]),
        ("red shoe", [["crimson", "shoe"], ["scarlet", "shoe"]]),
    ],
)
def test_synonyms_of_one_word_hold_it(opensearch: OpenSearch, index: str, text: str, means: list[list[str]]) -> None:
    gate = all_words({"match": {"title.synonyms": text}}, KNOWN).clause
    wanted: set[str] = set()
    for words in means:
        terms = [{"term": {"title": word}} for word in words]
        wanted |= found(opensearch, index, {"bool": {"filter": terms}})
    assert wanted
    assert found(opensearch, index, gate) == wanted


def test_a_synonym_of_several_words_holds_one_as_a_phrase(opensearch: OpenSearch, index: str) -> None:
    gate = all_words({"match": {"title.synonyms": "tee"}}, KNOWN).clause
    wanted = found(opensearch, index, {"term": {"title": "tee"}}) | found(
        opensearch, index, {"match_phrase": {"title": "t shirt"}}
    )
    assert found(opensearch, index, gate) == wanted


def test_a_whole_value_holds_the_words_where_a_part_of_it_holds_none(opensearch: OpenSearch, index: str) -> None:
    """A keyword is never split, so that `nike` in `brand` and `red` in `title` is no match of the query's own either."""
    query = {"multi_match": {"query": "red shoe", "fields": ["title", "body", "brand"]}}
    gate = all_words(query, KNOWN).clause
    wanted = holding(opensearch, index, "red shoe", ["title", "body"], "plain") | found(
        opensearch, index, {"term": {"brand": "red shoe"}}
    )
    assert found(opensearch, index, gate) == wanted


def test_sub_fields_read_a_field_once_more(opensearch: OpenSearch, index: str) -> None:
    fields = ["title", "title.stemmed", "title.grams", "body"]
    gate = all_words({"multi_match": {"query": "running shoes", "fields": fields}}, KNOWN).clause
    plain = holding(opensearch, index, "running shoes", ["title", "title.grams", "body"], "plain")
    stemmed = holding(opensearch, index, "running shoes", ["title.stemmed"], "stemmed")
    assert plain
    assert stemmed - plain
    assert found(opensearch, index, gate) == plain | stemmed


def test_no_gate_where_analyzers_differ_between_fields(opensearch: OpenSearch, index: str) -> None:
    """`cross_fields` looks for all words within the fields of one analyzer: it would miss what holds one in each."""
    fields = ["title.stopped", "body.stemmed"]
    query = {"multi_match": {"query": "nike shoe", "fields": fields}}
    assert all_words(query, KNOWN).clause is None
    wrong = {"multi_match": {"query": "nike shoe", "fields": fields, "type": "cross_fields", "operator": "and"}}
    spread = {"bool": {"filter": [{"term": {"title": "nike"}}, {"term": {"body": "shoe"}}]}}
    assert found(opensearch, index, spread) - found(opensearch, index, wrong)


@pytest.mark.parametrize("strategy", ["rescore", "wrap"])
@pytest.mark.parametrize("text", ["red shoe", "nike shoe", "blue shoe"])
def test_boosts_act_on_hits_with_every_word_and_change_no_match(
    opensearch: OpenSearch, index: str, strategy: Strategy, text: str
) -> None:
    """Factor 1 exactly for hits that lack a word, the boost's own for the others that it matches, and the same hits in all."""
    query = {"multi_match": {"query": text, "fields": ["title", "body"], "type": "most_fields"}}
    gate = all_words(query, KNOWN).clause
    holds = holding(opensearch, index, text, ["title", "body"], "plain")
    body = {"query": query, "size": 1_000, "track_total_hits": True}
    boosts = [Boost({"range": {"price": {"lt": 200}}}, 0.5), Boost({"term": {"brand": "nike"}}, 0.25)]
    plain = opensearch.search(index=index, body=body)["hits"]
    found = opensearch.search(index=index, body=bounded_body(body, boosts, 2.0, strategy, 1_000, gate))["hits"]
    assert found["total"] == plain["total"]
    before = {hit["_id"]: hit for hit in plain["hits"]}
    assert {hit["_id"] for hit in found["hits"]} == before.keys()
    lacking = raised = 0
    for hit in found["hits"]:
        source = before[hit["_id"]]["_source"]
        wanted = [number for number, acts in enumerate((source["price"] < 200, source["brand"] == "nike")) if acts]
        wanted = wanted if hit["_id"] in holds else []
        factor = 1.0 + sum(boosts[number].weight for number in wanted)
        assert hit["_score"] / before[hit["_id"]]["_score"] == pytest.approx(factor, rel=1e-6)
        assert own_names(hit, gated=strategy == "rescore") == tuple(wanted)
        lacking += hit["_id"] not in holds
        raised += bool(wanted)
    assert lacking > 20
    assert raised > 1


@pytest.mark.parametrize("all_words_only", [True, False])
def test_a_search_boosts_hits_with_every_word_alone(opensearch: OpenSearch, index: str, all_words_only: bool) -> None:
    """Ann likes nike: what holds one word of two and is a nike stays where it was, unless the policy wants it otherwise."""
    store, now_s = MemoryStore(), time.time()
    store.write(Keys().profile("ann"), Counters({("brand", "nike"): 9.0}, {"brand": 9.0}, now_s, now_s, 3.0), None)
    everybody: dict[Value, float] = {("brand", one): 1_000.0 for one in ("nike", "red shoe", "none")}
    store.write(Keys().population(0), Counters(everybody, {"brand": 3_000.0}, now_s, now_s, 9.0), None)
    policy = {
        "index": index,
        "fields": {"brand": {"scale": 1.0, "pseudo_count": 0.0}},
        "saturation": 0.5,
        "max_boost": 2.0,
        "exploration_share": 0,
        "all_words": all_words_only,
        "named_share": 1,
    }
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {"shop": policy},
        }
    )
    body = {"query": {"match": {"title": "red shoe"}}, "size": 20}
    holds = holding(opensearch, index, "red shoe", ["title"], "plain")
    with Rewriter(opensearch, store, settings) as rewriter:
        assert rewriter.wait_ready(20.0), rewriter.status()
        _, report = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
        assert report.reason is Reason.PERSONALIZED, report
        second, _ = rewriter.search_details(index=index, body=body | {"from": 20}, subject=Subject("ann"))
    assert all("matched_queries" not in hit for hit in second["hits"]["hits"])
    raised = {move.id for move in report.moves if move.boosts}
    lacking = raised - holds
    assert raised
    assert bool(lacking) is not all_words_only
