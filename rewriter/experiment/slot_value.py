"""The value of exploration slots by inverse propensity: the only part of a page whose choice was random and logged.

A slot's hit was drawn with a known probability. Weighted by the inverse probability, the clicks on drawn hits estimate the clicks
that a *uniform* draw from the same candidates would have had; unweighted, they are the clicks of the drawing rule. Weights are
clipped, since one click on a hit drawn with probability 0.001 would otherwise dominate the estimate. The clipped estimate is biased
towards hits that were drawn often; its effective sample size shows the amount of data behind it (Swaminathan and Joachims, NIPS
2015: self-normalized; Kish 1965: ESS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

MAX_WEIGHT = 20.0
"""Largest weight of a slot, in multiples of the median weight."""


@dataclass(frozen=True, slots=True)
class DrawnSlot:
    """One displayed exploration hit: the person who saw it, the probability of its draw, and its clicks, orders or revenue."""

    person: str
    propensity: float
    reward: float


@dataclass(frozen=True, slots=True)
class SlotValue:
    """The mean reward of a slot: as drawn, and as estimated for a uniform draw from the same candidates.

    effective_slots: (Σw)² / Σw² of the clipped weights. clipped: the number of clipped weights. invalid: slots left out for a
    propensity that is not in (0, 1]. Standard errors are over people (a person's slots are not independent).
    """

    slots: int
    drawn: float
    drawn_error: float
    uniform: float
    uniform_error: float
    effective_slots: float
    clipped: int
    invalid: int


def slot_value(slots: Sequence[DrawnSlot], max_weight: float = MAX_WEIGHT) -> SlotValue:
    """Return the value of slots. max_weight: where a weight is clipped, in multiples of the median weight."""
    people = np.unique([one.person for one in slots], return_inverse=True)[1]
    rewards, propensities = (
        np.array([getattr(one, name) for one in slots], dtype=np.float64) for name in ("reward", "propensity")
    )
    return slot_value_of(people, propensities, rewards, max_weight)


def slot_value_of(
    people: NDArray[np.int64],
    propensities: NDArray[np.float64],
    rewards: NDArray[np.float64],
    max_weight: float = MAX_WEIGHT,
) -> SlotValue:
    """Return the value of slots as columns, one element each. people: a number for each person, from 0."""
    sound = (propensities > 0.0) & (propensities <= 1.0)
    invalid = int((~sound).sum())
    if not sound.any():
        return SlotValue(0, nan, nan, nan, nan, 0.0, 0, invalid)
    people, rewards, raw = np.unique(people[sound], return_inverse=True)[1], rewards[sound], 1.0 / propensities[sound]
    cap = max_weight * float(np.median(raw))
    weights = np.minimum(raw, cap)
    drawn, drawn_error = _weighted(np.ones(len(raw)), rewards, people)
    uniform, uniform_error = _weighted(weights, rewards, people)
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return SlotValue(len(raw), drawn, drawn_error, uniform, uniform_error, effective, int((raw > cap).sum()), invalid)


def _weighted(weights: np.ndarray, rewards: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Return the self-normalized mean, and its standard error by linearization over people."""
    total = float(weights.sum())
    value = float((weights * rewards).sum()) / total
    influence = np.bincount(people, weights * (rewards - value))
    count = len(influence)
    if count < 2:
        return value, nan
    return value, sqrt(float((influence**2).sum()) * count / (count - 1)) / total
