"""Measures of rankings (nDCG@10, MRR@10, recall@10), and their table with 95 % intervals by a bootstrap over households."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
from ir_measures import RR, R, iter_calc, nDCG
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Values = NDArray[np.float64]
RESAMPLES = 2_000
MEASURES = {"nDCG@10": nDCG @ 10, "MRR@10": RR @ 10, "recall@10": R @ 10}
Pages = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Group:
    """Questions with relevant products, by their number among all: the products, and the household that searches."""

    name: str
    numbers: tuple[int, ...]
    wanted: tuple[AbstractSet[str], ...]
    households: tuple[str, ...]

    def measured(self, pages: Pages) -> dict[str, Values]:
        """Return each measure of each question's page, computed by ir-measures."""
        relevant = {str(at): dict.fromkeys(ids, 1) for at, ids in zip(self.numbers, self.wanted, strict=True)}
        run = {at: {name: -float(rank) for rank, name in enumerate(pages[int(at)])} for at in relevant}
        found: dict[str, dict[str, float]] = {name: dict.fromkeys(relevant, 0.0) for name in MEASURES}
        names = {measure: name for name, measure in MEASURES.items()}
        for one in iter_calc(list(names), relevant, run):
            found[names[one.measure]][one.query_id] = float(one.value)
        return {name: np.array([of[at] for at in relevant]) for name, of in found.items()}


def ndcg(pages: Pages, wanted: Sequence[AbstractSet[str]]) -> Values:
    """Return nDCG@10 of each page whose question has relevant products."""
    numbers = tuple(at for at, ids in enumerate(wanted) if ids)
    return Group("all", numbers, tuple(wanted[at] for at in numbers), ()).measured(pages)["nDCG@10"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One ranking: by group and measure, the values of its questions. A plain search has no more than these.

    base:         the name of the ranking whose query it boosts.
    personalized: the share of the questions that the library personalized.
    functions, bytes_read: medians over the questions.
    coverage:     distinct products on all pages. displaced: of a baseline's page, how many products are not on this one.
    """

    name: str
    values: Mapping[str, Mapping[str, Values]]
    base: str = ""
    personalized: float | None = None
    functions: float | None = None
    bytes_read: float | None = None
    coverage: int = 0
    displaced: float | None = None
    slower: float | None = None
    first: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)

    def of(self, group: str, measure: str = "nDCG@10") -> Values | None:
        """Return the values of a group; of `first`, of all questions where each is the first search for its words."""
        found = self.first.get("all") if group == "first" else self.values.get(group)
        return None if found is None else found[measure]


def interval(
    values: Values, households: Sequence[str], base: Values | None = None, *, seed: int
) -> tuple[float, float, float]:
    """Return the mean of `values`, or its ratio to the mean of `base`, and the ends of its (paired) 95 % interval.

    Households are drawn with all of their questions, since these resemble each other.
    """
    _, owner = np.unique(np.array(households), return_inverse=True)
    count = int(owner.max()) + 1
    over = np.ones_like(values) if base is None else base
    tops, bottoms = np.bincount(owner, values, count), np.bincount(owner, over, count)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES)
    found = (drawn @ tops) / np.maximum(drawn @ bottoms, 1e-12)
    low, high = np.percentile(found, (2.5, 97.5))
    return float(values.sum() / over.sum()), float(low), float(high)


def printed(title: str, measured: Sequence[Measured], groups: Mapping[str, Group], seed: int, console: Console) -> None:
    """Print one table for each measure, and one of the rankings' costs. The first ranking is the baseline of the ratios."""
    base = measured[0]
    for measure in MEASURES:
        table = Table(title=f"{measure} with 95 % intervals over households · {title}", title_justify="left")
        table.add_column("ranking")
        for name in ("all", "new", "cold", "first"):
            table.add_column(name if name == "first" else f"{name} ({len(groups[name].numbers):,})", justify="right")
            table.add_column("÷ baseline", justify="right")
        for one in measured:
            cells: list[str] = []
            for name in ("all", "new", "cold", "first"):
                values, before = one.of(name, measure), base.of("all" if name == "first" else name, measure)
                cells += _cells(values, before, groups["all" if name == "first" else name], seed, is_base=one is base)
            table.add_row(one.name, *cells)
        console.print(table)
    costs = Table(title="Coverage and cost of the rankings", title_justify="left")
    costs.add_column("ranking")
    for name in ("personalized", "functions", "bytes read", "leg ÷ plain", "coverage", "displaced of 10"):
        costs.add_column(name, justify="right")
    for one in measured:
        costs.add_row(
            one.name,
            "" if one.personalized is None else f"{one.personalized:.1%}",
            "" if one.functions is None else f"{one.functions:.0f}",
            "" if one.bytes_read is None else f"{one.bytes_read:,.0f}",
            "" if one.slower is None else f"{one.slower:.2f}",
            f"{one.coverage:,}",
            "" if one.displaced is None else f"{one.displaced:.1f}",
        )
    console.print(costs)


def _cells(values: Values | None, base: Values | None, group: Group, seed: int, *, is_base: bool) -> list[str]:
    if values is None or not len(values):
        return ["", ""]
    mean, low, high = interval(values, group.households, seed=seed)
    cells = [f"{mean:.3f} ± {(high - low) / 2:.3f}"]
    if is_base or base is None or not base.sum():
        return [*cells, ""]
    ratio, low, high = interval(values, group.households, base, seed=seed)
    return [*cells, f"{ratio:.3f} [{low:.3f}, {high:.3f}]"]
