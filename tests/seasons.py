"""Seasons of an experiment as streams in process, without engines: people of two arms, their searches, clicks and orders by day.

A person's rates are their own (gamma and beta), so that searches of one person are not independent. Everything is cumulated by day:
that is what a report which is looked at daily sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Days = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Season:
    """Cumulated numbers of shape (days, people); `treated` and `came` (seen by the end of that day) go with them."""

    treated: NDArray[np.bool_]
    came: NDArray[np.bool_]
    searches: Days
    clicks: Days
    bought: Days
    revenue: Days
    before: NDArray[np.float64]
    searched_before: NDArray[np.float64]

    def arms(self, values: Days, day: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values of those who came until `day`, treated and control."""
        came = self.came[day]
        return values[day][came & self.treated], values[day][came & ~self.treated]


def season(
    seed: int,
    *,
    people: int = 2_000,
    days: int = 28,
    share: float = 0.5,
    click_lift: float = 0.0,
    buy_lift: float = 0.0,
) -> Season:
    """Return one season. share: of the treated arm. lifts: relative, on the chance of a click or an order of a search."""
    rng = np.random.default_rng(seed)
    treated = rng.random(people) < share
    first = rng.integers(0, days, people) * (rng.random(people) < 0.6)
    rate = rng.gamma(1.5, 0.3, people)
    today = rng.poisson(rate, (days, people)) * (np.arange(days)[:, None] >= first)
    today[first, np.arange(people)] += 1
    liking = rng.beta(4, 8, people)
    buying = rng.beta(1, 30, people)
    clicks = rng.binomial(today, np.minimum(0.95, liking * (1 + click_lift * treated)))
    orders = rng.binomial(today, np.minimum(0.95, buying * (1 + buy_lift * treated)))
    revenue = orders * rng.lognormal(3.0, 1.0, (days, people))
    cumulated = [np.cumsum(one, axis=0).astype(np.float64) for one in (today, clicks, orders, revenue)]
    before = np.where(rng.random(people) < 0.7, rng.poisson(rate * liking * 28), np.nan)
    return Season(
        treated,
        cumulated[0] > 0,
        cumulated[0],
        cumulated[1],
        (cumulated[2] > 0).astype(np.float64),
        cumulated[3],
        before,
        np.where(np.isnan(before), np.nan, np.maximum(1, rng.poisson(rate * 28))),
    )
