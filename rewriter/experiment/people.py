"""The people of an experiment as columns, and the effect on each measure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from rewriter.experiment.estimates import Adjusted, Effect, Numbers, cuped, cuped_ratio, mean, ratio
from rewriter.experiment.records import Records

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of both arms. lift and its bounds are relative; None without an interval."""

    name: str
    treated: float
    control: float
    lift: float | None
    low: float | None
    high: float | None
    p_value: float
    adjusted_p: float | None = None
    explained: float = 0.0
    note: str = ""


class People:
    """The people's columns, and a mask for each arm."""

    def __init__(self, records: Records) -> None:
        columns = records.columns("SELECT * FROM people ORDER BY first_day, unit")
        self.columns = {
            name: np.ma.filled(values, np.nan) if np.ma.isMaskedArray(values) and values.dtype.kind == "f" else values
            for name, values in columns.items()
        }
        self.treated = np.asarray(self.columns["treated"], dtype=bool)
        self.count = len(self.treated)

    @property
    def both(self) -> bool:
        """Whether each arm has at least one person."""
        return bool(self.treated.any() and not self.treated.all())

    def arms(self, name: str, mask: Mask | None = None) -> tuple[Numbers, Numbers]:
        """Return a column of the treated people and of the people held out, for the people in `mask`."""
        values = np.asarray(self.columns[name], dtype=np.float64)
        chosen = np.ones(self.count, dtype=bool) if mask is None else mask
        return values[chosen & self.treated], values[chosen & ~self.treated]


MEASURES = {
    "conversion": ("bought", None),
    "clicks_per_search": ("clicks", "searches"),
    "searches_clicked": ("clicked", "searches"),
    "carts_per_person": ("carts", None),
    "orders_per_person": ("purchases", None),
    "searches_per_person": ("searches", None),
}
"""By measure: the column of its numerator, and that of its denominator; None for the number of people."""


def effect_of(people: People, name: str, mask: Mask | None = None) -> Effect:
    """Return one measure's effect."""
    numerator, denominator = MEASURES[name]
    if denominator is None:
        return Effect(*map(mean, people.arms(numerator, mask)))
    return Effect(
        *(ratio(x, y) for x, y in zip(people.arms(numerator, mask), people.arms(denominator, mask), strict=True))
    )


BEFORE = {
    "bought": "purchases_before",
    "purchases": "purchases_before",
    "clicks": "clicks_before",
    "clicked": "clicks_before",
    "searches": "searches_before",
}
"""By column: the column of the same people's behavior before the experiment that explains most of it."""


def adjusted_effect(people: People, name: str) -> Adjusted:
    """Return one measure's effect, adjusted for people's behavior before the experiment where the records hold any."""
    numerator, denominator = MEASURES[name]
    if numerator not in BEFORE:
        return Adjusted(effect_of(people, name), 0.0)
    before = people.arms(BEFORE[numerator])
    if denominator is None:
        return cuped(*people.arms(numerator), *before)
    searched = people.arms(BEFORE[denominator])
    # Who searched before and never clicked has a history without clicks, not none.
    known = [np.where(np.isnan(x) & (y > 0.0), 0.0, x) for x, y in zip(before, searched, strict=True)]
    (x, y), (x_held, y_held) = zip(people.arms(numerator), people.arms(denominator), strict=True)
    return cuped_ratio((x, y, known[0], searched[0]), (x_held, y_held, known[1], searched[1]))


def measure_of(name: str, effect: Effect, planned_people: float, explained: float = 0.0, note: str = "") -> Measure:
    """Return one measure with its lift, interval and p-value."""
    interval = effect.lift_interval(planned_people)
    known = interval.known
    return Measure(
        name, effect.treated.value, effect.control.value, effect.lift if isfinite(effect.lift) else None,
        interval.low if known else None, interval.high if known else None, effect.p_value(planned_people), None, explained, note,
    )  # fmt: skip
