"""Two measures of the filter bubble: the slope of a person's entropy over weeks, and the distance between the pages of twins.

The slope is observed: it is negative if a person's pages become less diverse for any cause, so it is compared between arms. The
distance of twins is causal: two made-up people with opposite histories search the same words at the same time, so personalization
causes every difference of their pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rewriter.measures.diversity import entropy_of

MIN_WEEKS = 3
"""Fewest weeks for a person's slope."""
MIN_WEEK_HITS = 10
"""Fewest hits in a week: the entropy of fewer depends more on their number than on their categories."""


def weekly_entropies(shown: Iterable[tuple[int, Hashable]], hits: int = MIN_WEEK_HITS) -> dict[int, float]:
    """Return the entropy (nats) of the categories that one person was shown in each week.

    shown: (week number, category) of each hit. The plug-in entropy of few hits is too low, the more so the fewer they are, so
    that a person who searches less would seem to narrow. Each week's entropy is Miller and Madow's estimate, H + (m − 1)/(2n) for n
    hits of m categories (Miller 1955). Weeks with fewer than `hits` hits are left out.
    """
    weeks: dict[int, Counter[Hashable]] = {}
    for week, category in shown:
        weeks.setdefault(week, Counter())[category] += 1
    found = {}
    for week, counts in sorted(weeks.items()):
        total = sum(counts.values())
        if total >= hits:
            found[week] = entropy_of(counts.values()) + (len(counts) - 1) / (2 * total)
    return found


def slope(points: Mapping[int, float], least: int = MIN_WEEKS) -> float | None:
    """Return the least-squares slope of values over their keys (per week); None for fewer than `least` points."""
    if len(points) < max(2, least):
        return None
    mean_x = sum(points) / len(points)
    mean_y = sum(points.values()) / len(points)
    spread = sum((x - mean_x) ** 2 for x in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points.items()) / spread


@dataclass(frozen=True, slots=True)
class PageDistance:
    """The distances of two pages for one search.

    items:   1 − |A ∩ B| / |A ∪ B| of the items shown, in [0, 1].
    ranks:   1 − rank-biased overlap at p = 0.9, in [0, 1]: differences at the top weigh more.
    taste:   share in [0, 1] of the categories' mass that differs: ½ Σ |share_A − share_B| (total variation).
    """

    items: float
    ranks: float
    taste: float


def page_distance(
    one: Sequence[Hashable], other: Sequence[Hashable], categories: Mapping[Hashable, Hashable] | None = None
) -> PageDistance:
    """Return the distance of two pages, each a list of item ids without repetition; two empty pages are alike.

    categories: category by item; each item without one is a category by itself.
    """
    union = set(one) | set(other)
    items = 1.0 - len(set(one) & set(other)) / len(union) if union else 0.0
    known = categories or {}
    shares = [Counter(known.get(item, item) for item in page) for page in (one, other)]
    totals = [max(1, sum(share.values())) for share in shares]
    taste = 0.5 * sum(abs(shares[0][at] / totals[0] - shares[1][at] / totals[1]) for at in shares[0] | shares[1])
    if bool(one) != bool(other):
        taste = 1.0
    return PageDistance(items, 1.0 - rank_biased_overlap(one, other), taste)


def rank_biased_overlap(one: Sequence[Hashable], other: Sequence[Hashable], p: float = 0.9) -> float:
    """Return the rank-biased overlap of two lists in [0, 1], extrapolated for equal depth (Webber et al., TOIS 2010, eq. 32).

    RBO_ext = X_k/k · p^k + (1 − p)/p · Σ_{d=1..k} X_d/d · p^d, X_d being the overlap of the first d of both, k the shorter
    length.
    """
    depth = min(len(one), len(other))
    if not depth:
        return 1.0 if len(one) == len(other) else 0.0
    seen: tuple[set[Hashable], set[Hashable]] = (set(), set())
    total, overlap = 0.0, 0
    for d, (left, right) in enumerate(zip(one, other, strict=False), 1):
        if left == right:
            overlap += 1
        else:
            overlap += (left in seen[1]) + (right in seen[0])
        seen[0].add(left)
        seen[1].add(right)
        total += overlap / d * p**d
    return overlap / depth * p**depth + (1.0 - p) / p * total
