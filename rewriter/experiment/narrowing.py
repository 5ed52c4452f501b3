"""The narrowing of pages by personalization, and the part that exploration slots undo: entropy of pages with and without slots.

The holdout's pages are compared first with only the personalized hits of treated pages, then with the whole treated pages. The
measure is the normalized entropy of the categories, so a page without its slots may be shorter. People are the unit. It measures
the effect of slots on a page; their effect on people over weeks shows in the slope of entropy, or by switching exploration off for
a season.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from rewriter.experiment.estimates import ratio
from rewriter.experiment.records import Records

Z = 1.96
ROUNDING = 1e-9
"""Two means of the same pages differ by less, in which order they were added."""
MIN_PEOPLE = 100
"""Number of people in each arm below which nothing is concluded."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Normalized entropies with their standard errors over people.

    holdout: entropy of the holdout's pages. alone: of the treated pages without their slots. shown: of the whole treated pages.
    given_back: shown − alone, paired within people.
    """

    people: int
    holdout: float
    holdout_error: float
    alone: float
    alone_error: float
    shown: float
    shown_error: float
    given_back: float
    given_back_error: float

    @property
    def narrows(self) -> bool:
        """Whether personalized hits alone are known to be narrower than the holdout's pages."""
        return self._below(self.alone, self.alone_error)

    @property
    def is_undone(self) -> bool:
        """Whether the whole pages are no longer known to be narrower."""
        return not self._below(self.shown, self.shown_error)

    def _below(self, value: float, error: float) -> bool:
        return value - self.holdout < -Z * sqrt(error**2 + self.holdout_error**2) - ROUNDING

    @property
    def sentence(self) -> str:
        """The comparison as sentences; it holds for one look."""
        gap, back = self.holdout - self.alone, self.given_back
        found = f"{self.alone:.3f} without slots, {self.shown:.3f} as shown, {self.holdout:.3f} in the holdout"
        if not self.narrows:
            return (
                f"Personalized hits are not known to be narrower than the holdout's pages (normalized entropy {found}), so "
                "slots have no narrowing to undo."
            )
        share = f"{back / gap:.0%} of that (± {Z * self.given_back_error / gap:.0%})"
        known = back > Z * self.given_back_error
        verdict = (
            "with slots no difference is known"
            if self.is_undone
            else "slots reduce the narrowing and do not undo it"
            if known
            else "slots do not undo it"
        )
        return f"Personalization narrows pages: normalized entropy is {found}. Slots give back {share}: {verdict}."


def narrowing_of(records: Records, sampled: float = 1.0) -> Narrowing | None:
    """Return the comparison; None without categories, slots or enough people. sampled: the share of people read."""
    columns = records.columns(
        f"""
        WITH chosen AS (
               SELECT query_id, first_position, unit, arm, categories, list_transform(hits, lambda hit:
                 coalesce(list_contains(list_transform(slots, lambda slot: slot.object_id), hit), false)) AS drawn
               FROM searches WHERE arm IN ('treatment', 'holdout') AND categories IS NOT NULL AND len(categories) = len(hits)
                 AND hash(unit) % 1000000 < {int(sampled * 1_000_000)}),
             hits AS (SELECT query_id, first_position, unit, arm, unnest(categories) AS category, unnest(drawn) AS drawn
                      FROM chosen),
             counted AS (SELECT query_id, first_position, unit, arm, category, count(*) AS n, count(*) FILTER (NOT drawn) AS own
                         FROM hits WHERE category IS NOT NULL GROUP BY ALL),
             pages AS (SELECT unit, arm, sum(n) AS n, sum(own) AS own, sum(n * ln(n)) AS logs,
                         sum(CASE WHEN own > 0 THEN own * ln(own) ELSE 0 END) AS own_logs
                       FROM counted GROUP BY query_id, first_position, unit, arm HAVING sum(own) > 1)
        SELECT arm = 'treatment' AS treated, count(*)::DOUBLE AS pages, sum(1 - logs / n / ln(n)) AS shown,
          sum(1 - own_logs / own / ln(own)) AS alone, sum(n - own)::DOUBLE AS slots
        FROM pages GROUP BY arm, unit
        """
    )
    treated = np.asarray(columns["treated"], dtype=bool)
    if min(int(treated.sum()), int((~treated).sum())) < MIN_PEOPLE or not columns["slots"].sum() > 0.0:
        return None
    pages, shown, alone = (np.asarray(columns[name], dtype=np.float64) for name in ("pages", "shown", "alone"))
    held = ratio(shown[~treated], pages[~treated])
    arms = [ratio(values[treated], pages[treated]) for values in (alone, shown, shown - alone)]
    return Narrowing(
        len(treated), held.value, held.standard_error,
        *(number for one in arms for number in (one.value, one.standard_error)),
    )  # fmt: skip
