"""Arms: equal on every machine, in the promised shares, and independent of other experiments."""

from __future__ import annotations

import pytest

from rewriter.decide.assignment import Arm, arm, bucket

UNITS = [f"user-{number}" for number in range(20_000)]


@pytest.mark.parametrize(
    ("unit", "rollout", "holdout", "expected"),
    [
        ("anybody", 1.0, 0.0, "treatment"),
        ("anybody", 0.0, 0.0, "not_rolled_out"),
        ("anybody", 0.0, 1.0, "not_rolled_out"),
        ("anybody", 1.0, 1.0, "holdout"),
        (None, 1.0, 1.0, "treatment"),
        (None, 0.1, 0.05, "treatment"),
        (None, 0.0, 0.0, "not_rolled_out"),
    ],
)
def test_zero_and_one_mean_what_they_say(unit: str | None, rollout: float, holdout: float, expected: Arm) -> None:
    assert arm(unit, rollout=rollout, holdout=holdout, salt="s") == expected


@pytest.mark.parametrize(("rollout", "holdout"), [(1.0, 0.05), (0.5, 0.05), (0.1, 0.5)])
def test_arms_have_the_shares_of_the_settings(rollout: float, holdout: float) -> None:
    arms = [arm(unit, rollout=rollout, holdout=holdout, salt="s") for unit in UNITS]
    shares = {name: arms.count(name) / len(arms) for name in ("not_rolled_out", "holdout", "treatment")}
    assert shares == pytest.approx(
        {
            "not_rolled_out": 1.0 - rollout,
            "holdout": rollout * holdout,
            "treatment": rollout * (1.0 - holdout),
        },
        abs=0.015,
    )


def test_a_unit_stays_where_it_is_across_machines_and_restarts() -> None:
    """The digits are BLAKE2b's own; a change of this number moves everybody into another arm."""
    assert bucket("user-1", "holdout", "rewriter") == 0.47395290407298585


def test_whoever_was_rolled_out_to_stays_so_as_the_rollout_grows() -> None:
    small, large = (
        {unit for unit in UNITS if arm(unit, rollout=rollout, holdout=0.0, salt="s") == "treatment"}
        for rollout in (0.1, 0.3)
    )
    assert small < large


@pytest.mark.parametrize(
    ("one", "other"), [(("rollout", "s"), ("holdout", "s")), (("holdout", "s"), ("holdout", "another salt"))]
)
def test_experiments_are_independent(one: tuple[str, str], other: tuple[str, str]) -> None:
    both = sum(bucket(unit, *one) < 0.5 and bucket(unit, *other) < 0.5 for unit in UNITS)
    assert both / len(UNITS) == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("unit", ["", "ü", "\ud800", "x" * 1_000_000, "a\x1fb"])
def test_any_text_has_a_place(unit: str) -> None:
    assert 0.0 <= bucket(unit, "holdout", "s") < 1.0
