"""`rewriter forget` reaches the caches of search processes: plans of open lists, and last known signals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.signals.counters import Counters, Value
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.erasure import forget
from rewriter.signals.redis_store import RedisStore

SUBJECTS = [Subject("somebody"), Subject("somebody", "a-session-without-events")]


@pytest.fixture
def settings(redis_url: str, prefix: str, products: str) -> Settings:
    return Settings.model_validate(
        {
            "store": {"url": redis_url, "prefix": prefix},
            "experiment": {"holdout": 0},
            "signals": {"on_late": "stale"},
            "budget": {"signals_ms": 1_000, "cutoff_ms": 5_000},
            "policies": {"shelf": {"index": products, "item_repeat_share": 1.0, "fields": {"brand": {}}}},
        }
    )


@pytest.fixture
def store(redis_url: str, settings: Settings) -> Iterator[RedisStore]:
    store, keys, now_s = RedisStore(redis_url), CountingRules.of(settings).keys, time.time()
    everybody: dict[Value, float] = {("brand", name): 100.0 for name in ("nike", "puma", "asics", "fila")}
    store.write(keys.population(0), Counters(everybody, {"brand": 400.0}, now_s, now_s, 400.0), None)
    liked = Counters({("brand", "puma"): 300.0}, {"brand": 300.0}, now_s, now_s, 30.0)
    store.write(keys.profile("somebody"), liked, None)
    yield store
    store.close()


@pytest.fixture
def page(opensearch: OpenSearch, redis_url: str, settings: Settings, products: str) -> Iterator[Callable[..., Any]]:
    with Rewriter(opensearch, redis_url, settings) as rewriter:

        def page(number: int, subject: Subject) -> Any:
            body = {"query": {"match": {"title": "shoe"}}, "from": 10 * number}
            return rewriter.search_details(index=products, body=body, subject=subject)[1]

        page.rewriter = rewriter  # type: ignore[attr-defined]
        yield page


def until(wanted: Callable[[], Any]) -> None:
    late_s = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < late_s
        time.sleep(0.1)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_list_under_way_ends_and_leaves_no_plan(
    store: RedisStore, settings: Settings, page: Callable[..., Any], subject: Subject
) -> None:
    until(lambda: page(0, subject).reason is Reason.PERSONALIZED)
    assert page(1, subject).reason is Reason.PERSONALIZED
    until(lambda: list(store.keys(f"{settings.store.prefix}:*:plan:*")))
    forget(store, store, CountingRules.of(settings), "somebody")
    report = page(1, subject)
    assert (report.reason, report.boosts) == (Reason.NO_PLAN, ())
    time.sleep(0.3)  # a plan is saved beside the search
    left = list(store.keys(f"{settings.store.prefix}:*:plan:*"))
    assert left == [] or subject.session_id  # one of a session without events is of no use, and goes by itself
    assert page(1, subject).reason is Reason.NO_PLAN
    assert page(0, subject).reason is Reason.NO_SIGNALS


def test_processes_drop_plans_and_last_known_signals(
    store: RedisStore, settings: Settings, page: Callable[..., Any]
) -> None:
    subject = SUBJECTS[0]
    until(lambda: page(0, subject).reason is Reason.PERSONALIZED)
    core = page.rewriter._runtime.core  # type: ignore[attr-defined]
    until(lambda: len(core.plans._kept))
    assert len(core.last_known._kept)
    until(lambda: page.rewriter._runtime.refresh._forgets is None)  # type: ignore[attr-defined]
    forget(store, store, CountingRules.of(settings), "somebody")
    until(lambda: not len(core.plans._kept) and not len(core.last_known._kept))


def test_whoever_comes_back_begins_anew(store: RedisStore, settings: Settings, page: Callable[..., Any]) -> None:
    subject = SUBJECTS[0]
    until(lambda: page(0, subject).reason is Reason.PERSONALIZED)
    forget(store, store, CountingRules.of(settings), "somebody")
    later_s = time.time() + 1
    liked = Counters({("brand", "nike"): 300.0}, {"brand": 300.0}, later_s, later_s, 30.0)
    assert store.write(CountingRules.of(settings).keys.profile("somebody"), liked, None)
    report = page(0, subject)
    assert report.reason is Reason.PERSONALIZED
    assert {boost.value for boost in report.boosts} == {"nike"}
    assert page(1, subject).reason is Reason.PERSONALIZED
