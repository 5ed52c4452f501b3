"""Paired intervals over people for the difference of two rankings' measures on the same searches. Pure.

The bootstrap draws people with replacement, not searches: one person's searches resemble each other, and with searches as the
unit, intervals would be too narrow (Sakai, SIGIR 2006; cluster bootstrap: Cameron, Gelbach and Miller 2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan

import numpy as np
from numpy.typing import NDArray

from rewriter.evaluate.arrays import Numbers

RESAMPLES = 2_000
DRAWN_AT_ONCE = 4_000_000
MIN_PEOPLE = 2


@dataclass(frozen=True, slots=True)
class Paired:
    """A measure of two rankings on the same searches, with the ends of the intervals; nan without one.

    value, base:  the means over searches. difference: value − base. ratio: value ÷ base, nan where the base is 0.
    """

    value: float
    base: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    searches: int
    people: int

    @property
    def difference(self) -> float:
        """The value minus the base."""
        return self.value - self.base


def paired(
    values: Numbers, base: Numbers, people: Sequence[int] | NDArray[np.int64], *, seed: int, level: float = 0.95
) -> Paired:
    """Return the comparison of `values` with `base`: one number for each search, and the number of its person.

    level: coverage of the percentile intervals. With fewer than two people there are none. Searches with nan values are left out.
    """
    known = ~(np.isnan(values) | np.isnan(base))
    values, base = values[known], base[known]
    _, person = np.unique(np.asarray(people, np.int64)[known], return_inverse=True)
    count = int(person.max()) + 1 if len(person) else 0
    value, before = (float(one.mean()) if len(one) else nan for one in (values, base))
    ratio = value / before if before else nan
    if count < MIN_PEOPLE:
        return Paired(value, before, nan, nan, ratio, nan, nan, len(values), count)
    sums = np.stack([np.bincount(person, weights=one, minlength=count) for one in (values, base, np.ones(len(values)))])
    samples = _kept(count, seed) if count * RESAMPLES <= DRAWN_AT_ONCE else _drawn(count, seed)
    drawn = np.concatenate([one @ sums.T for one in samples]).T
    differences = (drawn[0] - drawn[1]) / drawn[2]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(differences, [tail, 1.0 - tail]).tolist()
    ratio_low = ratio_high = nan
    if before > 0.0 and bool((drawn[1] > 0.0).all()):
        ratio_low, ratio_high = np.quantile(drawn[0] / drawn[1], [tail, 1.0 - tail]).tolist()
    return Paired(value, before, low, high, ratio, ratio_low, ratio_high, len(values), count)


@lru_cache(maxsize=4)
def _kept(count: int, seed: int) -> tuple[Numbers, ...]:
    return tuple(_drawn(count, seed))


def _drawn(count: int, seed: int) -> Iterator[Numbers]:
    """Yield the number of times that each of `count` people is in a sample with replacement, some samples at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // count)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        chosen = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
