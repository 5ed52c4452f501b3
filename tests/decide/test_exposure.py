"""Counts of arms, and of their changes at a log-in."""

from __future__ import annotations

from rewriter.decide.assignment import arm
from rewriter.decide.exposure import REMEMBERED, Arms
from rewriter.subject import Subject


def test_searches_by_arm() -> None:
    arms = Arms()
    for user, one in (("a", "treatment"), ("b", "holdout"), ("a", "treatment"), ("c", "not_rolled_out")):
        arms.note(Subject(user), one)  # type: ignore[arg-type]
    assert arms.status().searches == {"treatment": 2, "holdout": 1, "not_rolled_out": 1}


def test_a_log_in_changes_the_unit_and_perhaps_the_arm() -> None:
    arms = Arms()
    arms.note(Subject("visitor-1", "s1"), "treatment")
    arms.note(Subject("visitor-1", "s1"), "treatment")
    assert (arms.status().units_changed, arms.status().arms_changed) == (0, 0)
    arms.note(Subject("ann", "s1"), "holdout")
    arms.note(Subject("visitor-2", "s2"), "treatment")
    arms.note(Subject("bob", "s2"), "treatment")
    assert (arms.status().units_changed, arms.status().arms_changed) == (2, 1)


def test_a_rollout_that_grows_changes_no_unit() -> None:
    arms = Arms()
    arms.note(Subject("ann", "s1"), "not_rolled_out")
    arms.note(Subject("ann", "s1"), "treatment")
    assert (arms.status().units_changed, arms.status().arms_changed) == (0, 0)


def test_only_so_many_sessions_are_remembered() -> None:
    arms = Arms()
    arms.note(Subject("visitor", "first"), "treatment")
    for number in range(REMEMBERED):
        arms.note(Subject("somebody", f"s{number}"), "treatment")
    arms.note(Subject("ann", "first"), "treatment")
    assert arms.status().units_changed == 0


def test_the_share_of_log_ins_that_change_the_arm_is_what_chance_says() -> None:
    """With a holdout of h, a log-in lands in the other arm with a probability of 2h(1 − h)."""
    arms = Arms()
    for number in range(4_000):
        for unit in (f"visitor-{number}", f"user-{number}"):
            found = arm(unit, rollout=1.0, holdout=0.05, salt="rewriter")
            arms.note(Subject(unit, f"s{number}"), found)
    status = arms.status()
    assert status.units_changed == 4_000
    assert 0.07 < status.arms_changed / 4_000 < 0.12  # 0.095, ± 5 standard deviations
