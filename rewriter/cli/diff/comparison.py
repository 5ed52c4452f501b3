"""Figures of a diff, computed from pairs of pages: each search's page in both versions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from rewriter.measures.bubble import rank_biased_overlap

P = 0.9
"""Persistence of the rank-biased overlap: at 0.9, the first ten ranks carry 86 % of its weight (Webber et al., TOIS 2010)."""
MOST = 10
"""The number of people, products and failures that are listed."""


@dataclass(frozen=True, slots=True)
class Served:
    """The page of one search in one version.

    ids:      its hits in order, at most k.
    reason:   the report's reason; `boosts`: the number of functions sent.
    boosted:  hits of the page that a boost raised; `at_limit`: those that reached `max_boost`.
    failure:  why the page is the plain one although it should not be, "" if nothing failed.
    searches: searches sent for it in the policy's own mode, without exploration.
    leg_ms:   time of the search with boosts, None if none was sent.
    """

    ids: tuple[str, ...]
    reason: str
    boosts: int = 0
    boosted: int = 0
    at_limit: int = 0
    searches: int = 1
    leg_ms: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The pages of one search in both versions. `person` numbers the subjects in the order of the file."""

    line: int
    words: str
    person: int
    a: Served
    b: Served
    titles: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def changed(self) -> bool:
        """Whether the pages differ, in their hits or in their order."""
        return self.a.ids != self.b.ids

    @property
    def rbo(self) -> float:
        """The rank-biased overlap of both pages, in [0, 1]."""
        return rank_biased_overlap(self.a.ids, self.b.ids, P)

    def overlap(self, k: int) -> float:
        """Return overlap@k in [0, 1]: the hits of both pages, divided by the longer one's number, at most k."""
        longest = min(k, max(len(self.a.ids), len(self.b.ids)))
        return len(set(self.a.ids[:k]) & set(self.b.ids[:k])) / longest if longest else 1.0


def figures(pairs: Sequence[Pair], k: int) -> dict[str, Any]:
    """Return the figures of all pairs (at least one) as plain values for JSON."""
    overlaps, rbos = [one.overlap(k) for one in pairs], [one.rbo for one in pairs]
    changed = [one for one in pairs if one.changed]
    return {
        "compared": len(pairs),
        "k": k,
        "changed": len(changed),
        "changed_share": len(changed) / len(pairs),
        "overlap": {"mean": _mean(overlaps), "p10": percentile(overlaps, 0.1), "least": min(overlaps)},
        "rbo": {"p": P, "mean": _mean(rbos), "p10": percentile(rbos, 0.1), "least": min(rbos)},
        "failures": failures(pairs),
        "versions": {"a": _version([one.a for one in pairs]), "b": _version([one.b for one in pairs])},
        "products": products(pairs, k),
        "people": people(pairs),
        "pages": [_page(one, k) for one in sorted(changed, key=lambda one: (one.rbo, one.line))],
    }


def failures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return in how many searches each version failed and why, and the lines of those that only one of them failed in.

    Where a version fails, its page is the plain one: it does not show what the version would do.
    """
    found: dict[str, Any] = {"both": sum(bool(one.a.failure and one.b.failure) for one in pairs)}
    for name, own, other in (("a", 0, 1), ("b", 1, 0)):
        pages = [((one.a, one.b)[own].failure, (one.a, one.b)[other].failure, one.line) for one in pairs]
        alone = [line for failure, others, line in pages if failure and not others]
        causes = Counter(failure for failure, _, _ in pages if failure)
        found[name] = {
            "searches": causes.total(),
            "alone": len(alone),
            "lines": alone[:MOST],
            "causes": dict(causes.most_common(MOST)),
        }
    return found


def products(pairs: Iterable[Pair], k: int) -> dict[str, list[dict[str, Any]]]:
    """Return the products that gain and lose most, by the sum of the ranks that they moved over all pages.

    A product that a page does not show counts as if it stood just below it, at rank k + 1.
    """
    gains: Counter[str] = Counter()
    pages: Counter[str] = Counter()
    entered: Counter[str] = Counter()
    left: Counter[str] = Counter()
    titles: dict[str, str] = {}
    for pair in pairs:
        before, after = ({one: rank for rank, one in enumerate(page.ids)} for page in (pair.a, pair.b))
        for one in {**before, **after}:
            moved = before.get(one, k) - after.get(one, k)
            if moved:
                gains[one] += moved
                pages[one] += 1
                entered[one] += one not in before
                left[one] += one not in after
                titles[one] = pair.titles.get(one, one)
    rows: list[dict[str, Any]] = [
        {
            "id": one,
            "title": titles[one],
            "ranks": gain,
            "pages": pages[one],
            "entered": entered[one],
            "left": left[one],
        }
        for one, gain in gains.items()
    ]
    up = sorted((row for row in rows if row["ranks"] > 0), key=lambda row: (-row["ranks"], row["id"]))
    down = sorted((row for row in rows if row["ranks"] < 0), key=lambda row: (row["ranks"], row["id"]))
    return {"up": up[:MOST], "down": down[:MOST]}


def people(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Return the people whose pages change most, by the mean rank-biased overlap of their pages. A line identifies each person."""
    of: dict[int, list[Pair]] = {}
    for pair in pairs:
        of.setdefault(pair.person, []).append(pair)
    rows = [
        {
            "line": own[0].line,
            "searches": len(own),
            "changed": sum(one.changed for one in own),
            "rbo": _mean([one.rbo for one in own]),
        }
        for own in of.values()
        if any(one.changed for one in own)
    ]
    return sorted(rows, key=lambda row: (row["rbo"], row["line"]))[:MOST]


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _version(pages: Sequence[Served]) -> dict[str, Any]:
    legs = [one.leg_ms for one in pages if one.leg_ms is not None]
    boosted = sum(one.boosted for one in pages)
    at_limit = sum(one.at_limit for one in pages)
    return {
        "reasons": dict(Counter(one.reason for one in pages).most_common()),
        "boosted_hits": boosted,
        "at_limit": at_limit,
        "at_limit_share": at_limit / boosted if boosted else 0.0,
        "searches": _mean([float(one.searches) for one in pages]),
        "functions": _mean([float(one.boosts) for one in pages]),
        "leg_ms": {"p50": percentile(legs, 0.5), "p95": percentile(legs, 0.95)} if legs else None,
    }


def _page(pair: Pair, k: int) -> dict[str, Any]:
    return {
        "line": pair.line,
        "words": pair.words,
        "overlap": pair.overlap(k),
        "rbo": pair.rbo,
        "a": {"reason": pair.a.reason, "hits": _hits(pair, pair.a)},
        "b": {"reason": pair.b.reason, "hits": _hits(pair, pair.b)},
    }


def _hits(pair: Pair, page: Served) -> list[dict[str, str]]:
    return [{"id": one, "title": pair.titles.get(one, one)} for one in page.ids]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
