"""nDCG@10 of rankings, and the table of means with 95 % intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from ir_measures import iter_calc, nDCG
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap

Values = NDArray[np.float64]
RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One ranking's nDCG@10 per question: of all relevant products, and of the new ones if there are any.

    personalized: the share of the questions that the library personalized, and functions the median number of functions that it
    sent; None for a plain search.
    """

    name: str
    every: Values
    new: Values
    personalized: float | None = None
    functions: float | None = None


def ndcg(pages: Sequence[Sequence[str]], wanted: Sequence[AbstractSet[str]]) -> Values:
    """Return nDCG@10, computed by ir-measures, of each page whose question has relevant products."""
    asked = {str(at): dict.fromkeys(ids, 1) for at, ids in enumerate(wanted) if ids}
    run = {at: {name: -float(rank) for rank, name in enumerate(pages[int(at)])} for at in asked}
    found = {one.query_id: float(one.value) for one in iter_calc([nDCG @ 10], asked, run)}
    return np.array([found[at] for at in asked])


def interval(values: Values, base: Values | None = None, *, seed: int) -> tuple[float, float, float]:
    """Return the mean of `values`, or its ratio to the mean of `base`, and the ends of its (paired) 95 % interval."""
    rng = np.random.default_rng(seed)
    if base is None:
        drawn = bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng)
        return float(values.mean()), *drawn.confidence_interval
    drawn = bootstrap((values, base), _ratio, paired=True, n_resamples=RESAMPLES, method="percentile", rng=rng)
    return float(_ratio(values, base)), *drawn.confidence_interval


def printed(title: str, measured: Sequence[Measured], seed: int, console: Console) -> None:
    """Print a line for each ranking; the first is the baseline of the ratios."""
    base = measured[0]
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("ranking")
    for name in ("all", "÷ baseline", "new", "÷ baseline", "personalized", "functions"):
        table.add_column(name, justify="right")
    for one in measured:
        cells = []
        for values, before in ((one.every, base.every), (one.new, base.new)):
            mean, low, high = interval(values, seed=seed)
            cells.append(f"{mean:.3f} ± {(high - low) / 2:.3f}")
            ratio, low, high = interval(values, before, seed=seed)
            cells.append("" if one is base else f"{ratio:.3f} [{low:.3f}, {high:.3f}]")
        share = "" if one.personalized is None else f"{one.personalized:.1%}"
        table.add_row(one.name, *cells, share, "" if one.functions is None else f"{one.functions:.0f}")
    console.print(table)


def _ratio(values: Values, base: Values, axis: int = -1) -> Values:
    ratio: Values = values.mean(axis=axis) / base.mean(axis=axis)
    return ratio
