"""Nothing that a rewriter holds grows without a bound, in entries and in bytes, whatever searches come."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from rewriter import Settings, Subject
from rewriter.bounded import Bounded
from rewriter.decide import call_runs, exposure, hedging, unrewritten
from rewriter.decide.call_runs import CallRuns
from rewriter.decide.unrewritten import Unrewritten
from rewriter.explore.plan_memory import PlanKey, PlanMemory
from rewriter.expression import MAX_BYTES, MAX_CHARS, MAX_EXPRESSIONS, Expression, Searched
from rewriter.index_facts import IndexFacts
from rewriter.report import Reason
from rewriter.settings import StoreSettings
from rewriter.signals.query_classes import QueryClasses
from tests.fakes import HARNESSES, Harness
from tests.held_memory import containers, memory_of, objects
from tests.likes import store

SEARCHES = 1_000
FEW = 200
"""What no number of searches may lead beyond, except in the containers below."""

BOUNDS = {
    "Arms._sessions": exposure.REMEMBERED,
    "CallRuns._runs": call_runs.MAX_RUNS + 1,
    "Hedging._took_s": hedging.REMEMBERED, "Hedging._sorted_s": hedging.REMEMBERED,
    "Searched._last_s": MAX_EXPRESSIONS, "Searched._new": MAX_EXPRESSIONS, "Searched._gone": MAX_EXPRESSIONS,
    "IndexReader._known": MAX_EXPRESSIONS, "IndexReader._planned": MAX_EXPRESSIONS, "IndexReader._due": 3 * MAX_EXPRESSIONS,
    "IndexReader._unreadable": MAX_EXPRESSIONS, "Snapshot.facts": MAX_EXPRESSIONS, "Snapshot.fields_on": MAX_EXPRESSIONS,
    "Snapshot.unreadable": MAX_EXPRESSIONS,
}  # fmt: skip
MAX_MEMORY = 16 * 2**20
"""Of all of it after so many searches: pools and plans of these take half of that."""

POLICY = {"index": "products*", "item_repeat_share": 1.0, "fields": {"brand": {}}}


def settings(mode: str) -> Settings:
    given = {
        "experiment": {"holdout": 0.1}, "budget": {"signals_ms": 2000, "cutoff_ms": 5000}, "signals": {"on_late": "stale"},
        "policies": {"shop": {**POLICY, "mode": mode, "hedge_ms": 5000}},
    }  # fmt: skip
    return Settings.model_validate(given)


def odd_searches(count: int) -> list[tuple[Subject | None, dict[str, Any]]]:
    """Searches by ever new subjects, for ever new queries, on ever new indices, with long texts in every place."""
    chance = random.Random(3)
    made: list[tuple[Subject | None, dict[str, Any]]] = []
    for n in range(count):
        long = "x" * chance.choice((1, 1, 1, 300, 20_000))
        index = (
            "products" if n % 2 else chance.choice((f"products-{n}", f"products-{n}{long}", f"products,products-{n}"))
        )
        body: dict[str, Any] = {"query": {"match": {"title": f"word{n} {long[:300]}"}}, "from": 10 * (n % 5 == 0)}
        if n % 9 == 0:
            body["query"] = {"bool": {"must": [{"match": {f"field{n}": long}}], "filter": [{"term": {f"f{n}": n}}]}}
        if n % 11 == 0:
            body["_source"] = [f"a{n}", long]
        if n % 500 == 7:
            body["query"] = {"match": {"title": "long " * 1_000_000}}
        arguments = {"index": index, "body": body}
        if n % 7 == 0:
            arguments["params"] = {"routing": f"r{n}{long}", "preference": f"p{n}"}
        if n % 13 == 0:
            arguments["headers"] = {f"x-{n}": long}
        user = f"ann{n % 1_000}" if n % 3 else f"user-{n}{long if n % 2 else ''}"
        made.append((Subject(user, f"s{n}{long if n % 6 == 0 else ''}", segments=(f"seg{n % 400}",)), arguments))
    return made


@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
def test_no_container_grows_beyond_its_bound(kind: type[Harness], mode: str) -> None:
    with kind(settings(mode), store(*(f"ann{n}" for n in range(1_000)))) as harness:
        reasons = set()
        for subject, arguments in odd_searches(SEARCHES):
            if "headers" in arguments:
                harness.msearch(subject, {"body": [{"index": arguments["index"]}, arguments["body"]]})
            else:
                reasons.add(harness.search(subject, arguments)[1].reason)
        harness.status()
        assert {Reason.PERSONALIZED, Reason.UNSUPPORTED} <= reasons
        beyond = []
        for owner, container in containers(harness.rewriter):
            if owner == "Bounded._kept":
                continue  # below
            if len(container) > BOUNDS.get(owner, FEW):
                beyond.append((owner, type(container).__name__, len(container)))
        assert beyond == []
        assert memory_of(harness.rewriter) < MAX_MEMORY
        caches = [one for one in objects(harness.rewriter) if isinstance(one, Bounded)]
        assert len(caches) >= 8
        assert sum(len(one) > FEW for one in caches) >= 3
        for one in caches:
            counted = one._bytes
            taken = memory_of(one, without=(IndexFacts,))
            counted = max(counted, one._bytes)  # the background's threads may put and evict meanwhile
            assert one._bytes <= one._max_bytes
            assert taken <= 1.25 * counted + 2_000


def fill_plans() -> Bounded[Any, Any]:
    memory = PlanMemory(StoreSettings())
    for n in range(500):
        key = PlanKey(f"rw:{{s:{n:032x}}}:plan:{n % 16}", f"{n:032x}")
        memory.wait(key, lambda n=n: b"p" * (400 + n), in_store=True)  # type: ignore[misc]
        memory.saved(memory.all_waiting(), 0.0, stored=[key] if n % 2 else [])
    return memory._kept


def fill_classes() -> Bounded[Any, Any]:
    memory = QueryClasses()
    for n in range(500):
        memory.put(f"{n:032x}", (f"class {n}", "x" * (n + 1)), 0.0)
    return memory._kept


def fill_unrewritten_searches() -> Bounded[Any, Any]:
    memory = Unrewritten()
    for n in range(500):
        memory.put_search(f"{n:032x}", Reason.NO_RELEVANCE, f"a detail of its own {n}", 0.0)
    return memory._searches


def fill_unrewritten_expressions() -> Bounded[Any, Any]:
    memory = Unrewritten()
    for n in range(5_000):
        memory.put_expression(f"{n}" + "x" * 2_000, None, f"a cause of its own {n}", 0.0)
    assert len(memory._partial) < unrewritten.MAX_EXPRESSIONS
    return memory._partial


@pytest.mark.parametrize("fill", [fill_plans, fill_classes, fill_unrewritten_searches, fill_unrewritten_expressions])
def test_a_cache_counts_what_its_entries_take(fill: Callable[[], Bounded[Any, Any]]) -> None:
    cache = fill()
    assert len(cache) >= 500
    assert cache._bytes <= cache._max_bytes
    assert 0.5 * cache._bytes <= memory_of(cache) <= 1.25 * cache._bytes


def test_long_index_expressions_take_no_more_memory_than_many_short_ones() -> None:
    searched = Searched()
    searched.note(Expression(("x" * MAX_CHARS, "y")), 0.0)
    assert len(searched) == 0
    for n in range(3_000):
        searched.note(Expression((f"{n}", "x" * (MAX_CHARS - 10) + f"{n % 10}")), float(n))
    assert len(searched) > 300
    assert memory_of(searched) <= 1.25 * MAX_BYTES
    assert searched.last_s(Expression(("2999", "x" * (MAX_CHARS - 10) + "9"))) == 2999.0


def test_a_window_of_calls_takes_memory_by_time_and_not_by_rate() -> None:
    runs = CallRuns()
    for n in range(120_000):
        runs.add(0, n / 2_000)
    assert len(runs) == 120_000
    assert memory_of(runs) < 400_000
    assert sum(runs.drop() for _ in range(120_000)) == len(runs) == 0
    for n in range(10_000):
        runs.add(n % 2, 0.0)
        while runs.full:
            runs.drop()
    assert len(runs) == call_runs.MAX_RUNS
