"""The breaker: its transitions as a table, its three rules at their edges, and its permits in every order of calls."""

from __future__ import annotations

import random
from threading import Barrier, Thread

import pytest

from rewriter.decide.breaker import MAX_CAUSE, Breaker, Outcome, Permit, State
from rewriter.settings import BreakerSettings

OUTCOMES: dict[str, Outcome] = {".": "success", "x": "failure", "s": "slow", "-": "unused"}
SPREAD = "." * 19 + "x"
"""One failure in twenty: exactly 5 %."""


def call(breaker: Breaker, outcomes: str, now_s: float, step_s: float = 0.0) -> str:
    """Make one call for each letter; returns the letters of the calls that were let through."""
    let_through = ""
    for number, letter in enumerate(outcomes):
        at_s = now_s + number * step_s
        if permit := breaker.permit(at_s):
            breaker.give_back(permit, OUTCOMES[letter], at_s)
            let_through += letter
    return let_through


def opened(**settings: float) -> Breaker:
    """A breaker that opened at 0 s and lets its first probe through at 5 s."""
    breaker = Breaker(BreakerSettings(**settings))  # type: ignore[arg-type]
    call(breaker, "x" * 10, 0.0)
    assert breaker.status(0.0).state == "open"
    return breaker


def taken(breaker: Breaker, count: int, now_s: float) -> list[Permit]:
    permits = [permit for _ in range(count) if (permit := breaker.permit(now_s))]
    assert len(permits) == count
    return permits


@pytest.mark.parametrize(
    ("state", "outcomes", "now_s", "then"),
    [
        ("closed", "." * 1000, 0.0, "closed"),
        ("closed", "-" * 1000, 0.0, "closed"),
        ("closed", "x" * 9, 0.0, "closed"),
        ("closed", "x" * 10, 0.0, "open"),
        ("closed", "x" * 9 + "-" + "x", 0.0, "open"),
        ("closed", "x" * 9 + "." + "x", 0.0, "closed"),
        ("closed", "x" * 9 + "s" + "x", 0.0, "closed"),
        ("open", ".", 4.9, "open"),
        ("open", "", 5.0, "half_open"),
        ("half_open", "." * 9, 5.0, "half_open"),
        ("half_open", "." * 10, 5.0, "closed"),
        ("half_open", "-" * 100, 5.0, "half_open"),
        ("half_open", "-" * 100 + "." * 10, 5.0, "closed"),
        ("half_open", "." * 9 + "x", 5.0, "open"),
        ("half_open", "s" * 5 + "." * 5, 5.0, "closed"),
        ("half_open", "s" * 6, 5.0, "open"),
    ],
)
def test_outcomes_change_the_state_as_the_table_says(state: State, outcomes: str, now_s: float, then: State) -> None:
    breaker = Breaker(BreakerSettings()) if state == "closed" else opened()
    call(breaker, outcomes, now_s)
    assert breaker.status(now_s).state == then


@pytest.mark.parametrize(
    ("calls", "then"),
    [
        (SPREAD * 10, "closed"),
        ("x" + SPREAD * 10, "open"),
        ("x" + SPREAD * 9, "closed"),
        ("." * 189 + "x.x.x.x.x.x", "closed"),
        ("." * 189 + "x.x.x.x.x.x" * 2, "open"),
        (SPREAD * 50, "closed"),
        ("s" * 100 + "." * 100, "closed"),
        ("." * 99 + "s" * 101, "open"),
        ("s" * 101 + "." * 99, "closed"),
        ("s" * 101 + "." * 99 + "s", "open"),
    ],
    ids=[
        "exactly 5.00 % of 200",
        "the 201st of all is one too many",
        "never judged below 200 calls",
        "6 of 200, at the end",
        "12 of 211, at the end",
        "exactly 5.00 % of 1,000",
        "half of them slow",
        "more than half of them slow",
        "more than half of them slow, and none of late",
        "and one more",
    ],
)
def test_the_rate_is_compared_strictly(calls: str, then: State) -> None:
    breaker = Breaker(BreakerSettings(burst_calls=10_000, failures_in_a_row=10_000))
    call(breaker, calls, 0.0)
    assert breaker.status(0.0).state == then


@pytest.mark.parametrize(
    ("outcomes", "step_s", "limit", "then"),
    [
        ("." * 1000 + "s" * 11, 0.1, 10, "open"),  # a hung store, on top of a good minute
        ("." * 1000 + "s" * 10, 0.1, 10, "closed"),
        ("." * 1000 + "s" * 50, 0.02, 10, "closed"),  # late for a second: a machine that is busy
        ("." * 1000 + "s" * 52, 0.02, 10, "open"),
        ("s" * 10, 0.0, 10, "closed"),  # one stall of the machine, felt by all that are under way
        ("s" * 6 + "-" * 100 + "s" * 4, 0.02, 10, "open"),  # over two seconds
        ("s" * 6 + "-" * 20 + "s" * 4, 0.02, 10, "closed"),
        ("s" * 9 + "." + "s" * 9, 0.02, 10, "closed"),
        ("s" * 9 + "x" + "s" * 9, 0.02, 10, "closed"),  # an error came in time, and has rules of its own
        ("." * 1000 + "s" * 100, 0.02, None, "closed"),
    ],
)
def test_late_reads_in_a_row(outcomes: str, step_s: float, limit: int | None, then: State) -> None:
    breaker = Breaker(BreakerSettings(), late_in_a_row=limit)
    call(breaker, outcomes, 0.0, step_s)
    assert breaker.status(step_s * len(outcomes)).state == then


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("per_s", "stall_s", "every_s"), [(100, 0.3, 1.0), (20, 0.8, 4.0), (300, 0.05, 0.2), (5, 0.9, 3.0)]
)
def test_a_busy_machine_does_not_hold_a_store_s_breaker_open(
    per_s: int, stall_s: float, every_s: float, seed: int
) -> None:
    """Reads are late in stalls that come now and then, all of them together: at most one search in ten is kept off."""
    draw, breaker, now_s = random.Random(seed), Breaker(BreakerSettings(), late_in_a_row=10), 0.0
    stall_from_s, stall_until_s, kept_off, reads = 0.0, 0.0, 0, 0
    while now_s < 600.0:
        now_s += draw.expovariate(per_s)
        if now_s >= stall_until_s and draw.random() < 1.0 / (per_s * every_s):
            stall_from_s, stall_until_s = now_s, now_s + draw.uniform(0.2, 1.0) * stall_s
        reads += 1
        permit = breaker.permit(now_s)
        if permit is None:
            kept_off += 1
        else:
            breaker.give_back(permit, "slow" if stall_from_s <= now_s < stall_until_s else "success", now_s)
    assert kept_off <= reads / 10


def test_a_hung_store_is_left_alone_and_tried_every_five_seconds() -> None:
    breaker, asked = Breaker(BreakerSettings(), late_in_a_row=10), 0
    for step in range(120 * 50):
        permit = breaker.permit(step / 50)
        if permit is not None:
            asked += 1
            breaker.give_back(permit, "slow", step / 50 + 0.01)
    assert breaker.status(120.0).opened >= 20
    assert asked < 120 * 50 / 15
    last_s = 120.0 + 5.0
    for step in range(20):
        permit = breaker.permit(last_s + step / 50)
        if permit is not None:
            breaker.give_back(permit, "success", last_s + step / 50)
    assert breaker.closed


def test_the_permits_that_are_out_are_counted() -> None:
    breaker = opened()
    permits = taken(breaker, 4, 5.0)
    assert breaker.status(5.0).permits == 4
    for permit, outcome in zip(permits, OUTCOMES.values(), strict=True):
        breaker.give_back(permit, outcome, 5.0)
    assert breaker.status(5.0).permits == 0


@pytest.mark.parametrize(
    ("outcomes", "step_s", "counted", "opened"),
    [
        ("x" * 10 + "." * 190 + "x", 0.0, 0, 1),  # all within 60 s: 201 calls, 11 failures
        ("." * 300, 0.25, 241, 0),  # four a second: the last 60 s
        ("x" * 10 + "." * 190 + "x", 1.0, 200, 0),  # one a second: the last 200 calls
        ("x" * 11 + "." * 189, 1.0, 0, 1),
        ("x" * 11 + "." * 189, 5.0, 181, 0),  # one in 5 s: none older than 15 min, so never 200
    ],
)
def test_the_window_is_a_minute_or_200_calls_whichever_holds_more(
    outcomes: str, step_s: float, counted: int, opened: int
) -> None:
    breaker = Breaker(BreakerSettings(failures_in_a_row=10_000, burst_calls=10_000))
    call(breaker, outcomes, 0.0, step_s)
    status = breaker.status((len(outcomes) - 1) * step_s)
    assert (status.calls, status.opened) == (counted, opened)


@pytest.mark.parametrize(
    ("outcomes", "step_s", "then"),
    [
        ("x." * 10, 0.1, "open"),
        ("x." * 9 + "..", 0.1, "closed"),
        ("x." * 10, 0.3, "closed"),  # 17 calls in 5 s are no burst
        ("." * 20, 0.1, "closed"),
    ],
)
def test_a_burst_is_half_of_twenty_within_five_seconds(outcomes: str, step_s: float, then: State) -> None:
    breaker = Breaker(BreakerSettings())
    call(breaker, outcomes, 0.0, step_s)
    assert breaker.status(len(outcomes) * step_s).state == then


@pytest.mark.parametrize("setting", ["burst_error_rate", "max_error_rate", "max_slow_rate"])
def test_a_rate_of_zero_tolerates_nothing_and_a_clean_run_stays_closed(setting: str) -> None:
    breaker = Breaker(BreakerSettings(**{setting: 0.0}))  # type: ignore[arg-type]
    call(breaker, "." * 300, 0.0)
    assert breaker.status(0.0).state == "closed"


def test_at_a_true_rate_of_three_percent_it_stays_closed_for_an_hour() -> None:
    breaker = Breaker(BreakerSettings())
    every_33rd = ("." * 32 + "x") * (5 * 3600 // 33)
    assert call(breaker, every_33rd, 0.0, step_s=0.2) == every_33rd
    assert breaker.status(0.0).opened == 0


@pytest.mark.parametrize("per_s", [0.1, 1.0, 3.3, 100.0])
def test_when_everything_fails_it_opens_at_any_rate_of_calls(per_s: float) -> None:
    breaker = Breaker(BreakerSettings())
    assert len(call(breaker, "x" * 100, 0.0, 1.0 / per_s)) < 100


def test_it_says_why_it_opened_and_when_it_tries_again() -> None:
    status = opened().status(1.0)
    assert status.why == "10 failures in a row"
    assert (status.opened, status.reopens_in_s) == (1, 4.0)


def test_its_transitions_are_counted() -> None:
    breaker = opened()
    for at_s, outcomes in ((5.0, "." * 9 + "x"), (20.0, "." * 10)):
        for outcome in outcomes:
            permit = breaker.permit(at_s)
            assert permit is not None
            breaker.give_back(permit, OUTCOMES[outcome], at_s)
    assert breaker.status(20.0).transitions == {"open": 2, "half_open": 2, "closed": 1}


# --- half open --------------------------------------------------------------------------------------------------------


def test_half_open_leases_ten_places() -> None:
    breaker = opened()
    taken(breaker, 10, 5.0)
    assert breaker.permit(5.0) is None
    assert breaker.permit(9.9) is None


def test_a_lost_probe_frees_its_place_when_its_lease_ends() -> None:
    breaker = opened()
    taken(breaker, 10, 5.0)
    permits = taken(breaker, 10, 10.1)
    for permit in permits:
        breaker.give_back(permit, "success", 10.2)
    assert breaker.status(10.2).state == "closed"


def test_a_probe_that_outlived_its_lease_counts_for_nothing() -> None:
    breaker = opened()
    (late,) = taken(breaker, 1, 5.0)
    taken(breaker, 10, 10.1)
    breaker.give_back(late, "failure", 10.2)
    assert breaker.status(10.2).state == "half_open"


def test_passed_probes_keep_their_place() -> None:
    """Ten successes close it, so no eleventh call goes out while nine have passed and one is under way."""
    breaker = opened()
    call(breaker, "." * 9, 5.0)
    taken(breaker, 1, 5.0)
    assert breaker.permit(5.0) is None


@pytest.mark.parametrize("outcome", ["success", "failure", "slow", "unused"])
def test_a_permit_of_an_earlier_state_counts_for_nothing(outcome: Outcome) -> None:
    breaker = Breaker(BreakerSettings())
    (before,) = taken(breaker, 1, 0.0)
    call(breaker, "x" * 10, 0.0)
    call(breaker, "." * 9, 5.0)
    breaker.give_back(before, outcome, 5.0)
    assert breaker.status(5.0).state == "half_open"


def test_a_permit_given_back_twice_counts_once() -> None:
    breaker = opened()
    (probe,) = taken(breaker, 1, 5.0)
    for _ in range(10):
        breaker.give_back(probe, "success", 5.0)
    assert breaker.status(5.0).state == "half_open"


def test_each_opening_in_a_row_lasts_twice_as_long_up_to_a_minute() -> None:
    breaker, now_s, waits_s = opened(), 0.0, []
    for _ in range(6):
        waits_s.append(breaker.status(now_s).reopens_in_s)
        now_s += waits_s[-1]
        call(breaker, "x", now_s)
    assert waits_s == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


@pytest.mark.parametrize(("healthy_s", "wait_s"), [(59.0, 10.0), (61.0, 5.0)])
def test_after_a_minute_of_health_an_opening_is_a_first_one_again(healthy_s: float, wait_s: float) -> None:
    breaker = opened()
    call(breaker, "." * 10, 5.0)
    call(breaker, ".", 5.0 + healthy_s)
    call(breaker, "x" * 10, 5.0 + healthy_s)
    assert breaker.status(5.0 + healthy_s).reopens_in_s == wait_s


def test_of_a_thousand_threads_at_half_open_ten_get_through() -> None:
    breaker, start, permits = opened(), Barrier(1000), list[Permit]()

    def ask() -> None:
        start.wait()
        if permit := breaker.permit(5.0):
            permits.append(permit)

    threads = [Thread(target=ask) for _ in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({permit.number for permit in permits}) == len(permits) == 10
    for permit in permits:
        breaker.give_back(permit, "success", 5.1)
    assert breaker.status(5.1).state == "closed"


def test_the_cause_of_the_last_failure_is_part_of_why() -> None:
    for outcomes, why in (
        (
            [("failure", "TransportError(429, N/A)")] * 10,
            "10 failures in a row; the last one: TransportError(429, N/A)",
        ),
        ([("failure", "a")] * 9 + [("failure", "b" * 500)], "10 failures in a row; the last one: " + "b" * MAX_CAUSE),
        ([("failure", "a")] * 9 + [("failure", "")], "10 failures in a row"),
        ([("failure", "a"), ("slow", "late")] * 10, "10 of 20 calls failed within 5 s; the last one: a"),
    ):
        breaker = Breaker(BreakerSettings())
        for outcome, cause in outcomes:
            if permit := breaker.permit(1.0):
                breaker.give_back(permit, outcome, 1.0, cause)  # type: ignore[arg-type]
        assert breaker.status(1.0).why == why
