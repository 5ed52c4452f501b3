"""Diversity of one page and of all pages of a window; docs/measures.md shows each formula on an example.

A page is the list of its hits' categories (or of their attributes, or ages) in displayed order. None stands for a hit whose value
is unknown: a measure leaves it out, and `known_share` is the share of hits that were measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, lgamma, log
from typing import TypeVar

T = TypeVar("T")


def known(values: Iterable[T | None]) -> list[T]:
    """Return the values that are known, in order."""
    return [value for value in values if value is not None]


def known_share(values: Sequence[object | None]) -> float | None:
    """Return the share in [0, 1] of a page's hits whose value is known; None for an empty page."""
    return len(known(values)) / len(values) if values else None


def coverage_at(categories: Sequence[Hashable | None], k: int) -> int:
    """Return the number of different categories among the first `k` hits (category coverage@k)."""
    return len(set(known(categories[:k])))


def entropy(categories: Iterable[Hashable | None]) -> float | None:
    """Return the Shannon entropy of the categories' shares, in nats; None where no category is known.

    H = −Σ p·ln p (Shannon 1948), p being a category's share of the hits whose category is known.
    """
    counts = Counter(known(categories))
    return entropy_of(counts.values()) if counts else None


def entropy_of(counts: Iterable[float]) -> float:
    """Return the entropy of counts ≥ 0 in nats; 0 where all of them are 0."""
    positive = [count for count in counts if count > 0]
    total = sum(positive)
    return max(0.0, -sum(count / total * log(count / total) for count in positive))


def normalized_entropy(categories: Sequence[Hashable | None]) -> float | None:
    """Return the entropy divided by that of hits which all differ: 0 for one category, 1 if each hit has a category of its own.

    The divisor is ln of the number of hits with a known category (Pielou's evenness takes the number of categories instead, and
    calls a page of two categories as even as one of ten). None where fewer than two categories are known.
    """
    values = known(categories)
    return entropy_of(Counter(values).values()) / log(len(values)) if len(values) > 1 else None


def intra_list_diversity(attributes: Sequence[frozenset[Hashable] | None]) -> float | None:
    """Return the mean distance of two hits of a page, in [0, 1] (Ziegler et al., WWW 2005); None for fewer than two known hits.

    attributes: each hit's set of (field, value) pairs; the distance is Jaccard's, 1 − |A ∩ B| / |A ∪ B|, and 0 for two empty
    sets.
    """
    sets = known(attributes)
    if len(sets) < 2:
        return None
    distances = [jaccard_distance(one, other) for one, other in combinations(sets, 2)]
    return sum(distances) / len(distances)


def jaccard_distance(one: frozenset[Hashable], other: frozenset[Hashable]) -> float:
    """Return 1 − |A ∩ B| / |A ∪ B|; 0 for two empty sets."""
    common = len(one & other)
    union = len(one) + len(other) - common
    return 1.0 - common / union if union else 0.0


@dataclass(frozen=True, slots=True)
class Ages:
    """The ages of shown items, in days: median, 90th percentile, and the share in [0, 1] that is younger than `young_days`."""

    median_days: float
    p90_days: float
    young_share: float
    young_days: float


def item_ages(ages_days: Iterable[float | None], young_days: float = 30.0) -> Ages | None:
    """Return the ages' summary, None if no age is known. An item that is listed later than it was shown has the age 0.

    Percentiles are linear between the two nearest ranks (numpy's default).
    """
    ages = sorted(max(0.0, age) for age in known(ages_days))
    if not ages:
        return None
    young = sum(age < young_days for age in ages) / len(ages)
    return Ages(_percentile(ages, 0.5), _percentile(ages, 0.9), young, young_days)


def _percentile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def catalogue_coverage(shown: Mapping[Hashable, float], catalogue_size: int) -> float:
    """Return the share in [0, 1] of a catalogue's items that were shown at least once in a window.

    shown: impressions by item. Raises ValueError if the catalogue has fewer items than were shown.
    """
    different = sum(count > 0 for count in shown.values())
    if catalogue_size < different or catalogue_size <= 0:
        raise ValueError(f"a catalogue of {catalogue_size} items cannot have shown {different} different ones")
    return different / catalogue_size


def rarefied(shown: Iterable[int], hits: int) -> float:
    """Return how many different items `hits` impressions show on average, drawn from all of them without replacement.

    E = Σ_i 1 − C(N − x_i, n) / C(N, n), N = Σx, n = hits (Hurlbert 1971). It compares windows of different length, of which the
    longer one shows more items by its length alone. shown: impressions by item. Raises ValueError for more hits than there are.
    """
    counts = [count for count in shown if count > 0]
    total = sum(counts)
    if not 0 <= hits <= total:
        raise ValueError(f"{hits} impressions cannot be drawn from {total}")
    left = total - hits
    none_of_all = lgamma(left + 1) - lgamma(total + 1)
    missed = {
        count: exp(lgamma(total - count + 1) - lgamma(left - count + 1) + none_of_all) if count <= left else 0.0
        for count in set(counts)
    }
    return sum(1.0 - missed[count] for count in counts)


def gini(shown: Iterable[float], catalogue_size: int | None = None) -> float | None:
    """Return the Gini coefficient of impressions over items: 0 where all items are shown equally often, near 1 where one has all.

    G = Σ_i (2i − n − 1)·x_i / (n·Σx), x sorted ascending, i from 1 (Gini 1912; for recommenders Adomavicius and Kwon, TKDE 2012).
    catalogue_size: the number of items; those that were never shown count as 0. By default the items in `shown`.
    None where nothing was shown.
    """
    counts = sorted(shown)
    size = len(counts) if catalogue_size is None else catalogue_size
    total = sum(counts)
    if size < len(counts):
        raise ValueError(f"a catalogue of {size} items cannot have shown {len(counts)} different ones")
    if not total:
        return None
    never = size - len(counts)
    return sum((2 * (never + at) - size - 1) * count for at, count in enumerate(counts, 1)) / (size * total)
