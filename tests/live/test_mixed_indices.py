"""Boosts over indices that differ, on the real server: no shard fails, and where a term is taken it scores as ever.

Each type of field stands in an index of its own beside one of keywords, with several shards, behind one alias.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException

from rewriter import Reason, Report, Rewriter, Settings, Subject
from rewriter.boost.body import bounded_body
from rewriter.boost.functions import Boost
from rewriter.decide.quarantine import FAILURES
from rewriter.index_facts import dead_fields, facts_of, term_rules
from rewriter.settings import PolicySettings
from rewriter.shell.background.index_reader import SETTINGS
from rewriter.signals.affinities import clause, signal_fields
from rewriter.signals.counters import Counters, Value
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex
from tests.fakes import known, waited
from tests.live.engine import search_client
from tests.live.shelf import flat_settings

KEYWORD = {"type": "keyword"}
TITLE = {"type": "text"}
MATCH: dict[str, Any] = {"match": {"title": "shoe"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "scaled_float": {"scaling_factor": 100},
    "knn_vector": {"dimension": 2},
    "join": {"relations": {"x": "y"}},
    "alias": {"path": "title"},
    "constant_keyword": {"value": "nike"},
    "token_count": {"analyzer": "standard"},
}
TYPES = (
    "keyword", "wildcard", "constant_keyword", "text", "match_only_text", "search_as_you_type", "date", "date_nanos",
    "ip", "boolean", "byte", "short", "integer", "long", "unsigned_long", "half_float", "float", "double",
    "scaled_float", "token_count", "geo_point", "binary", "completion", "integer_range", "date_range", "ip_range",
    "rank_feature", "rank_features", "flat_object", "nested", "object", "join", "alias",
)  # fmt: skip
VALUES = (
    "nike",
    "17",
    "-1",
    "300",
    "1e3",
    "true",
    "2026-01-01",
    "10.0.0.1",
    "",
    "ü\u2028",
    "new balance",
    "x" * 300,
    "9" * 19,
)


@pytest.fixture
def alias(opensearch: OpenSearch) -> Callable[..., str]:
    def put(*indices: str) -> str:
        name = f"both-{uuid.uuid4().hex[:8]}"
        for index in indices:
            opensearch.indices.put_alias(index=index, name=name)
        return name

    return put


def documents(prefix: str, brand: Any = None) -> dict[str, dict[str, Any]]:
    """Nine shoes; every third has the brand."""
    return {
        f"{prefix}{number}": {"title": "shoe " * (1 + number % 4) + f"m{number}"}
        | ({"brand": brand} if brand is not None and number % 3 == 0 else {})
        for number in range(9)
    }


def scored(opensearch: OpenSearch, index: str, body: dict[str, Any]) -> dict[tuple[str, str], float]:
    found = opensearch.search(index=index, body=body | {"size": 100})
    assert found["_shards"]["failed"] == 0, found["_shards"]
    return {(hit["_index"], hit["_id"]): hit["_score"] for hit in found["hits"]["hits"]}


@pytest.mark.parametrize("kind", TYPES)
def test_no_shard_fails_whatever_an_index_maps_a_field_as(
    opensearch: OpenSearch, index: MakeIndex, alias: Callable[..., str], kind: str
) -> None:
    words = index({"title": TITLE, "brand": KEYWORD}, documents=documents("w", list(VALUES)), shards=2)
    other = index(
        {"title": TITLE, "brand": {"type": kind, **OPTIONS.get(kind, {})}}, documents=documents("o"), shards=3
    )
    without = index({"title": TITLE}, documents=documents("n"))
    both = alias(words, other, without)
    facts = facts_of(opensearch.indices.get_mapping(index=both), flat_settings(opensearch, both))
    policy = PolicySettings.model_validate(
        {"index": "*", "fields": {"brand": {}, "pair": {"of": ["brand", "brand"]}}, "item_field": "brand"}
    )
    assert "brand" not in {fault.where for fault in dead_fields(policy, facts)}
    field = signal_fields(policy, rules=term_rules(policy, facts))["brand"]
    pair = signal_fields(policy, rules=term_rules(policy, facts))["pair"]
    plain = scored(opensearch, both, {"query": MATCH})
    for values in [(value,) for value in VALUES] + [VALUES]:
        clauses = [dict(clause("attribute", ("brand",), values, 0, field.rules))]
        clauses += [dict(clause("combination", pair.fields, (value, value), 1, pair.rules)) for value in values]
        boosts = [Boost(one, 0.1) for one in clauses]
        for strategy in ("rescore", "wrap"):
            body = bounded_body({"query": MATCH}, boosts, 5.0, strategy, 200)
            now = scored(opensearch, both, body)
            assert now.keys() == plain.keys()
            for key, score in now.items():
                ratio = score / plain[key]
                assert 1 - 1e-6 <= ratio <= 5.0 * (1 + 1e-6)
                if key[0] == words and int(key[1][1:]) % 3 == 0:
                    assert ratio == pytest.approx(1.0 + 0.1 * len(boosts), rel=1e-5), (kind, values)
                elif key[0] == words:
                    assert ratio == pytest.approx(1.0)


def test_a_guarded_term_scores_as_a_plain_one(
    opensearch: OpenSearch, index: MakeIndex, alias: Callable[..., str]
) -> None:
    """A number that an index of keywords and one of longs both take: found in both, and words in the first alone."""
    words = index({"title": TITLE, "brand": KEYWORD}, documents=documents("w", ["17", "nike"]), shards=2)
    numbers = index({"title": TITLE, "brand": {"type": "long"}}, documents=documents("n", 17), shards=2)
    both = alias(words, numbers)
    facts = facts_of(opensearch.indices.get_mapping(index=both), flat_settings(opensearch, both))
    rules = signal_fields(policy := PolicySettings(index=("*",), item_field="brand"), rules=term_rules(policy, facts))[
        "item"
    ].rules
    plain = scored(opensearch, both, {"query": MATCH})
    for value, found_in in (("17", {words, numbers}), ("nike", {words})):
        boost = Boost(dict(clause("item", ("brand",), (value,), 0, rules)), 0.4)
        now = scored(opensearch, both, bounded_body({"query": MATCH}, [boost], 1.5, "rescore", 200))
        boosted = {key[0] for key, score in now.items() if score > plain[key] * 1.39}
        assert boosted == found_in


# --- whole searches ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    """Everybody likes nike and 17."""
    made, now_s = MemoryStore(), time.time()
    shares: dict[Value, float] = {("brand", value): 100.0 for value in ("nike", "puma", "17")}
    made.write(Keys().population(0), Counters(shares, {"brand": 300.0}, now_s, now_s, 300.0), None)
    liked = Counters({("brand", "nike"): 30.0, ("brand", "17"): 20.0}, {"brand": 50.0}, now_s, now_s, 30.0)
    for number in range(30):
        made.write(Keys().profile(f"u{number}"), liked, None)
    return made


def settings(*patterns: str, **policy: Any) -> Settings:
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {"shop": {"index": list(patterns), "fields": {"brand": {}}, "item_field": None} | policy},
        }
    )


@pytest.fixture
def rewriter(opensearch_url: str, store: MemoryStore) -> Iterator[Callable[..., Rewriter]]:
    opened: list[Rewriter] = []
    client = search_client(opensearch_url)

    def open_(*patterns: str, leg_client: Any = None, **policy: Any) -> Rewriter:
        made = Rewriter(client, store, settings(*patterns, **policy), leg_client=leg_client)
        made.search(index="*", body={"size": 0}, subject=None)
        assert waited(lambda: made.status().population_values > 0)
        opened.append(made)
        return made

    yield open_
    for one in opened:
        one.close()


def searched(rewriter: Rewriter, index: str, user: int = 0, body: Any = None, **params: Any) -> Report:
    return rewriter.search_details(index=index, body=body or {"query": MATCH}, subject=Subject(f"u{user}"), **params)[1]


@pytest.mark.parametrize("kind", ["date", "ip", "long", "geo_point"])
@pytest.mark.parametrize("strategy", ["rescore", "wrap"])
def test_fields_of_two_types_behind_an_alias_personalize_and_lose_nothing(
    opensearch: OpenSearch, index: MakeIndex, alias: Callable[..., str], rewriter: Any, kind: str, strategy: str
) -> None:
    words = index({"title": TITLE, "brand": KEYWORD}, documents=documents("w", "nike"), shards=2)
    both = alias(words, index({"title": TITLE, "brand": {"type": kind}}, documents=documents("o"), shards=2))
    opened = rewriter("both-*", strategy=strategy)
    searched(opened, both)
    assert waited(lambda: both in opened.status().indices)
    body = {"query": MATCH, "size": 5, "aggs": {"n": {"value_count": {"field": "title.x"}}}}
    plain = opensearch.search(index=both, body=body)
    response, report = opened.search_details(index=both, body=body, subject=Subject("u1"))
    assert report.reason is Reason.PERSONALIZED, report
    for part in ("aggregations", "_shards", "timed_out"):
        assert response[part] == plain[part]
    assert response["hits"]["total"] == plain["hits"]["total"]
    assert len(response["hits"]["hits"]) == 5
    assert any(words == hit["_index"] and hit["_source"].get("brand") == "nike" for hit in response["hits"]["hits"])


def test_the_sixty_fifth_expression_is_known_and_a_narrow_window_harms_no_other(
    opensearch: OpenSearch, index: MakeIndex, rewriter: Any
) -> None:
    properties = {"title": TITLE, "brand": KEYWORD}
    wide = index(properties, documents=documents("w", "nike"))
    narrow = index(properties, documents=documents("n", "nike"), settings={"max_rescore_window": 100})
    aliases = [f"shop-{uuid.uuid4().hex[:8]}-{number}" for number in range(70)]
    actions: list[Any] = [{"add": {"index": wide, "alias": name}} for name in aliases]
    last = f"{aliases[0]}-narrow"
    opensearch.indices.update_aliases(body={"actions": [*actions, {"add": {"index": narrow, "alias": last}}]})
    opened = rewriter("shop-*")
    for name in [*aliases, last]:
        searched(opened, name)
    assert waited(lambda: {*aliases, last} <= set(opened.status().indices))
    for user in range(2 * FAILURES):
        report = searched(opened, last, user)
        assert (report.reason, report.detail.partition(">")[0]) == (Reason.UNSUPPORTED, "`window_size` "), report
    assert searched(opened, aliases[5]).reason is Reason.PERSONALIZED
    assert opened.status().quarantined == ()


def test_a_process_s_first_searches_condemn_nothing(index: MakeIndex, rewriter: Any) -> None:
    """The facts would say that the window is too large; they are not read yet."""
    narrow = index(
        {"title": TITLE, "brand": KEYWORD}, documents=documents("n", "nike"), settings={"max_rescore_window": 100}
    )
    wide = index({"title": TITLE, "brand": KEYWORD}, documents=documents("w", "nike"))
    opened = rewriter("*")
    reasons = {searched(opened, narrow, user).reason for user in range(20)}
    assert reasons <= {Reason.NO_FACTS, Reason.UNSUPPORTED}
    known(opened, wide)
    assert searched(opened, wide).reason is Reason.PERSONALIZED


def test_a_missing_name_under_ignore_unavailable_is_no_problem(index: MakeIndex, rewriter: Any) -> None:
    name = index({"title": TITLE, "brand": KEYWORD}, documents=documents("w", "nike"))
    opened = rewriter("*")
    for expression in (f"{name},no-such-index-at-all", "no-such-index-at-all"):
        searched(opened, expression, ignore_unavailable=True)
        assert waited(lambda one=expression: f"{one}?ignore_unavailable=true" in opened.status().indices)  # type: ignore[misc]
    assert searched(opened, f"{name},no-such-index-at-all", ignore_unavailable=True).reason is Reason.PERSONALIZED
    assert opened.status().problems == ()


def test_a_role_without_rights_is_passed_through_and_told(
    opensearch: OpenSearch, index: MakeIndex, rewriter: Any
) -> None:
    name = index({"title": TITLE, "brand": KEYWORD}, documents=documents("w", "nike"))

    class Legs:
        def __init__(self) -> None:
            self.indices = self

        def search(self, **arguments: Any) -> Any:
            return opensearch.search(**arguments)

        def get_mapping(self, **_: Any) -> Any:
            raise AuthorizationException(403, "security_exception", {})

        get_settings = get_mapping

    opened = rewriter("*", leg_client=Legs())
    searched(opened, name)
    assert waited(lambda: any(f"facts of {name}:" in problem for problem in opened.status().problems))
    report = searched(opened, name)
    assert (report.reason, "403" in report.detail) == (Reason.NO_FACTS, True)
    assert any("indices:monitor/settings/get" in problem for problem in opened.status().problems)


OVERLONG = {"highlight.max_analyzed_offset": 60}


def overlong(count: int = 9) -> dict[str, dict[str, Any]]:
    """Shoes of which the liked ones, which boosts bring to the page, have texts too long to highlight."""
    found = documents("w")
    for number in range(count, count + 9):
        text = "shoe " + "word " * 40
        found[f"w{number}"] = {"title": text, "brand": "nike", "parts": [{"text": text}]}
    for number in range(count):
        found[f"w{number}"]["parts"] = [{"text": "shoe"}]
    return found


HIGHLIGHT: dict[str, Any] = {"highlight": {"fields": {"title": {}}}}
IN_PARTS: dict[str, Any] = {"highlight": {"fields": {"parts.text": {}}}}
PARTS: dict[str, Any] = {
    "nested": {"path": "parts", "query": {"match": {"parts.text": "shoe"}}, "inner_hits": IN_PARTS}
}


@pytest.mark.parametrize(
    "body",
    [
        {"query": MATCH, "size": 5, **HIGHLIGHT},
        {"query": {"bool": {"must": [MATCH], "should": [PARTS]}}, "size": 5},
        {
            "query": MATCH,
            "size": 5,
            "script_fields": {"x": {"script": "doc['brand'].size() == 0 ? 1 : Integer.parseInt(doc['brand'].value)"}},
        },
    ],
    ids=["highlight", "inner_hits with a highlight", "script_fields"],
)
def test_a_body_that_one_hit_breaks_is_held_alone(index: MakeIndex, rewriter: Any, body: dict[str, Any]) -> None:
    properties = {
        "title": TITLE,
        "brand": KEYWORD,
        "parts": {"type": "nested", "properties": {"text": TITLE}},
    }
    name = index(properties, documents=overlong(), settings=OVERLONG)
    opened = rewriter("*", max_boost=10, fields={"brand": {"scale": 9.0}}, saturation=0.1, exploration_share=0)
    known(opened, name)
    reasons = [searched(opened, name, user, body).reason for user in range(20)]
    assert reasons[0] is Reason.SEARCH_REJECTED
    assert Reason.QUARANTINED not in reasons
    assert reasons[-1] is Reason.REJECTED_BEFORE
    assert searched(opened, name).reason is Reason.PERSONALIZED
    assert opened.status().quarantined == ()
    assert opened.status().breaker["state"] == "closed"


def test_only_the_settings_that_matter_are_read(opensearch: OpenSearch, index: MakeIndex, rewriter: Any) -> None:
    name = index(
        {"title": TITLE, "brand": KEYWORD, **{f"f{n}": KEYWORD for n in range(200)}}, documents=documents("w", "nike")
    )
    found = opensearch.indices.get_settings(index=name, name=",".join(SETTINGS), params={"flat_settings": "true"})
    assert set(found[name]["settings"]) <= set(SETTINGS)
    opened = rewriter("*")
    known(opened, name)
    assert set(opened._runtimes.started().core.snapshot.facts[name].fields) == {"brand"}
