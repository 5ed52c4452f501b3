"""Hedges: when a search is late, what a second one may cost, and when to stop; and that this keeps a server from melting down."""

from __future__ import annotations

import random
from math import exp

import pytest

from rewriter.decide.hedging import (
    IN_A_ROW,
    KNOWN,
    MAX_PAUSE_S,
    MAX_TOKENS,
    MIN_DELAY_S,
    PAUSE_S,
    RESERVE,
    Hedging,
)
from rewriter.decide.late_window import SLICE_S, SLICES, LateWindow
from tests.hedge_simulation import Load, simulated


def taught(took_s: float = 0.02, count: int = KNOWN) -> Hedging:
    hedging = Hedging()
    for _ in range(count):
        hedging.took(took_s, 0.0)
    return hedging


def test_the_delay_is_the_95th_percentile_once_enough_searches_are_known() -> None:
    hedging = Hedging()
    for n in range(KNOWN):
        assert not hedging.known
        hedging.took(0.010 + n / 1000.0, 0.0)
    assert hedging.known
    assert hedging.delay_s() == pytest.approx(0.010 + int(0.95 * (KNOWN - 1)) / 1000.0)


def test_a_delay_of_the_settings_is_known_at_once() -> None:
    hedging = Hedging(fixed_s=0.08)
    assert (hedging.known, hedging.delay_s()) == (True, 0.08)


def test_searches_of_a_fast_server_are_not_hedged_within_milliseconds() -> None:
    assert taught(0.001).delay_s() == MIN_DELAY_S


def test_old_times_are_forgotten() -> None:
    hedging = taught(1.0)
    for n in range(1_000):
        hedging.took(0.02, 1.0 + n / 10.0)
    assert hedging.delay_s() == 0.02


def test_a_burst_does_not_push_out_what_half_a_minute_has_shown() -> None:
    hedging = taught(0.02)
    for n in range(5_000):
        hedging.took(5.0, 1.0 + n / 50_000.0)  # within a tenth of a second
    assert hedging.delay_s() <= 5.0
    for n in range(200):
        hedging.took(0.02, 2.0 + n / 10.0)
    assert hedging.delay_s() == 0.02


def test_at_most_a_twentieth_of_searches_is_hedged_and_some_tokens_are_left_for_failures() -> None:
    hedging = taught()
    granted = 0
    for _ in range(1_000):
        hedging.sent()
        granted += hedging.hedge(1.0)
    assert granted == pytest.approx(0.05 * 1_000 + MAX_TOKENS - RESERVE, abs=2)
    assert hedging.status(1.0).tokens >= RESERVE - 1e-9


def test_a_failure_without_a_token_pauses_the_policy_at_once() -> None:
    hedging = taught()
    for _ in range(int(MAX_TOKENS)):
        hedging.failed(1.0)
    assert not hedging.paused(1.0)
    hedging.failed(1.0)
    assert hedging.paused(1.0)
    assert hedging.paused(PAUSE_S)
    assert not hedging.paused(1.0 + PAUSE_S)
    assert hedging.status(1.0).why == "more rewritten searches failed than the budget of hedges holds"


def search_mixed(hedging: Hedging, *, late: float, searches: int, from_s: float, for_s: float) -> None:
    """Let `searches` be judged, evenly mixed."""
    for n in range(searches):
        now_s = from_s + for_s * n / searches
        if int((n + 1) * late) > int(n * late):
            hedging.hedge(now_s)
        else:
            hedging.took(0.01, now_s, in_time=True)


@pytest.mark.parametrize("a_second", [2.7, 30.1, 60.0, 213.0, 1_003.0])
@pytest.mark.parametrize(("late", "paused"), [(0.05, False), (0.19, False), (0.25, True), (0.4, True), (1.0, True)])
def test_more_than_a_fifth_late_pauses_the_policy_at_any_rate(late: float, paused: bool, a_second: float) -> None:
    """At random times: a window that is exactly as long as it must be is one that is hardly ever seen."""
    hedging, chance = taught(), random.Random(7)
    for_s = max(2.0 * SLICES * SLICE_S, 250.0 / a_second)
    times_s = sorted(1.0 + chance.random() * for_s for _ in range(int(a_second * for_s)))
    for n, now_s in enumerate(times_s):
        if int((n + 1) * late) > int(n * late):
            hedging.hedge(now_s)
        else:
            hedging.took(0.01, now_s, in_time=True)
    assert (hedging.status(times_s[-1]).pauses > 0) is paused


def test_the_window_forgets_and_takes_no_memory_for_a_high_rate() -> None:
    window = LateWindow()
    for n in range(100_000):
        window.add(n < 10_000, n / 10_000.0)
    assert window.counts()[0] == 0
    assert not window.too_late()
    assert len(window._whole) == SLICES


def test_one_stall_is_no_reason_to_pause() -> None:
    """All searches that are under way are late, and within a fraction of a second."""
    hedging = taught()
    for second in range(10):
        search_mixed(hedging, late=0.0, searches=500, from_s=1.0 + second, for_s=0.7)
        search_mixed(hedging, late=1.0, searches=100, from_s=1.7 + second, for_s=0.1)
        search_mixed(hedging, late=0.0, searches=200, from_s=1.8 + second, for_s=0.2)
    assert hedging.status(12.0).pauses == 0


def test_late_in_a_row_pauses_a_policy_that_is_seldom_searched() -> None:
    hedging = taught()
    for n in range(IN_A_ROW):
        assert not hedging.paused(float(n))
        hedging.hedge(float(n))
    assert hedging.paused(float(IN_A_ROW - 1))


def test_pauses_double_until_it_has_gone_well_for_long() -> None:
    hedging, now_s, lengths = taught(), 1.0, []
    for _ in range(7):
        for _ in range(int(MAX_TOKENS) + 1):
            hedging.failed(now_s)
        lengths.append(round(hedging.status(now_s).paused_for_s))
        now_s += lengths[-1] + 0.1
    assert lengths == [10, 20, 40, 80, 160, 160, 160]
    now_s += MAX_PAUSE_S + 1.0
    for _ in range(int(MAX_TOKENS) + 1):
        hedging.failed(now_s)
    assert round(hedging.status(now_s).paused_for_s) == PAUSE_S


def test_a_pause_forgets_the_times_before_it_and_learns_in_its_second_half() -> None:
    hedging = taught(2.0)
    for _ in range(int(MAX_TOKENS) + 1):
        hedging.failed(1.0)
    for n in range(KNOWN):
        hedging.took(2.0, 1.0 + n / KNOWN)  # these waited behind what the pause is for
    assert hedging.status(2.0).delay_ms is None
    for n in range(KNOWN):
        hedging.took(0.02, 1.0 + 0.6 * PAUSE_S + n / KNOWN)
    assert hedging.status(9.0).delay_ms == 20.0


@pytest.mark.parametrize("a_second", [3.0, 10.0, 100.0])
@pytest.mark.parametrize("sigma", [0.1, 0.3])
@pytest.mark.parametrize(("known", "pauses_before"), [(1.0, 0), (0.1, 0), (0.3, 0), (1.0, 4), (0.5, 4)])
def test_faster_searches_without_boosts_make_no_others_late(
    a_second: float, sigma: float, known: float, pauses_before: int
) -> None:
    """Neither where few people are known, nor after a pause of minutes: a search with boosts takes 1.4 times as long here."""
    hedging, chance, now_s, late, judged = Hedging(), random.Random(3), 1.0, 0, 0
    for _ in range(pauses_before):
        for _ in range(int(MAX_TOKENS) + 1):
            hedging.failed(now_s)
        now_s += hedging.status(now_s).paused_for_s
    if pauses_before:
        for _ in range(int(MAX_TOKENS) + 1):
            hedging.failed(now_s)
    until_s = now_s + 2.0 * MAX_PAUSE_S * bool(pauses_before) + 2_000.0 / a_second
    while now_s < until_s:
        now_s += 1.0 / a_second
        boosted = chance.random() < known and not hedging.paused(now_s)
        took_s = 0.02 * exp(chance.gauss(0.0, sigma)) * (1.4 if boosted else 1.0)
        if not boosted or not hedging.known:
            hedging.took(took_s, now_s, boosted=boosted)
            continue
        is_late = took_s > hedging.delay_s()
        late, judged = late + is_late, judged + 1
        hedging.sent()
        if is_late:
            hedging.hedge(now_s)
        hedging.took(took_s, now_s, boosted=True, in_time=not is_late)
    assert hedging.status(now_s).pauses == pauses_before + bool(pauses_before)
    assert late / judged < 0.12


def test_a_share_of_none_hedges_nothing() -> None:
    hedging = Hedging(share=0.0)
    assert not any(hedging.hedge(float(n)) for n in range(3))
    assert hedging.status(3.0).refused == 3


def test_without_a_cap_a_slower_server_melts_down_and_with_cap_and_pause_it_does_not() -> None:
    slow = Load(slow=1.8)
    plain, uncapped, capped, paused = (simulated(way, slow) for way in ("plain", "uncapped", "capped", "paused"))
    assert uncapped.hedged > 0.8
    assert capped.hedged <= 0.055
    for melted in (uncapped, capped):  # the cap alone does not help: the rewritten searches themselves are too many
        assert melted.p50_ms > 50.0 * plain.p50_ms
    assert paused.p50_ms < 2.0 * plain.p50_ms
    assert paused.p99_ms < capped.p99_ms / 10.0


@pytest.mark.parametrize(
    "load", [Load(), Load(busy=0.3), Load(busy=0.6), Load(stall_s=0.2), Load(stall_s=0.5)], ids=str
)
@pytest.mark.parametrize("seed", [1, 8])
def test_a_server_that_is_well_or_stalls_now_and_then_causes_no_pause(load: Load, seed: int) -> None:
    found = simulated("paused", Load(load.busy, stall_s=load.stall_s, seed=seed, seconds=60.0))
    assert found.pauses == 0
    assert found.plain < 0.02
    assert found.hedged <= 0.055
