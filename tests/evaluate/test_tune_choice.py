"""The choice of `rewriter tune`: the best trial that surely keeps new items, confirmed or refused on the later window."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from rewriter.evaluate.intervals import Paired
from rewriter.evaluate.tuning import Confirmation, Trial, _choice


def trial(number: int, every: float, ratio: float, low: float) -> Trial:
    return Trial(number, {}, every, 0.3 * ratio, 1.0, ratio, low)


TRIALS = [trial(0, 0.50, 0.98, 0.97), trial(1, 0.55, 0.96, 0.94), trial(2, 0.52, 0.97, 0.955), trial(3, 0.60, 0.8, 0.7)]


@pytest.mark.parametrize(
    ("spare_new", "now", "number"),
    [
        (0.0, trial(-1, 0.50, 0.98, 0.97), 3),
        (0.95, trial(-1, 0.50, 0.98, 0.97), 2),  # trial 1 keeps 95 % in the mean only
        (
            0.95,
            trial(-1, 0.56, 0.90, 0.88),
            2,
        ),  # the policy costs new items more than is allowed: less gain is proposed
        (0.95, trial(-1, 0.56, 0.96, 0.95), None),
        (0.99, trial(-1, 0.50, 0.98, 0.97), None),
    ],
)
def test_the_best_trial_that_surely_keeps_new_items_is_chosen(spare_new: float, now: Trial, number: int | None) -> None:
    chosen, reason = _choice(TRIALS, now, spare_new)
    assert (chosen.number if chosen else None) == number
    assert bool(reason) is (chosen is None)
    if spare_new == 0.99:
        assert "trial 0, keeps 98.0% of the baseline's nDCG of new items, with chance from 97.0% on" in reason


def test_a_trial_that_fails_for_more_people_than_the_policy_as_it_is_is_not_chosen() -> None:
    now = trial(-1, 0.50, 0.98, 0.97)
    failing = [replace(one, failed=2) for one in TRIALS]
    chosen, _ = _choice([*failing[1:], TRIALS[0]], replace(now, every=0.49), 0.0)
    assert (chosen.number if chosen else None) == 0
    assert _choice(failing, now, 0.0) == (
        None, "every trial fails in 2 training searches at least, the policy as it is in 0",
    )  # fmt: skip
    assert _choice(failing, replace(now, failed=2), 0.0)[0] == failing[3]


def test_what_fails_for_more_people_on_the_later_window_is_refused() -> None:
    gain = compared(0.55, 0.50, 0.03)
    assert Confirmation(gain, gain, gain, gain, failed=(3, 3)).refusal(0.0) == ""
    assert Confirmation(gain, gain, gain, gain, failed=(0, 1)).refusal(0.0) == (
        "on the later window the change fails in 1 search, the policy as it is in 0"
    )


def compared(value: float, base: float, low: float, searches: int = 100) -> Paired:
    return Paired(value, base, low, low + 0.02, value / base if base else nan, nan, nan, searches, 50)


@pytest.mark.parametrize(
    ("every", "new", "plain", "plain_new", "is_refused"),
    [
        ((0.55, 0.50, 0.03), (0.29, 0.29, -0.01), (0.55, 0.40, 0.1), (0.29, 0.30, -0.02), False),
        ((0.55, 0.54, -0.01), (0.29, 0.29, -0.01), (0.55, 0.40, 0.1), (0.29, 0.30, -0.02), True),
        (
            (0.52, 0.54, -0.03),
            (0.29, 0.25, 0.01),
            (0.52, 0.40, 0.1),
            (0.29, 0.30, -0.02),
            False,
        ),  # it spares what was lost
        (
            (0.51, 0.50, -0.01),
            (0.30, 0.29, 0.01),
            (0.51, 0.40, 0.1),
            (0.30, 0.30, -0.01),
            False,
        ),  # new items alone gain
        ((0.49, 0.50, -0.02), (0.30, 0.29, 0.01), (0.49, 0.40, 0.1), (0.30, 0.30, -0.01), True),
        ((0.52, 0.54, -0.03), (0.29, 0.25, 0.01), (0.41, 0.40, -0.01), (0.29, 0.30, -0.02), True),
        ((0.55, 0.50, 0.03), (0.27, 0.29, -0.03), (0.55, 0.40, 0.1), (0.27, 0.30, -0.04), True),
    ],
)
def test_the_later_window_confirms_or_refuses(
    every: tuple[float, float, float], new: tuple[float, float, float], plain: tuple[float, float, float],
    plain_new: tuple[float, float, float], is_refused: bool,
) -> None:  # fmt: skip
    found = Confirmation(compared(*every), compared(*new), compared(*plain), compared(*plain_new))
    assert bool(found.refusal(0.95)) is is_refused
