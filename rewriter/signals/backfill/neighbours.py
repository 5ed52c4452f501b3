"""Neighbours of items, found by DuckDB in the profiles of a history (`rewriter.signals.neighbours`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rewriter.signals.neighbours import MIN_USERS, MOST, SHRUNK_BY, STEPS, Near

OF_A_SUBJECT = 64
"""Items of one subject and class that make pairs, the heaviest: somebody with 10,000 would make 50 million pairs."""
AT_ONCE = 10_000


def find_neighbours(db: Any, used: str) -> int:
    """Make the table `neighbours` (item, other, strength) of the table or view `used` (person, class, item, worth).

    Strengths are those that the table in the store can hold. Returns the number of items that have any.
    """
    db.execute(
        f"""
        CREATE OR REPLACE TABLE pairable AS
        WITH kept AS (
          SELECT person, class, item FROM {used} WHERE worth > 1e-9
          QUALIFY row_number() OVER (PARTITION BY person, class ORDER BY worth DESC, item) <= {OF_A_SUBJECT}
        ), popular AS (
          SELECT class, item, count(*) AS users FROM kept GROUP BY class, item HAVING count(*) >= {MIN_USERS}
        )
        SELECT person, class, item, users FROM kept JOIN popular USING (class, item)
        """
    )
    db.execute(
        f"""
        CREATE OR REPLACE TABLE neighbours AS
        WITH pairs AS (
          SELECT a.class, a.item AS one, b.item AS two, any_value(a.users) AS h, any_value(b.users) AS g, count(*) AS k
          FROM pairable a JOIN pairable b ON a.person = b.person AND a.class = b.class AND a.item < b.item
          GROUP BY a.class, a.item, b.item HAVING count(*) > 1
        ), strong AS (
          SELECT class, one, two, pow(2, -least(255, round(-{STEPS} * log2(k / sqrt(h * g) * k / (k + {SHRUNK_BY})))) / {STEPS})
                 AS strength
          FROM pairs
        ), both_ways AS (
          SELECT class, one AS item, two AS other, strength FROM strong
          UNION ALL SELECT class, two, one, strength FROM strong
        )
        SELECT class, item, other, strength FROM both_ways
        QUALIFY row_number() OVER (PARTITION BY class, item ORDER BY strength DESC, other) <= {MOST}
        """
    )
    db.execute("DROP TABLE pairable")
    (found,) = db.execute("SELECT count(DISTINCT item) FROM neighbours").fetchone()
    return int(found)


def listed_neighbours(db: Any) -> Iterator[tuple[str, Near]]:
    """Yield each item that has neighbours, with them, the strongest first. An item of several classes has those of all."""
    cursor = db.cursor().execute(
        f"""
        SELECT item, list(other ORDER BY strength DESC, other)[:{MOST}], list(strength ORDER BY strength DESC, other)[:{MOST}]
        FROM neighbours GROUP BY item ORDER BY item
        """
    )
    while rows := cursor.fetchmany(AT_ONCE):
        for item, others, strengths in rows:
            yield item, tuple(zip(others, strengths, strict=True))
