"""The repeat guard's counts of a history: which uses of an item were the first, and which used it again. By DuckDB.

A visit is somebody's events with at most half an hour between one and the next; an item counts once a visit, and a first visit for
nothing (`rewriter.signals.repeats`). What the streams hold from after the history is not among these counts: it is a share of
months that they hold, not of hours.
"""

from __future__ import annotations

from typing import Any

from rewriter.signals.counters import SEPARATOR
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.repeats import AGAIN, NO_CLASS, USES, RepeatGuard


def count_uses(db: Any, landmark_s: float, half_life_s: float) -> None:
    """Make the table `use_weights` (person, part, field, member, worth) of `chosen` and `described`, as of `landmark_s`."""
    db.execute(
        f"""
        CREATE TABLE use_weights AS
        WITH paced AS (
          SELECT person, part, doc, at_s, at_s - lag(at_s) OVER (PARTITION BY person ORDER BY at_s) AS silence_s
          FROM chosen WHERE weight > 0
        ), visited AS (
          SELECT person, part, doc, at_s,
                 count(*) FILTER (silence_s IS NULL OR silence_s > {VISIT_S!r})
                   OVER (PARTITION BY person ORDER BY at_s RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS visit
          FROM paced
        ), used AS (
          SELECT person, part, member, visit, min(at_s) AS at_s FROM visited JOIN described USING (doc)
          WHERE field = '{ITEM}' GROUP BY person, part, member, visit
        ), judged AS (
          SELECT person, part, coalesce(nullif(string_split(member, chr(31))[3], ''), '{NO_CLASS}') AS class, visit,
                 row_number() OVER (PARTITION BY person, member ORDER BY visit) > 1 AS again,
                 pow(2, greatest(-1000, (at_s - {landmark_s!r}) / {half_life_s!r})) AS worth
          FROM used
        ), named AS (
          SELECT person, part, '{USES}' AS field, class, worth FROM judged WHERE visit > 1
          UNION ALL SELECT person, part, '{AGAIN}', class, worth FROM judged WHERE visit > 1 AND again
        )
        SELECT person, part, field, field || chr(31) || class AS member, sum(worth) AS worth FROM named
        GROUP BY person, part, field, class
        """
    )


def guard_of_uses(db: Any) -> RepeatGuard:
    """Return what `use_weights` tells of the catalogue and of each class."""
    rows = db.execute("SELECT member, sum(worth) FROM use_weights GROUP BY member").fetchall()
    weights = {tuple(member.split(SEPARATOR)): worth for member, worth in rows}
    totals: dict[str, float] = {}
    for (field, *_), worth in weights.items():
        totals[field] = totals.get(field, 0.0) + worth
    return RepeatGuard(weights, totals)


def listed_at_uses(db: Any, field: str) -> list[tuple[str, float]]:
    """Return the date of each item used, as `field` has it, and the time of the use in seconds since the epoch."""
    found: list[tuple[str, float]] = db.execute(
        "SELECT string_split(member, chr(31))[2], at_s FROM chosen JOIN described USING (doc)"
        " WHERE field = ? AND weight > 0",
        [field],
    ).fetchall()
    return found
