"""The repeat guard's counts of a history: which uses of an item were the first, and which used it again. By DuckDB.

A visit is a session where the history names it, else somebody's events with at most half an hour between one and the next: a page
that is loaded again in a session is no use again, as in ingest. There the store forgets a session after `session_ttl_s` without
events, so an id that goes on for months is a new visit after so long a silence. An item counts once a visit, and a first visit for
nothing (`rewriter.signals.repeats`). A use is compared with the last one of the turn before in its class, where a turn is a run of
uses by one person. Of a person with more than their share of all uses, every so-manieth counts. What the streams hold from after
the history is not among these counts: it is a share of months that they hold, not of hours.
"""

from __future__ import annotations

from typing import Any

from rewriter.signals.counters import SEPARATOR
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.repeats import (
    AGAIN,
    CHANCE,
    CONTROLS,
    MOST_ALONE,
    MOST_IN_CLASS,
    MOST_OF_ALL,
    NO_CLASS,
    USES,
    RepeatGuard,
)

RARE = 0.05
"""Share of the events that an action must have, with heavier ones, to be what people come for."""
FOLLOWED_S = 28 * 86_400.0
"""How long an item must be had before the history's end, so that a use again can be seen in it."""
MIN_HAD = 100


def count_uses(db: Any, landmark_s: float, half_life_s: float, session_ttl_s: float) -> None:
    """Make the table `use_weights` (person, part, field, member, worth) of `chosen` and `described`, as of `landmark_s`."""
    beyond = MOST_OF_ALL / (1 - MOST_OF_ALL)  # of the others' uses
    wanted = _wanted(db)
    db.execute(
        f"""
        CREATE TABLE item_uses AS
        WITH paced AS (
          SELECT person, part, doc, at_s, weight, session, at_s - lag(at_s) OVER (PARTITION BY person ORDER BY at_s) AS silence_s,
                 at_s - lag(at_s) OVER (PARTITION BY person, session ORDER BY at_s) AS session_silence_s
          FROM chosen WHERE weight > 0
        ), visited AS (
          SELECT person, part, doc, at_s, weight,
                 CASE WHEN session IS NULL THEN CAST(count(*) FILTER (silence_s IS NULL OR silence_s > {VISIT_S!r})
                   OVER (PARTITION BY person ORDER BY at_s RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS VARCHAR)
                 ELSE count(*) FILTER (session_silence_s > {session_ttl_s!r})
                   OVER (PARTITION BY person, session ORDER BY at_s RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
                   || 's' || session END AS visit
          FROM paced
        ), first_visits AS (
          SELECT person, arg_min(visit, (at_s, visit)) AS first_visit FROM visited GROUP BY person
        ), used AS (
          SELECT person, part, member, visit, min(at_s) AS at_s, min(at_s) FILTER (weight >= {wanted!r}) AS wanted_s
          FROM visited JOIN described USING (doc)
          WHERE field = '{ITEM}' GROUP BY person, part, member, visit
        ), classed AS (
          SELECT *, coalesce(nullif(string_split(member, chr(31))[3], ''), '{NO_CLASS}') AS class,
                 visit <> first_visit AS is_later,
                 row_number() OVER (PARTITION BY person, member ORDER BY at_s, visit) > 1 AS again,
                 coalesce(at_s > min(wanted_s) OVER (PARTITION BY person, member), false) AS is_after,
                 pow(2, greatest(-1000, (at_s - {landmark_s!r}) / {half_life_s!r})) AS worth
          FROM used JOIN first_visits USING (person)
        )
        FROM classed
        """
    )
    db.execute(
        f"""
        CREATE TABLE judged_uses AS
        WITH numbered AS (
          SELECT *, count(*) OVER (PARTITION BY person) AS own, count(*) OVER () AS every,
                 count(*) OVER (PARTITION BY person, class) AS own_of_class, count(*) OVER (PARTITION BY class) AS every_of_class,
                 row_number() OVER (PARTITION BY person, class ORDER BY at_s, visit, member) AS number
          FROM item_uses
        ), shared AS (
          SELECT *, least(1, greatest({MOST_ALONE}, {beyond!r} * (every - own)) / own,
                          greatest({MOST_IN_CLASS}, {beyond!r} * (every_of_class - own_of_class)) / own_of_class) AS chosen
          FROM numbered
        ), followed AS (
          SELECT *, coalesce(lag(person) OVER in_order <> person, false) AS is_other FROM shared
          WHERE chosen = 1 OR floor(number * chosen) > floor((number - 1) * chosen)
          WINDOW in_order AS (PARTITION BY class ORDER BY at_s, person, visit, member)
        ), turns AS (
          SELECT *, count(*) FILTER (is_other)
                   OVER (PARTITION BY class ORDER BY at_s, person, visit, member ROWS UNBOUNDED PRECEDING) AS turn
          FROM followed
        ), turn_ends AS (
          SELECT class, turn + 1 AS turn, arg_max(member, (at_s, visit, member)) AS other FROM turns GROUP BY class, turn
        ), judged AS (
          SELECT turns.*, other,
                 coalesce(bool_or(held.visit <> turns.visit AND (held.at_s, held.visit) < (turns.at_s, turns.visit)), false)
                   AS was_held,
                 coalesce(bool_or(held.visit = turns.visit AND (held.at_s, held.member) < (turns.at_s, turns.member)), false)
                   AS is_held_now
          FROM turns LEFT JOIN turn_ends USING (class, turn)
          LEFT JOIN item_uses held ON held.person = turns.person AND held.member = other AND held.at_s <= turns.at_s
          WHERE turns.is_later GROUP BY ALL
        )
        SELECT person, part, class, worth, again, other IS NOT NULL AND NOT is_held_now AS compared, was_held FROM judged
        """
    )
    db.execute(
        f"""
        CREATE TABLE use_weights AS
        WITH named AS (
          SELECT person, part, '{USES}' AS field, class, worth FROM judged_uses
          UNION ALL SELECT person, part, '{AGAIN}', class, worth FROM judged_uses WHERE again
          UNION ALL SELECT person, part, '{CONTROLS}', class, worth FROM judged_uses WHERE compared
          UNION ALL SELECT person, part, '{CHANCE}', class, worth FROM judged_uses WHERE compared AND was_held
        )
        SELECT person, part, field, field || chr(31) || class AS member, sum(worth) AS worth FROM named
        GROUP BY person, part, field, class
        """
    )
    followed = f"min(wanted_s) <= {landmark_s - FOLLOWED_S!r}"
    had = (
        f"SELECT bool_or(is_after) AS again FROM item_uses GROUP BY person, member HAVING {followed} AND {wanted!r} > 0"
    )
    share = f"CASE WHEN count(*) >= {MIN_HAD} THEN avg(CAST(again AS INT)) END"
    db.execute(f"CREATE TABLE uses_after AS SELECT {share} AS share FROM ({had})")
    db.execute("DROP TABLE judged_uses")
    db.execute("DROP TABLE item_uses")


def _wanted(db: Any) -> float:
    """Return the weight from which on an action is what people come for: the largest that, with heavier ones, RARE of the events
    have; 0.0 if all events that add to counters have it.
    """
    rows = db.execute("SELECT weight, count(*) FROM chosen WHERE weight > 0 GROUP BY 1 ORDER BY 1 DESC").fetchall()
    every, count = sum(number for _, number in rows), 0
    for weight, number in rows:
        count += number
        if count >= RARE * every:
            return float(weight) if count < every else 0.0
    return 0.0


def share_after(db: Any) -> float | None:
    """Return how many of the items on which somebody did what people come for, such as a purchase, were used by them later.

    Between 0 and 1, as of `count_uses`; None if unknown. What was viewed on Monday and bought on Wednesday was wanted once.
    """
    (share,) = db.execute("SELECT share FROM uses_after").fetchone()
    return None if share is None else float(share)


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
