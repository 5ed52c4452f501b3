"""A first second that works: what a process waits for, what it says meanwhile, and a store's first connection that many want."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from rewriter import Reason, Settings, Subject
from rewriter.errors import StoreError
from rewriter.signals import redis_store
from rewriter.signals.counters import Counters
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, AsyncHarness, FakeStore, Harness, SyncHarness

SEARCH = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}}}
ANN = Subject("ann", "s1")
SETTINGS: dict[str, Any] = {
    "experiment": {"holdout": 0},
    "budget": {"signals_ms": 5_000, "cutoff_ms": 5_000},
    "policies": {"shop": {"index": "products", "item_repeat_share": 1.0, "fields": {"brand": {}}, "item_field": "_id"}},
}
NOW_S = time.time()
harnesses = pytest.mark.parametrize("harness_type", HARNESSES, ids=["sync", "async"])


def settings(**fields: Any) -> Settings:
    return Settings.model_validate(SETTINGS | {"policies": {"shop": SETTINGS["policies"]["shop"] | fields}})


def liking(store: FakeStore, population: bool) -> None:
    counters = Counters({("brand", "b1"): 9.0}, {"brand": 9.0}, NOW_S, NOW_S, 3.0)
    store.write(Keys().profile("ann"), counters, None)
    if population:
        everybody = Counters({("brand", f"b{n}"): 500.0 for n in range(4)}, {"brand": 2000.0}, NOW_S, NOW_S, 9.0)
        store.write(Keys().population(0), everybody, None)


def wait_ready(harness: Harness, timeout_s: float, index: str | list[str] | None = None) -> bool:
    if isinstance(harness, SyncHarness):
        return harness.rewriter.wait_ready(timeout_s, index=index)
    assert isinstance(harness, AsyncHarness)
    return harness.runner.run(harness.rewriter.wait_ready(timeout_s, index=index))


@harnesses
@pytest.mark.parametrize("index", [5, b"products", {"products"}, ["products", 5], [None], object()])
def test_an_index_that_is_no_name_is_refused_in_a_sentence(harness_type: type[Harness], index: Any) -> None:
    with (
        harness_type(settings(), FakeStore()) as harness,
        pytest.raises(ValueError, match=r"index is .*, not a name, nor a list"),
    ):
        wait_ready(harness, 1.0, index)


@harnesses
def test_the_first_search_after_waiting_is_personalized(harness_type: type[Harness]) -> None:
    store = FakeStore()
    liking(store, population=True)
    with harness_type(settings(), store) as harness:
        assert wait_ready(harness, 20.0)
        assert harness.status().missing == ()
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.detail) == (Reason.PERSONALIZED, "")


@harnesses
def test_no_store_is_configured(harness_type: type[Harness]) -> None:
    with harness_type(settings(), None) as harness:
        began_s = time.monotonic()
        assert not wait_ready(harness, 20.0)
        assert time.monotonic() - began_s < 10.0
        assert harness.status().missing == ("no store is configured",)
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.detail) == (Reason.NO_SIGNALS, "no store is configured")


@harnesses
def test_wait_ready_is_false_without_a_population(harness_type: type[Harness]) -> None:
    store = FakeStore()
    liking(store, population=False)
    with harness_type(settings(), store) as harness:
        assert not wait_ready(harness, 1.5)
        assert harness.status().missing == ("no population yet",)
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.detail) == (Reason.NO_SIGNALS, "no population yet")
        liking(store, population=True)
        assert wait_ready(harness, 20.0)


@harnesses
def test_items_alone_need_no_population(harness_type: type[Harness]) -> None:
    store = FakeStore()
    store.write(Keys().profile("ann"), Counters({("item", "p7"): 9.0}, {"item": 9.0}, NOW_S, NOW_S, 3.0), None)
    with harness_type(settings(fields={}), store) as harness:
        assert wait_ready(harness, 20.0)
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.detail) == (Reason.PERSONALIZED, "")


@harnesses
def test_somebody_unknown_has_no_signals_and_no_other_reason(harness_type: type[Harness]) -> None:
    store = FakeStore()
    liking(store, population=True)
    with harness_type(settings(), store) as harness:
        assert wait_ready(harness, 20.0)
        _, report = harness.search(Subject("bob"), SEARCH)
        assert (report.reason, report.detail) == (Reason.NO_SIGNALS, "")


@harnesses
def test_a_store_that_is_gone_is_not_waited_for_longer_than_said(harness_type: type[Harness]) -> None:
    store = FakeStore()
    store.state = "gone"
    with harness_type(settings(), store) as harness:
        assert not wait_ready(harness, 0.5)
        assert "no population yet" in harness.status().missing
        store.state = "there"
        liking(store, population=True)
        assert wait_ready(harness, 20.0)  # what failed is tried again soon


@harnesses
@pytest.mark.parametrize("named", ["products", ["products", "products-old"]])
def test_the_facts_of_what_is_going_to_be_searched_are_waited_for(
    harness_type: type[Harness], named: str | list[str]
) -> None:
    store = FakeStore()
    liking(store, population=True)
    with harness_type(
        settings(index="*"), store
    ) as harness:  # a policy for everything names no index that could be read
        assert wait_ready(harness, 20.0, named)
        _, report = harness.search(ANN, SEARCH | {"index": named})
        assert (report.reason, report.detail) == (Reason.PERSONALIZED, "")


@harnesses
@pytest.mark.parametrize(("named", "why"), [("orders", "no policy matches"), ("products:eu", "another cluster")])
def test_what_is_never_personalized_is_not_waited_for(harness_type: type[Harness], named: str, why: str) -> None:
    with harness_type(settings(index="products*"), FakeStore()) as harness, pytest.raises(ValueError, match=why):
        wait_ready(harness, 20.0, named)


@harnesses
def test_facts_that_cannot_be_read_are_missing_until_they_can(harness_type: type[Harness]) -> None:
    store = FakeStore()
    liking(store, population=True)
    with harness_type(settings(index=["products", "shoes"]), store) as harness:
        assert wait_ready(harness, 20.0)
        harness.core.swap(facts={"products": harness.core.snapshot.facts["products"]})  # as where `shoes` was refused
        assert not wait_ready(harness, 0.1)
        assert harness.status().missing == ("still reading index facts",)
        _, report = harness.search(ANN, SEARCH | {"index": "shoes"})
        assert (report.reason, report.detail) == (Reason.NO_FACTS, "still reading index facts")


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_that_want_the_first_connection_wait_for_the_one_that_makes_it(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def slow(*_: Any) -> Any:
        time.sleep(0.1)  # this is the connect
        made.append(Client())
        return made[-1]

    monkeypatch.setattr(redis_store, "opened", slow)
    store = RedisStore("redis://127.0.0.1:1")
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda _: store._connected(), range(threads)))
    assert len(made) == 1
    assert set(map(id, found)) == {id(made[0])}


class Client:
    """A client of which nothing is asked."""


@pytest.mark.parametrize("error", [StoreError("away"), ValueError("no")])
def test_all_that_wait_are_told_why_it_cannot_be_made_and_the_next_tries_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = Event(), Event()

    def failing(*_: Any) -> Any:
        begun.set()
        assert go.wait(10)
        raise error

    monkeypatch.setattr(redis_store, "opened", failing)
    store = RedisStore("redis://127.0.0.1:1")

    def fails(_: int) -> bool:
        try:
            store._connected()
        except type(error):
            return True
        return False

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(fails, 0)
        assert begun.wait(10)
        others = [pool.submit(fails, number) for number in (1, 2)]
        go.set()
        assert all(one.result(10) for one in (first, *others))
    monkeypatch.setattr(redis_store, "opened", lambda *_: "a client")
    assert store._connected() == "a client"


def test_a_connect_that_hangs_holds_nobody_else_longer_than_an_answer_would(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = Event(), Event()

    def hangs(*_: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return "a client"

    monkeypatch.setattr(redis_store, "opened", hangs)
    monkeypatch.setattr(redis_store, "TIMEOUT_S", 0.1)
    store = RedisStore("redis://127.0.0.1:1")
    connected: Callable[[], Any] = store._connected
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(connected)
        assert begun.wait(10)
        with pytest.raises(StoreError, match="still connecting"):
            connected()
        go.set()
        assert first.result(10) == "a client"
