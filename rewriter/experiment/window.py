"""Diversity of the pages shown to each arm over a window, and the slope of people's entropy over weeks, from the records."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from rewriter.experiment.records import Records
from rewriter.measures.bubble import MIN_WEEK_HITS, MIN_WEEKS
from rewriter.measures.diversity import gini, rarefied

MAX_SEARCHES = 250_000
"""Number of searches up to which all people are measured; with more, a share of the people by the hash of their pseudonym."""
YOUNG_DAYS = 30
K = 10


@dataclass(frozen=True, slots=True)
class Diversity:
    """One arm's diversity. None if records hold no categories or ages, or if no person has enough weeks.

    coverage: different categories among the first ten hits. entropy: normalized, of the page.
    unlike: intra-list diversity of the first ten hits.
    catalogue: the share of the catalogue that as many hits show as the arm with the fewest has.
    concentration: Gini over the catalogue, which is by default the items that any arm showed.
    slope: of entropy over weeks, in nats a week, with its standard error over people. sampled: the share of people measured.
    """

    pages: int
    known: float
    coverage: float | None
    entropy: float | None
    unlike: float | None
    age_median_days: float | None
    age_p90_days: float | None
    young: float | None
    catalogue: float | None
    concentration: float | None
    slope: float | None
    slope_error: float | None
    slope_people: int
    sampled: float


def diversity_of(records: Records, catalogue_size: int = 0) -> dict[str, Diversity]:
    """Return each arm's diversity, by "treatment" and "holdout".

    catalogue_size: how many items there are; by default, or where more were shown, those that any arm showed.
    """
    searches = records.value("SELECT count(*) FROM searches") or 0
    sampled = min(1.0, MAX_SEARCHES / searches) if searches else 1.0
    records.connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE of_pages AS SELECT query_id, first_position, unit, arm, categories, ages, unlike,
          CAST(floor(date_diff('day', DATE '2000-01-03', CAST(moment AS DATE)) / 7) AS INTEGER) AS week
        FROM searches WHERE hash(unit) % 1000000 < {int(sampled * 1_000_000)} AND shown > 0;
        CREATE OR REPLACE TEMP TABLE shown_categories AS
        SELECT query_id, first_position, unit, arm, week, unnest(categories) AS category, generate_subscripts(categories, 1)
          AS place
        FROM of_pages WHERE categories IS NOT NULL;
        CREATE OR REPLACE TEMP TABLE shown_items AS
        SELECT arm, item, count(*) AS n FROM (SELECT arm, unnest(hits) AS item FROM searches)
        WHERE item IS NOT NULL GROUP BY arm, item;
        """
    )
    items = max(records.value("SELECT count(DISTINCT item) FROM shown_items") or 0, catalogue_size)
    fewest = records.value("SELECT min(hits) FROM (SELECT sum(n) AS hits FROM shown_items GROUP BY arm)") or 0
    arms = [arm for (arm,) in records.rows("SELECT DISTINCT arm FROM searches ORDER BY arm DESC")]
    return {arm: _of_arm(records, arm, items, int(fewest), sampled) for arm in arms}


def _of_arm(records: Records, arm: str, items: int, fewest: int, sampled: float) -> Diversity:
    pages = records.value("SELECT count(*) FROM of_pages WHERE arm = ?", [arm])
    known, coverage, entropy = records.rows(
        f"""
        WITH counted AS (SELECT query_id, first_position, category, count(*) AS n, count(*) FILTER (place <= {K}) AS top FROM
          shown_categories
                         WHERE arm = ? AND category IS NOT NULL GROUP BY ALL),
             pages AS (SELECT sum(n) AS hits, count(*) FILTER (top > 0) AS different, -sum(n * ln(n)) AS logs
                       FROM counted GROUP BY query_id, first_position)
        SELECT count(*), avg(different), avg(CASE WHEN hits > 1 THEN (ln(hits) + logs / hits) / ln(hits) END) FROM pages
        """,
        [arm],
    )[0]
    ages = records.rows(
        f"""
        SELECT quantile_cont(age, 0.5), quantile_cont(age, 0.9), avg((age < {YOUNG_DAYS})::INT) FROM
          (SELECT greatest(0, unnest(ages)) AS age FROM of_pages WHERE arm = ? AND ages IS NOT NULL) WHERE age IS NOT NULL
        """,
        [arm],
    )[0]
    unlike = records.value("SELECT avg(unlike) FROM of_pages WHERE arm = ?", [arm])
    counts = [int(one) for (one,) in records.rows("SELECT n FROM shown_items WHERE arm = ?", [arm])]
    slopes = _slopes(records, arm)
    return Diversity(
        pages, known / pages if pages else 0.0, coverage, entropy, unlike, ages[0], ages[1], ages[2],
        rarefied(counts, fewest) / items if counts else None,
        gini(counts, items) if counts else None,
        float(slopes.mean()) if len(slopes) else None, float(slopes.std(ddof=1)) / sqrt(len(slopes)) if len(slopes) > 1 else None,
        len(slopes), sampled,
    )  # fmt: skip


def _slopes(records: Records, arm: str) -> Any:
    """Return each person's slope of Miller and Madow's entropy over weeks, as in `measures.bubble`."""
    columns = records.columns(
        f"""
        WITH counted AS (SELECT unit, week, category, count(*) AS n FROM shown_categories WHERE arm = ? AND category IS NOT
          NULL GROUP BY ALL),
             weeks AS (SELECT unit, week, sum(n) AS hits, ln(sum(n)) - sum(n * ln(n)) / sum(n) + (count(*) - 1) / (2.0 *
               sum(n)) AS entropy
                       FROM counted GROUP BY unit, week HAVING sum(n) >= {MIN_WEEK_HITS})
        SELECT regr_slope(entropy, week) AS slope FROM weeks GROUP BY unit HAVING count(*) >= {MIN_WEEKS}
        """,
        [arm],
    )
    return np.asarray(columns["slope"], dtype=np.float64)
