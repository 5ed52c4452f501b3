"""Twins: pairs of made-up people who bought one product type of two different manufacturers, and search for it every week.

Both search the same words at the same time, with the same draws of exploration, so that personalization causes every difference of
their pages. Each then buys the first hit of their own manufacturer, if the page has one. The growth of the distance of their pages
over the weeks measures the bubble that this loop of showing and buying makes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rewriter.measures.bubble import PageDistance, page_distance
from season.shelf import SELLS, Shelf

WEEK_S = 604_800.0
BEFORE = 4
"""Purchases of each twin before the season, one a week."""


@dataclass(frozen=True, slots=True)
class Twin:
    """One of a pair, who bought `product_id` before the season; `makes` is their manufacturer's products of the type."""

    user_id: str
    product_type: str
    product_id: str
    makes: frozenset[str]

    @property
    def bought_ago_s(self) -> Sequence[float]:
        """Seconds from each purchase to the season's start."""
        return [(number + 0.5) * WEEK_S for number in range(BEFORE)]


Pair = tuple[Twin, Twin]


def pairs_of(shelf: Shelf, count: int) -> list[Pair]:
    """Return a pair for each of `count` product types: those whose second manufacturer has the most selling products."""
    ranked = []
    for product_type, makers in shelf.makers.items():
        sold = {
            maker: [one for one in products if shelf.corpus.products[one].popularity >= SELLS]
            for maker, products in makers.items()
        }
        order = sorted(sold, key=lambda maker: (-len(sold[maker]), maker))[:2]
        if len(order) == 2 and sold[order[1]]:
            ranked.append((-len(sold[order[1]]), product_type, order, sold))
    found = []
    for _, product_type, order, sold in sorted(ranked, key=lambda one: one[:2])[:count]:
        one, other = (
            Twin(
                f"twin-{maker}-{product_type}",
                product_type,
                sold[maker][0],
                frozenset(shelf.makers[product_type][maker]),
            )
            for maker in order
        )
        found.append((one, other))
    return found


def mean_distance(
    pages: Sequence[tuple[Sequence[str], Sequence[str]]], makers: Mapping[Hashable, Hashable]
) -> PageDistance:
    """Return the mean distance of the pairs' pages. makers: each product's manufacturer, which is its category."""
    found = [page_distance(one, other, makers) for one, other in pages]
    return PageDistance(*(fmean(getattr(one, name) for one in found) for name in ("items", "ranks", "taste")))
