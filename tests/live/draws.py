"""Random inputs for the tests of the promises: documents, bodies, templates, policies and counters.

Everything is drawn from one `random.Random`, so that a failure can be drawn again.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from opensearchpy import OpenSearch

from rewriter import Settings, Subject
from rewriter.signals.counters import Counters, Value
from rewriter.signals.store import Keys, Store

SEED = 20261124
POLICIES = 18
WORDS = ("shoe", "trail", "red", "light", "city", "run", "leather", "rain", "classic", "wide")
BRANDS = ("nike", "puma", '"}}],"min_score":0', "{{ 7*7 }}", "ünder\u2028", "1984", "true", "a b c")
TYPES = ("shoe", "boot", "sandal", "sock")
MAPPING: dict[str, Any] = {
    "title": {"type": "text"},
    "brand": {"type": "keyword"},
    "type": {"type": "keyword"},
    "size": {"type": "integer"},
    "popularity": {"type": "integer"},
    "listed": {"type": "date"},
}
FIELDS = {"brand": {}, "type_brand": {"of": ["type", "brand"]}, "size": {}}
SIZES = ("41", "42", "43.5", "XL", "", "1e400", "99999999999")
"""`size` is an integer: a term on most of these has the server refuse the search."""
DOCUMENTS = 400


def documents(chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(DOCUMENTS):
        source: dict[str, Any] = {
            "title": " ".join(chance.choices(WORDS, weights=range(len(WORDS), 0, -1), k=chance.randint(2, 9))),
            "type": chance.choice(TYPES),
            "size": chance.randint(30, 50),
            "popularity": chance.randint(1, 5_000),
            "listed": f"20{chance.randint(20, 26)}-0{chance.randint(1, 9)}-01",
        }
        if chance.random() < 0.95:
            source["brand"] = chance.choice(BRANDS)
        yield f"p{number}", source


# --- what is asked ----------------------------------------------------------------------------------------------------


def query(chance: random.Random) -> dict[str, Any]:
    words = " ".join(chance.sample(WORDS, chance.randint(1, 4)))
    match, sock = {"match": {"title": words}}, {"term": {"type": "sock"}}
    return chance.choice(
        (
            match,
            {"match": {"title": {"query": words, "operator": "or", "boost": chance.choice((0.1, 3.0)), "_name": "theirs"}}},
            {"bool": {"must": [match], "filter": [{"range": {"size": {"gte": 35}}}]}},
            {"bool": {"should": [match, {"term": {"brand": {"value": "nike", "_name": "theirs"}}}], "must_not": [sock]}},
            {"dis_max": {"queries": [match, {"match_phrase": {"title": "red shoe"}}], "tie_breaker": 0.3}},
            {"function_score": {"query": match, "field_value_factor": {"field": "popularity", "modifier": "log1p"}}},
            {"function_score": {"query": match, "functions": [{"filter": {"term": {"type": "boot"}}, "weight": 7}], "boost": 2}},
            {"constant_score": {"filter": match, "boost": 0.5}},
            {"bool": {"must": [{"bool": {"filter": [match]}}, match]}},
            {"query_string": {"query": words.replace(" ", " OR "), "default_field": "title"}},
        )
    )  # fmt: skip


def rescore(chance: random.Random) -> dict[str, Any]:
    rescored = {"rescore_query": {"match": {"title": "classic"}}, "rescore_query_weight": chance.choice((0.5, 4.0))}
    return {"window_size": chance.choice((5, 50, 300)), "query": rescored}


def body(chance: random.Random, *, size: int | None = None) -> dict[str, Any]:
    """A body on which boosts can act, most of the time."""
    drawn: dict[str, Any] = {"query": query(chance), "size": size or chance.randint(1, 20)}
    extras: tuple[dict[str, Any], ...] = (
        {"aggs": {"brands": {"terms": {"field": "brand"}}, "popular": {"max": {"field": "popularity"}}}},
        {"suggest": {"words": {"text": "sheo", "term": {"field": "title"}}}},
        {"highlight": {"fields": {"title": {}}}},
        {"_source": chance.choice((["title", "brand"], False, {"excludes": ["title"]}))},
        {"post_filter": {"terms": {"type": ["shoe", "boot"]}}},
        {"track_total_hits": chance.choice((True, False, 50))},
        {"sort": chance.choice(("_score", ["_score"], [{"_score": "desc"}]))},
        {"fields": ["brand"], "docvalue_fields": ["size"]},
        {"version": True, "seq_no_primary_term": True, "track_scores": True},
        chance.choice(
            (
                {"collapse": {"field": chance.choice(("brand", "type"))}},
                {"min_score": chance.choice((0.1, 1.0, 2.0))},
                {"rescore": rescore(chance)},
            )
        ),
    )  # fmt: skip
    for extra in chance.sample(extras, chance.randint(0, 4)):
        drawn |= extra
    return drawn


def policy(chance: random.Random, index: str, templates: str) -> dict[str, Any]:
    return {
        "index": index,
        "item_repeat_share": 1.0,
        "templates": templates,
        "max_boost": chance.choice((1.0001, 1.1, 1.25, 1.5, 2.0, 5.0, 10.0)),
        "strategy": chance.choice(("auto", "rescore", "wrap")),
        "exploration_share": chance.choice((0.0, 0.1, 0.125, 0.15, 0.2)),
        "exploration_pool": 60,
        "category_field": chance.choice((None, "type")),
        "date_field": chance.choice((None, "listed")),
        "browse": True,
        "fields": FIELDS,
    }


# --- what templates say -----------------------------------------------------------------------------------------------

EACH = "[{{% for a in affinities %}}{}{{% if not loop.last %}},{{% endif %}}{{% endfor %}}]"
TEMPLATES = {
    "default": "",
    "greedy": EACH.format('{"filter": {{ a.filter }}, "weight": 1e308}'),
    "many": EACH.format('{"filter": {"range": {"size": {"gte": {{ 30 + a.number }} }}}, "weight": {{ a.weight * 3 }}}'),
    "decays": '[{"gauss": {"popularity": {"origin": 0, "scale": 900}}, "weight": 0.4},'
    ' {"exp": {"listed": {"origin": "now", "scale": "400d"}}, "filter": {"exists": {"field": "brand"}}, "weight": 9}]',
    "odd": EACH.format(
        '{"filter": {"bool": {"should": [{{ a.filter }}, {"prefix": {"title": "cl"}}], "must_not": {"term": {"size": 40}},'
        ' "boost": 99, "_name": "rewriter:x"}}, "weight": {{ 0.01 if a.kind == "item" else a.weight }}}'
    ),
    "tiny": EACH.format('{"filter": {{ a.filter }}, "weight": 1e-12}'),
}
EXPLORATION = '{"filter": [{"range": {"size": {"gte": 32}}}], "functions": [{"random_score": {}, "weight": 5}]}'


def write_templates(folder: Path) -> None:
    """Write every set but the shipped one; each explores in its own way."""
    for name, boosts in TEMPLATES.items():
        if boosts:
            (folder / name).mkdir(parents=True)
            (folder / name / "boosts.json.j2").write_text(boosts)
            if name in ("greedy", "odd"):
                (folder / name / "exploration.json.j2").write_text(EXPLORATION)


# --- what the store holds ---------------------------------------------------------------------------------------------


def values(chance: random.Random) -> Iterator[Value]:
    for _ in range(chance.randint(1, 40)):
        brand, kind = chance.choice(BRANDS), chance.choice(TYPES)
        item = ("item", f"p{chance.randrange(DOCUMENTS)}")
        yield chance.choice((("brand", brand), ("type_brand", kind, brand), ("size", chance.choice(SIZES)), item))


def counters(chance: random.Random) -> Counters:
    weights = {value: chance.choice((1e-9, 0.5, 3.0, 40.0, 1e6, 1e99)) for value in values(chance)}
    totals = {name: chance.choice((0.0, 1.0, 50.0)) for name in (*FIELDS, "item")}
    now_s = time.time()
    landmark_s = now_s - chance.choice((0.0, 3_600.0, 90 * 86_400.0))
    return Counters(weights, totals, landmark_s, now_s, events=chance.choice((0.0, 1.0, 5.0, 1e6)))


def write_population(store: Store, keys: Keys) -> None:
    weights: dict[Value, float] = {("brand", brand): 50.0 + 10 * n for n, brand in enumerate(BRANDS)}
    weights |= {("type_brand", kind, brand): 20.0 for kind in TYPES for brand in BRANDS}
    store.write(keys.population(), Counters(weights, dict.fromkeys(FIELDS, 700.0), time.time()), None)


def spoil(client: redis.Redis, base: str, chance: random.Random) -> None:
    """Put beside a subject's counters what no writer of ours writes."""
    hostile: dict[Any, float] = {
        b"item\x1f": 1e9,
        b"item": 1e9,
        b"item\x1f\xff\xfe": 1e9,
        b"item\x1fa\x1fb": 1e9,
        b"nothing\x1fknown": 1e9,
        b"item\x1f" + b"x" * 1_000_000: 1e9,
        b"item\x1fp1": float("inf"),
        b"item\x1fp2": float("-inf"),
        b"brand\x1fnike": 1e308,
        b"brand\x1fpuma": -5.0,
    }
    chosen = chance.sample(sorted(hostile), chance.randint(1, len(hostile)))
    client.zadd(f"{base}:z", {member: hostile[member] for member in chosen})
    client.hset(
        f"{base}:m", mapping={"total:brand": chance.choice(("nan", "inf", "-1", "x", "1e999")), "events": "lots"}
    )


# --- the shop ---------------------------------------------------------------------------------------------------------


@dataclass
class Shop:
    """Two indices behind one alias for each policy, a store, and a rewriter with all the policies."""

    url: str
    client: OpenSearch
    store: Store
    raw: redis.Redis
    keys: Keys
    settings: Settings
    aliases: list[str]
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    def person(self) -> Subject:
        """Somebody new, with counters that are drawn; one in four has hostile ones beside them."""
        name = uuid.uuid4().hex
        for base in (self.keys.profile(name), self.keys.session(name)):
            if self.chance.random() < 0.8:
                self.store.write(base, counters(self.chance), 600)
            if self.chance.random() < 0.25:
                spoil(self.raw, base, self.chance)
        return Subject(name, name)
