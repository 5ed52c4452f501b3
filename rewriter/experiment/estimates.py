"""Estimates of the treated arm's effect, with people as the unit: means, ratios by the delta method, CUPED, winsorizing.

Arrays hold one number for each person of an arm. People are independent of each other, and a person's searches are not:
with searches as the unit, intervals would be too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rewriter.experiment.sequences import (
    MIN_CARRIERS,
    MIN_PEOPLE,
    PLANNED_PEOPLE,
    UNKNOWN,
    Interval,
    always_valid_p,
    sequence,
)

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mean:
    """One arm's mean (or ratio) with its standard error over people.

    carriers: (Σy)² / Σy², the effective number of people behind it: the number of buyers for a share of buyers, 1 if one person
              has the whole sum.
    """

    value: float
    standard_error: float
    people: int
    carriers: float = inf


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of the treated arm: both arms' means, and the difference with its standard error."""

    treated: Mean
    control: Mean

    @property
    def difference(self) -> float:
        """Treated minus control, in the measure's own unit."""
        return self.treated.value - self.control.value

    @property
    def standard_error(self) -> float:
        """The difference's standard error: the larger of Welch's and the pooled one.

        Welch's is too small for a small arm in which no rare large value has occurred yet; the pooled one includes the large arm.
        """
        one, other = self.treated, self.control
        welch = sqrt(one.standard_error**2 + other.standard_error**2)
        if min(one.people, other.people) < 2:
            return welch
        squares = sum((arm.people - 1) * arm.people * arm.standard_error**2 for arm in (one, other))
        return max(welch, sqrt(squares / (self.people - 2) * (1.0 / one.people + 1.0 / other.people)))

    @property
    def enough(self) -> bool:
        """Whether people and carriers are enough for the approximation behind the intervals."""
        smaller = min(self.treated.people, self.control.people)
        carriers = self.treated.carriers + self.control.carriers
        return smaller >= MIN_PEOPLE and carriers * smaller / self.people >= MIN_CARRIERS

    @property
    def people(self) -> int:
        """The number of people in both arms."""
        return self.treated.people + self.control.people

    def interval(self, planned_people: float = PLANNED_PEOPLE) -> Interval:
        """Return the difference's confidence sequence."""
        if not self.enough:
            return UNKNOWN
        return sequence(self.difference, self.standard_error, self.people, planned_people=planned_people)

    def p_value(self, planned_people: float = PLANNED_PEOPLE) -> float:
        """Return the always-valid p-value of "no difference"."""
        if not self.enough:
            return 1.0
        return always_valid_p(self.difference, self.standard_error, self.people, planned_people=planned_people)

    @property
    def lift(self) -> float:
        """The difference as a share of the control's mean; nan if that is 0."""
        return self.difference / self.control.value if self.control.value else nan

    def log_standard_error(self) -> float:
        """Return the standard error of ln(treated / control), by the delta method; inf if a mean is not above 0.

        The pooled part pools the coefficients of variation, which a lift does not change.
        """
        arms = (self.treated, self.control)
        if min(one.value for one in arms) <= 0.0 or min(one.people for one in arms) < 2:
            return inf
        relative = [(one.standard_error / one.value) ** 2 for one in arms]
        squares = sum((one.people - 1) * one.people * part for one, part in zip(arms, relative, strict=True))
        pooled = squares / (self.people - 2) * sum(1.0 / one.people for one in arms)
        return sqrt(max(sum(relative), pooled))

    def lift_interval(self, planned_people: float = PLANNED_PEOPLE) -> Interval:
        """Return the lift's confidence sequence, computed on the scale of ln(treated / control), since a lift is above −100 %."""
        error = self.log_standard_error()
        if not 0.0 < error < inf or not self.enough:
            return UNKNOWN
        found = sequence(
            log(self.treated.value / self.control.value), error, self.people, planned_people=planned_people
        )
        return Interval(_expm1(found.low), _expm1(found.high))


def _expm1(value: float) -> float:
    return inf if value > 700.0 else float(np.expm1(value))


def mean(values: Numbers) -> Mean:
    """Return the mean over people. With fewer than two people the standard error is 0, and no interval follows from it."""
    count = len(values)
    error = float(values.std(ddof=1)) / sqrt(count) if count > 1 else 0.0
    return Mean(float(values.mean()) if count else nan, error, count, carriers(values))


def carriers(values: Numbers) -> float:
    """Return (Σy)² / Σy²: the effective number of people behind a mean of values ≥ 0."""
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / squares if squares else 0.0


def ratio(numerator: Numbers, denominator: Numbers) -> Mean:
    """Return Σ numerator ÷ Σ denominator (for example clicks per search) with the delta method's standard error over people.

    Var(R) = (s²_x − 2·R·s_xy + R²·s²_y) / (n·ȳ²) (Deng, Knoblich and Lu, KDD 2018). People whose denominator is 0 count as
    people.
    """
    count = len(numerator)
    total = float(denominator.sum())
    if not count or total <= 0.0:
        return Mean(nan, 0.0, count)
    value = float(numerator.sum()) / total
    residual = (numerator - value * denominator) / (total / count)
    error = float(residual.std(ddof=1)) / sqrt(count) if count > 1 else 0.0
    return Mean(value, error, count, carriers(numerator))


def linearized(numerator: Numbers, denominator: Numbers, value: float, mean_denominator: float) -> Numbers:
    """Return each person's share in a ratio: R + (x − R·y)/ȳ, whose mean is the arm's ratio to first order."""
    return np.asarray(value + (numerator - value * denominator) / mean_denominator, dtype=np.float64)


def winsorized(values: Sequence[Numbers], share: float = 0.95) -> tuple[list[Numbers], float, int]:
    """Return the arms with values above a quantile of all positive values cut to it, the quantile, and the number of cut values.

    All arms have the same quantile, so that no arm is cut harder than another. It is the quantile of the people who spent anything:
    if 3 % buy, the 95th percentile of all people is 0. The cut makes the interval narrower; the report states how many were cut.
    """
    every = np.concatenate([np.asarray(one, dtype=np.float64) for one in values]) if values else np.empty(0)
    positive = every[every > 0.0]
    if not len(positive):
        return [np.asarray(one, dtype=np.float64) for one in values], 0.0, 0
    cap = float(np.quantile(positive, share))
    return [np.minimum(one, cap) for one in values], cap, int((every > cap).sum())


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An effect after CUPED, and the share in [0, 1] of the variance that history explained."""

    effect: Effect
    explained: float


def cuped(treated: Numbers, control: Numbers, treated_before: Numbers, control_before: Numbers) -> Adjusted:
    """Return the effect adjusted for people's behavior *before* the experiment (Deng, Xu, Kohavi and Walker, WSDM 2013).

    before: one number for each person, nan for a person without history. The two covariates, history and its absence, are fitted on
    both arms together and centered on the mean of all people, so that the difference stays unbiased. If no person has a history,
    nothing changes.
    """
    values = np.concatenate([treated, control])
    before = np.concatenate([treated_before, control_before])
    absent = np.isnan(before)
    covariates = np.column_stack([np.where(absent, 0.0, before), absent.astype(np.float64)])
    centered = covariates - covariates.mean(axis=0)
    total = float(values.var())
    if not total > 0.0 or not (centered.std(axis=0) > 0.0).any():
        return Adjusted(Effect(mean(treated), mean(control)), 0.0)
    theta = np.linalg.lstsq(centered, values - values.mean(), rcond=None)[0]
    adjusted = values - centered @ theta
    explained = max(0.0, 1.0 - float(adjusted.var()) / total)
    arms = [
        replace(mean(new), carriers=carriers(old))
        for new, old in ((adjusted[: len(treated)], treated), (adjusted[len(treated) :], control))
    ]
    return Adjusted(Effect(*arms), explained)


def cuped_ratio(
    treated: tuple[Numbers, Numbers, Numbers, Numbers], control: tuple[Numbers, Numbers, Numbers, Numbers]
) -> Adjusted:
    """Return the effect on a ratio, adjusted for the same ratio before; both are linearized (Deng, Knoblich and Lu, KDD 2018).

    treated, control: numerator and denominator, and both before the experiment (nan for a person without history).
    """
    both = [np.concatenate(pair) for pair in zip(treated, control, strict=True)]
    total = float(np.nansum(both[3]))
    rate = float(np.nansum(both[2][both[3] > 0.0])) / total if total > 0.0 else 0.0
    plain = [ratio(one[0], one[1]) for one in (treated, control)]
    if not total > 0.0 or any(arm.people < 2 for arm in plain):
        return Adjusted(Effect(*plain), 0.0)
    values = [
        linearized(one[0], one[1], arm.value, float(one[1].mean()))
        for one, arm in zip((treated, control), plain, strict=True)
    ]
    before = [np.where(one[3] > 0.0, one[2] - rate * one[3], nan) for one in (treated, control)]
    found = cuped(*values, *before)
    arms = [
        replace(new, carriers=arm.carriers)
        for new, arm in zip((found.effect.treated, found.effect.control), plain, strict=True)
    ]
    return Adjusted(Effect(*arms), found.explained)


def adjusted_p(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values (1995), in the given order."""
    if not p_values:
        return []
    return [float(one) for one in stats.false_discovery_control(np.asarray(p_values, dtype=np.float64), method="bh")]
