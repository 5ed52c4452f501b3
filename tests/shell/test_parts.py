"""The parts of searches: who goes on where a read is late, and what becomes of the read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event, current_thread
from typing import Any

import pytest

from rewriter import Reason, Settings
from rewriter.shell.drive import ELSEWHERE
from rewriter.shell.threads.deadlines import Deadlines
from rewriter.shell.workers import Workers
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness, waited
from tests.reason_cases import ANN, MATCH, NOW_S

LIKED = Counters({("item", "p9"): 9.0}, {"item": 9.0}, NOW_S, NOW_S, events=1.0)
SEARCH = {"index": "products", "body": {"query": MATCH, "size": 10}}


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    found = Deadlines(lambda: True)
    found.start()
    yield found
    found.close()


def settings(mode: str) -> Settings:
    policy = {"index": "products*", "item_repeat_share": 1.0, "mode": mode, "hedge_ms": 4_000, "parallel_share": 0}
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "signals": {"on_late": "stale"},
            "budget": {"signals_ms": 50, "cutoff_ms": 5_000},
            "policies": {"shop": policy},
        }
    )


@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
@pytest.mark.parametrize("kind", HARNESSES)
def test_a_search_whose_read_is_late_goes_on_and_the_read_fills_memory(kind: type[Harness], mode: str) -> None:
    store = FakeStore()
    store.write(Keys().profile("ann"), LIKED, None)
    with kind(settings(mode), store) as harness:
        store.state = "hung"
        started_s = time.monotonic()
        _, report = harness.search(ANN, SEARCH)
        assert report.reason is Reason.SIGNALS_LATE
        assert time.monotonic() - started_s < 4.0  # neither until the cut-off nor until the read ends
        assert harness.status().in_flight == 1
        assert harness.status().rewritten_in_flight == 0
        assert len(harness.core.last_known._kept) == 0
        store.state = "there"
        store.released.set()
        harness.until(lambda status: status.in_flight == 0)
        assert len(harness.core.last_known._kept) == 1
        store.released.clear()
        store.state = "hung"
        for _ in range(3):  # each on another worker or task
            _, report = harness.search(ANN, SEARCH)
            assert (report.reason, report.source) == (Reason.PERSONALIZED, "stale"), report
        assert harness.status().in_flight == 3


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
@pytest.mark.parametrize("kind", HARNESSES)
def test_a_store_that_hangs_takes_no_permit_of_the_legs(kind: type[Harness], mode: str, *, apart: bool) -> None:
    """Also with more searches than the store has connections, before its breaker opens."""
    store, profiles = FakeStore(), FakeStore() if apart else None
    (profiles or store).write(Keys().profile("ann"), LIKED, None)
    few = settings(mode).budget.model_copy(update={"max_in_flight": 2, "max_rewritten": 2})
    with kind(settings(mode).model_copy(update={"budget": few}), store, profiles) as harness:
        assert harness.core.settings.store_reads <= 6
        _, report = harness.search(ANN, SEARCH)
        assert report.reason is Reason.PERSONALIZED, report
        store.state = "hung"
        for _ in range(12):
            _, report = harness.search(ANN, SEARCH)
            assert (report.reason, report.source) == (Reason.PERSONALIZED, "profile" if apart else "stale"), report
        assert harness.status().in_flight == harness.core.settings.store_reads
        store.state = "there"
        store.released.set()
        harness.until(lambda status: status.in_flight == 0)
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.source) == (Reason.PERSONALIZED, "profile"), report


def test_what_is_taken_in_time_is_not_late(deadlines: Deadlines) -> None:
    late: list[int] = []
    in_time = deadlines.watch(time.monotonic() + 0.05, lambda: late.append(1))
    assert in_time.take()
    assert not in_time.take()
    second = deadlines.watch(time.monotonic() + 0.05, lambda: late.append(2))
    assert waited(lambda: late == [2])
    assert second.taken
    assert not second.take()


def test_one_that_fails_keeps_the_next_ones_watched(deadlines: Deadlines) -> None:
    late = Event()

    def fails() -> None:
        raise RuntimeError

    deadlines.watch(time.monotonic(), fails)
    time.sleep(0.02)  # the thread is idle again
    deadlines.watch(time.monotonic(), late.set)
    assert late.wait(10)


def test_work_that_goes_on_elsewhere_has_one_future() -> None:
    workers = Workers(2, "elsewhere")
    workers.start()
    names: list[str] = []
    handed: list[Any] = []

    def begin() -> Any:
        names.append(current_thread().name)
        assert waited(lambda: bool(handed))
        assert workers.submit(lambda: "done", handed[0]) is handed[0]
        return ELSEWHERE

    future = workers.submit(begin)
    assert future is not None
    handed.append(future)
    assert future.result(10) == "done"
    workers.close()
