"""The spread of a query's own scores over a page, which decides how much boosts can do. Pure.

A boost multiplies a score by at most `max_boost`. If the first hit scores a larger multiple of the tenth, no boost brings the tenth
to the top: scores are steep. If all hits score nearly the same, the smallest boost decides the order: scores are flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

STEEP = 2.0
"""A page whose first score is this multiple of its tenth, in the median, leaves little to a small limit."""
FLAT = 1.05
PAGE = 10
Kind = Literal["steep", "even", "flat"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The first hit's score as a multiple of the tenth's, in the median of some searches with ten hits."""

    ratio: float
    searches: int

    def kind(self, max_boost: float) -> Kind:
        """Return whether the scores are steep, flat or neither, for boosts of at most `max_boost`."""
        if self.ratio > steep_from(max_boost):
            return "steep"
        return "flat" if self.ratio < FLAT else "even"


def steep_from(max_boost: float) -> float:
    """Return the ratio above which scores are steep."""
    return max(STEEP, max_boost)


def spread_of(pages: Iterable[Sequence[float]]) -> Spread | None:
    """Return the spread of pages of scores, None where no page has ten hits that score above 0."""
    ratios = [scores[0] / scores[PAGE - 1] for scores in pages if len(scores) >= PAGE and scores[PAGE - 1] > 0.0]
    return Spread(median(ratios), len(ratios)) if ratios else None


def in_words(found: Spread, max_boost: float) -> str:
    """Return what a spread means for boosts of at most `max_boost`."""
    first = f"the first hit scores {found.ratio:.2f} times the tenth in the median"
    match found.kind(max_boost):
        case "steep":
            weight = "a bare weight beside the query's own functions makes them flatter"
            return f"the query's scores are steep: {first}, and boosts multiply by at most {max_boost:g}; {weight}"
        case "flat":
            return f"the query's scores are flat: {first}, so that any boost decides the order"
        case "even":
            return f"the query's scores are neither steep nor flat: {first}"
