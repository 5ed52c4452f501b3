"""The tally of searches by reason within the last minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from rewriter import Reason
from rewriter.observe.tally import STEP_S, STEPS, Tally


def test_a_tally_without_searches_is_empty() -> None:
    assert Tally().last_minute(0.0) == {}


def test_the_most_frequent_comes_first() -> None:
    tally = Tally()
    for number in range(10):
        tally.note(Reason.PERSONALIZED if number % 5 else Reason.NO_SIGNALS, number * STEP_S / 2)
    assert list(tally.last_minute(5 * STEP_S).items()) == [("personalized", 8), ("no_signals", 2)]


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    tally = Tally()
    tally.note(Reason.BUSY, 0.0)
    assert tally.last_minute(STEP_S * STEPS - 0.1) == {"busy": 1}
    assert tally.last_minute(STEP_S * STEPS) == {}
    tally.note(Reason.HOLDOUT, STEP_S * 1000)
    assert tally.last_minute(STEP_S * 1000) == {"holdout": 1}


def test_it_holds_no_more_steps_than_it_shows() -> None:
    tally = Tally()
    for number in range(10_000):
        tally.note(Reason.BUSY, number * STEP_S)
    assert len(tally._steps) == STEPS


def test_threads_lose_nothing() -> None:
    tally = Tally()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: tally.note(Reason.BUSY, number / 1000), range(8_000)))
    assert sum(tally.last_minute(8.0).values()) == 8_000
