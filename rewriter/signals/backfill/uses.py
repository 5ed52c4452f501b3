"""The repeat guard's counts of a history: which uses of an item were the first, and which used it again. By DuckDB.

A visit is a session where the history names it, else somebody's events with at most half an hour between one and the next: a page
that is loaded again in a session is no use again, as in ingest. There the store forgets a session after `session_ttl_s` without
events, so an id that goes on for months is a new visit after so long a silence. An action counts once a visit and item, and a first
visit for nothing (`rewriter.signals.uses`). A use is compared with the last one of the turn before in its class and weight, where a
turn is a run of uses by one person. Of a person with more than their share of all uses, every so-manieth counts. What the streams
hold from after the history is not among these counts: it is a share of months that they hold, not of hours.
"""

from __future__ import annotations

from typing import Any

from rewriter.signals.counters import SEPARATOR
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.repeats import AGAIN, CHANCE, CONTROLS, NO_CLASS, USES, RepeatGuard
from rewriter.signals.uses import MOST_ALONE, MOST_IN_CLASS, MOST_OF_ALL, judged, level_of, totals_of


def count_uses(db: Any, landmark_s: float, half_life_s: float, session_ttl_s: float) -> None:
    """Make the table `use_weights` (person, part, field, member, worth) of `chosen` and `described`, as of `landmark_s`."""
    beyond = MOST_OF_ALL / (1 - MOST_OF_ALL)  # of the others' uses
    rows = db.execute("SELECT DISTINCT weight FROM chosen WHERE weight > 0").fetchall()
    db.execute(
        "CREATE TABLE levels AS SELECT unnest(?::DOUBLE[]) AS weight, unnest(?::VARCHAR[]) AS level",
        [[weight for (weight,) in rows], [level_of(weight) for (weight,) in rows]],
    )
    # `count_if`, since DuckDB counts a `FILTER` of a window anew for each row: the square of a class's uses, or of a person's. Of
    # NULLs alone it gives NULL.
    db.execute(
        f"""
        CREATE TABLE item_uses AS
        WITH paced AS (
          SELECT person, part, doc, at_s, weight, session, at_s - lag(at_s) OVER (PARTITION BY person ORDER BY at_s) AS silence_s,
                 at_s - lag(at_s) OVER (PARTITION BY person, session ORDER BY at_s) AS session_silence_s
          FROM chosen WHERE weight > 0
        ), visited AS (
          SELECT person, part, doc, at_s, weight,
                 CASE WHEN session IS NULL THEN CAST(count_if(silence_s IS NULL OR silence_s > {VISIT_S!r})
                   OVER (PARTITION BY person ORDER BY at_s RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS VARCHAR)
                 ELSE count_if(coalesce(session_silence_s > {session_ttl_s!r}, false))
                   OVER (PARTITION BY person, session ORDER BY at_s RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
                   || 's' || session END AS visit
          FROM paced
        ), first_visits AS (
          SELECT person, arg_min(visit, (at_s, visit)) AS first_visit FROM visited GROUP BY person
        ), used AS (
          SELECT person, part, member, visit, weight, min(at_s) AS at_s
          FROM visited JOIN described USING (doc)
          WHERE field = '{ITEM}' GROUP BY person, part, member, visit, weight
        ), risen AS (
          SELECT * FROM used QUALIFY coalesce(weight > max(weight) OVER (
            PARTITION BY person, member, visit ORDER BY at_s, weight ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true)
        )
        SELECT *, coalesce(nullif(string_split(member, chr(31))[3], ''), '{NO_CLASS}') || chr(31) || level AS class,
               visit <> first_visit AS is_later,
               coalesce(weight <= max(weight) OVER (
                 PARTITION BY person, member ORDER BY at_s, visit, weight ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false)
                 AS again,
               pow(2, greatest(-1000, (at_s - {landmark_s!r}) / {half_life_s!r})) AS worth
        FROM risen JOIN first_visits USING (person) JOIN levels USING (weight)
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
          SELECT *, count_if(coalesce(is_other, false))
                   OVER (PARTITION BY class ORDER BY at_s, person, visit, member ROWS UNBOUNDED PRECEDING) AS turn
          FROM followed
        ), turn_ends AS (
          SELECT class, turn + 1 AS turn, arg_max(member, (at_s, visit, member)) AS other FROM turns GROUP BY class, turn
        ), judged AS (
          SELECT turns.*, other,
                 coalesce(bool_or(held.visit <> turns.visit AND (held.at_s, held.visit) < (turns.at_s, turns.visit)), false)
                   AS was_held, -- with at least as strong an action
                 coalesce(bool_or(held.visit = turns.visit AND (held.at_s, held.member) < (turns.at_s, turns.member)), false)
                   AS is_held_now
          FROM turns LEFT JOIN turn_ends USING (class, turn)
          LEFT JOIN item_uses held ON held.person = turns.person AND held.member = other AND held.at_s <= turns.at_s
            AND held.weight >= turns.weight
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
    for table in ("judged_uses", "item_uses", "levels"):
        db.execute(f"DROP TABLE {table}")


def guard_of_uses(db: Any) -> RepeatGuard:
    """Return what `use_weights` tells of the catalogue and of each class."""
    rows = db.execute("SELECT member, sum(worth) FROM use_weights GROUP BY member").fetchall()
    uses = judged({tuple(member.split(SEPARATOR)): worth for member, worth in rows})
    return RepeatGuard(uses, totals_of(uses))


def listed_at_uses(db: Any, field: str) -> list[tuple[str, float]]:
    """Return the date of each item used, as `field` has it, and the time of the use in seconds since the epoch."""
    found: list[tuple[str, float]] = db.execute(
        "SELECT string_split(member, chr(31))[2], at_s FROM chosen JOIN described USING (doc)"
        " WHERE field = ? AND weight > 0",
        [field],
    ).fetchall()
    return found
