"""A report is plain, frozen data; its moves are computed on access."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from rewriter.report import BoostUsed, Exposure, Move, Reason, Report, Shown, Slot

FULL = Report(
    Reason.PERSONALIZED,
    detail="",
    variant="personalized",
    policy="shop",
    exposure=Exposure("treatment", "00ff"),
    template_version="abc",
    strategy="rescore",
    source="blend",
    boosts=(BoostUsed("brand", "nike", 0.2, "profile"),),
    factor_limit_used=1.5,
    slots=(Slot(6, "x", 0.25),),
    shadow=Shown(0.5, 1.5, ("a",)),
    seed=7,
    timings_ms={"baseline": 3.0},
    errors=("exploration: late",),
)


def test_the_least_that_is_said() -> None:
    report = Report(Reason.NO_SUBJECT)
    assert (report.reason, report.variant, report.boosts, report.slots) == ("no_subject", "baseline", (), ())
    assert (report.moves, report.timings_ms, report.errors) == ((), {}, ())


def test_a_report_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        FULL.reason = Reason.BUSY  # type: ignore[misc]


def test_it_goes_into_a_log_as_json() -> None:
    plain = asdict(replace(FULL, explain=None))
    assert json.loads(json.dumps(plain))["boosts"] == [
        {"field": "brand", "value": "nike", "weight": 0.2, "source": "profile"}
    ]


def test_moves_are_worked_out_when_asked_for() -> None:
    asked = []

    def explain() -> tuple[Move, ...]:
        asked.append(1)
        return (Move("a", 3, 0, 1.2, (0,), "names"),)

    report = replace(FULL, explain=explain)
    assert (repr(report), report) == (repr(FULL), FULL)
    assert asked == []
    assert [move.id for move in report.moves] == ["a"]
    assert asked == [1]
