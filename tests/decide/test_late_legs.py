"""Late legs: a policy's legs pause when too many are late; the time-out of a leg."""

from __future__ import annotations

import pytest

from rewriter.decide.late_legs import LateLegs


def pace_after(outcomes: str, baseline_s: float = 0.01, now_s: float = 0.0) -> LateLegs:
    """A pace that saw one search for each letter: "L" too late, "." in time."""
    late_legs = LateLegs()
    for letter in outcomes:
        late_legs.record(late=letter == "L", baseline_s=baseline_s, now_s=now_s)
    return late_legs


@pytest.mark.parametrize(
    ("outcomes", "paused"),
    [
        ("L" * 199, False),
        ("L" * 200, True),
        ("L" * 40 + "." * 160, False),
        ("L" * 41 + "." * 159, True),
        ("L" * 40 + "." * 160 + "L", False),
        ("." * 160 + "L" * 40 + "L", True),
        ("." * 1000, False),
    ],
    ids=["too few", "all late", "exactly 20 %", "more than 20 %", "the oldest is forgotten", "one more", "in time"],
)
def test_more_than_a_fifth_of_two_hundred_late_is_a_pause(outcomes: str, paused: bool) -> None:
    assert pace_after(outcomes).paused(0.0) is paused


def test_a_pause_lasts_a_minute_and_then_starts_afresh() -> None:
    late_legs = pace_after("L" * 200, now_s=100.0)
    assert late_legs.paused(159.9)
    assert not late_legs.paused(160.0)
    assert late_legs.late_share() == 0.0


def test_the_late_share_is_of_the_last_two_hundred() -> None:
    assert LateLegs().late_share() == 0.0
    assert pace_after("L" * 10 + "." * 290 + "L").late_share() == 1 / 200


@pytest.mark.parametrize(
    ("baselines_s", "leg_timeout_s"),
    [([], 0.03), ([0.01], 0.07), ([0.01] * 100, 0.07), ([100.0], 10.0)],
    ids=["nothing known: the cut-off", "four times the first", "four times the usual", "never over ten seconds"],
)
def test_a_leg_may_take_the_cutoff_and_four_usual_baselines(baselines_s: list[float], leg_timeout_s: float) -> None:
    late_legs = LateLegs()
    for baseline_s in baselines_s:
        late_legs.record(late=False, baseline_s=baseline_s, now_s=0.0)
    assert late_legs.leg_timeout_s(0.03) == pytest.approx(leg_timeout_s)


def test_one_slow_baseline_moves_the_usual_time_by_a_twentieth() -> None:
    late_legs = pace_after("." * 100, baseline_s=0.01)
    late_legs.record(late=False, baseline_s=1.01, now_s=0.0)
    assert late_legs.leg_timeout_s(0.0) == pytest.approx(4.0 * 0.06)
