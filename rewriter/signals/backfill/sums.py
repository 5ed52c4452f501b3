"""Sums: counters of users, population and segments over a history and the later events of the streams, in DuckDB tables.

chosen    the history's events: person, part, at_s, weight, doc, named
weights   their decayed weights as of the end of the history, by person, part, field and member
live      entries of the streams: part, entry (id), person, at_s, weight, members, named
waited    entries that waited for their object, each repeated by another entry
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from rewriter.signals.backfill.neighbours import find_neighbours, listed_neighbours
from rewriter.signals.backfill.uses import count_uses
from rewriter.signals.class_counters import MAX_CLASSES, MAX_VALUES, ClassCounters, of_class
from rewriter.signals.counters import SEPARATOR, Counters
from rewriter.signals.ingest.batch import POPULATION_KEPT, CountingRules
from rewriter.signals.kinds.item import ITEM, WITH_CLASS
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.neighbours import Near, near_class
from rewriter.signals.repeats import MARKS, USES
from rewriter.signals.strengths import marked, number_of

AT_ONCE = 50_000
IS_ITEM_OF_CLASS = f"field = '{ITEM}' AND len(string_split(member, chr(31))) = {WITH_CLASS}"
"""Whether a row's member is an item with its class: `kinds.item.is_item_of_class` in SQL."""
LIVE = {
    "part": "INT",
    "entry": "VARCHAR",
    "person": "VARCHAR",
    "at_s": "DOUBLE",
    "weight": "DOUBLE",
    "members": "VARCHAR[]",
    "named": "VARCHAR[]",
}
LiveRow = tuple[int, str, str | None, float, float, list[str], list[str]]


class Sums:
    """Counters as of `landmark_s`: the end of the history, or the latest later event (seconds since the epoch).

    Call `add_history` and `add_live` first, once each and in this order.
    """

    def __init__(self, db: Any, plan: CountingRules, until_s: float, partitions: int) -> None:
        self._db = db
        self._plan = plan
        self._partitions = partitions
        self.landmark_s = until_s
        self.segment_names: list[str] = []
        self.near_items = 0
        lives = plan.scopes["profile"].half_lives
        ages = [(name, lives.of(name)) for name in (*plan.fields, *MARKS)]
        insert(db, "ages", {"field": "VARCHAR", "half_life_s": "DOUBLE"}, ages)
        insert(db, "live", LIVE, ())
        insert(db, "waited", {"part": "INT", "entry": "VARCHAR"}, ())

    def add_history(self) -> None:
        """Compute the weights of the events in `chosen`, with the values of their objects in `described`."""
        self._db.execute(
            """
            CREATE TABLE segment_events AS
            SELECT part, at_s, weight, doc, unnest(list_distinct(named)) || ' ' || part AS place FROM chosen
            """
        )
        for weights, events, by in (
            ("weights", "chosen", "person, part"),
            ("segment_weights", "segment_events", "place"),
        ):
            self._db.execute(
                f"CREATE TABLE {weights} AS SELECT {by}, field, member, {self._worth()} AS worth, max(weight) AS strongest"
                f" FROM {events} JOIN described USING (doc) JOIN ages USING (field) GROUP BY ALL"
            )
        half_life_s = self._plan.scopes["population"].half_lives.of(USES)
        count_uses(self._db, self.landmark_s, half_life_s, self._plan.settings.signals.session_ttl_s)
        if self._plan.has_neighbours:
            self._db.execute(
                f"""
                CREATE VIEW used_items AS
                SELECT person, string_split(member, chr(31))[3] AS class, string_split(member, chr(31))[2] AS item, worth
                FROM weights WHERE {IS_ITEM_OF_CLASS}
                """
            )
            self.near_items = find_neighbours(self._db, "used_items")
        names = "SELECT DISTINCT unnest(named) FROM chosen ORDER BY 1"
        self.segment_names = [name for (name,) in self._db.execute(names).fetchall()]

    def put_live(self, rows: Sequence[LiveRow]) -> None:
        """Store entries of the streams that are later than the history."""
        insert(self._db, "live", LIVE, rows)

    def put_waited(self, rows: Sequence[tuple[int, str]]) -> None:
        """Store the entries that waited for their object, as partition and id."""
        insert(self._db, "waited", {"part": "INT", "entry": "VARCHAR"}, rows)

    def add_live(self, forgotten: Mapping[str, float]) -> None:
        """Add the streams' later events to the sums of the history's users and segments, and of the population.

        forgotten: the time of erasure by pseudonym of erased users.
        """
        db = self._db
        insert(db, "tombstones", {"person": "VARCHAR", "forgotten_s": "DOUBLE"}, list(forgotten.items()))
        db.execute(
            """
            CREATE TABLE late AS
            SELECT part, person, at_s, weight, members, named FROM live LEFT JOIN tombstones USING (person)
            WHERE NOT EXISTS (SELECT 1 FROM waited WHERE waited.part = live.part AND waited.entry = live.entry)
              AND at_s > coalesce(forgotten_s, -1)
            """
        )
        db.execute("DROP TABLE live")
        self._forget()
        db.execute(
            "CREATE TABLE users AS SELECT person, any_value(part) AS part, count(*) AS events, max(at_s) AS last_s"
            " FROM chosen GROUP BY person"
        )
        until_s = self.landmark_s
        (latest_s,) = db.execute("SELECT max(at_s) FROM late").fetchone()
        self.landmark_s = max(until_s, latest_s or 0.0)
        aged = f"worth * pow(2, greatest(-1000, {until_s - self.landmark_s!r} / half_life_s)) AS worth"
        floored = "greatest(0, sum(worth)) AS worth"
        db.execute(
            f"""
            CREATE TABLE late_weights AS
            SELECT part, person, named, field, member, {self._worth()} AS worth, max(weight) AS strongest FROM (
              SELECT part, person, named, at_s, weight, member, string_split(member, chr(31))[1] AS field
              FROM (SELECT part, person, named, at_s, weight, unnest(members) AS member FROM late)
            ) JOIN ages USING (field) GROUP BY ALL
            """
        )
        spread = "unnest(list_distinct(named)) || ' ' || part AS place"
        named = (
            f"SELECT * FROM (SELECT {spread}, {{}}) WHERE split_part(place, ' ', 1) IN (SELECT unnest(?::VARCHAR[]))"
        )
        db.execute(
            f"""
            CREATE TABLE profile_weights AS SELECT person, field, member, {floored}, max(strongest) AS strongest FROM (
              SELECT person, field, member, {aged}, strongest FROM weights JOIN ages USING (field)
              UNION ALL SELECT person, field, member, worth, strongest FROM late_weights SEMI JOIN users USING (person)
            ) GROUP BY ALL
            """
        )
        db.execute(
            f"""
            CREATE TABLE part_weights AS SELECT part, field, member, {floored} FROM (
              SELECT part, field, member, {aged} FROM weights JOIN ages USING (field)
              UNION ALL SELECT part, field, member, {aged} FROM use_weights JOIN ages USING (field)
              UNION ALL SELECT part, field, member, worth FROM late_weights
            ) WHERE field <> '{ITEM}' GROUP BY ALL
            """
        )
        db.execute(
            f"""
            CREATE TABLE place_weights AS SELECT place, field, member, {floored} FROM (
              SELECT place, field, member, {aged} FROM segment_weights JOIN ages USING (field)
              UNION ALL {named.format("field, member, worth FROM late_weights")}
            ) GROUP BY ALL
            """,
            [self.segment_names],
        )
        counted = "count(*) AS events, max(at_s) AS last_s"
        summed = "sum(events) AS events, max(last_s) AS last_s"
        for table, by, history, late, parameters in (
            ("profile_seen", "person", "users", "SELECT person, at_s FROM late SEMI JOIN users USING (person)", []),
            ("part_seen", "part", "(SELECT part, sum(events) AS events, max(last_s) AS last_s FROM users GROUP BY part)",
             "SELECT part, at_s FROM late", []),
            ("place_seen", "place", f"(SELECT place, {counted} FROM segment_events GROUP BY place)",
             named.format("at_s FROM late"), [self.segment_names]),
        ):  # fmt: skip
            db.execute(
                f"""
                CREATE TABLE {table} AS SELECT {by}, {summed} FROM (
                  SELECT {by}, events, last_s FROM {history}
                  UNION ALL SELECT {by}, {counted} FROM ({late}) GROUP BY {by}
                ) GROUP BY {by}
                """,
                parameters,
            )

    def _forget(self) -> None:
        """Remove users of the history who were erased after it was read."""
        gone = "person IN (SELECT person FROM chosen JOIN tombstones USING (person) WHERE at_s <= forgotten_s)"
        for table in ("weights", "use_weights", "chosen"):  # in this order: the last tells who they are
            self._db.execute(f"DELETE FROM {table} WHERE {gone}")

    def users_up_to(self, last: str) -> int:
        """Return the number of users whose pseudonym is not greater than `last`."""
        (found,) = self._db.execute("SELECT count(*) FROM users WHERE person <= ?", [last]).fetchone()
        return int(found)

    def profiles(self, after: str = "") -> Iterator[tuple[str, int, Counters, dict[str, ClassCounters]]]:
        """Yield pseudonym, partition, counters and those by class of each user of the history, in the order of pseudonyms.

        after: begin behind this one.
        """
        combined = sorted(self._plan.class_combinations)
        self._db.execute("CREATE OR REPLACE TABLE combined AS SELECT unnest(?::VARCHAR[]) AS field", [combined])
        self._db.execute(
            f"""
            CREATE OR REPLACE VIEW shared_weights AS SELECT * FROM profile_weights ANTI JOIN combined USING (field)
            WHERE NOT ({IS_ITEM_OF_CLASS})
            """
        )
        parts = self._db.cursor().execute("SELECT person, part FROM users WHERE person > ? ORDER BY person", [after])
        kept = self._plan.scopes["profile"].kept
        found = self._counters("person", "shared_weights", "profile_seen", kept, f"person > '{after}'", "strongest")
        by_class = self._by_class(after) if self._plan.settings.class_field else iter(())
        following = next(by_class, None)
        for (person, part), (other, counters) in zip(_rows(parts), found, strict=True):
            assert person == other
            classes: dict[str, ClassCounters] = {}
            if following is not None and following[0] == person:
                classes = following[1]
                following = next(by_class, None)
            yield person, part, counters, classes

    def _by_class(self, after: str) -> Iterator[tuple[str, dict[str, ClassCounters]]]:
        """Yield pseudonym and counters by class of each user who has any. The heaviest classes are kept."""
        cursor = self._db.cursor().execute(
            f"""
            SELECT person, member, worth, strongest FROM profile_weights
            WHERE worth > 1e-9 AND person > ? AND (field = '{ITEM}' OR field IN (SELECT field FROM combined))
            ORDER BY person, worth DESC, member
            """,
            [after],
        )
        near_rows = groupby(_rows(self._near(after)) if self.near_items else iter(()), key=itemgetter(0))
        near = next(near_rows, None)
        for person, rows in groupby(_rows(cursor), key=itemgetter(0)):
            weights: dict[str, dict[tuple[str, ...], float]] = {}
            totals: dict[str, float] = {}
            strengths: dict[str, dict[tuple[str, ...], float]] = {}
            for _, text, worth, strongest in rows:
                value = tuple(text.split(SEPARATOR))
                if (found := of_class(value, ITEM, self._plan.class_combinations)) is not None:
                    weights.setdefault(found[0], {})[found[1]] = worth
                    strengths.setdefault(found[0], {})[found[1]] = strongest
                    totals[found[0]] = totals.get(found[0], 0.0) + (worth if value[0] == ITEM else 0.0)
            heaviest = sorted(totals, key=lambda name: (-totals[name], name))[:MAX_CLASSES]
            if heaviest:
                at_s = self.landmark_s
                found_classes = {
                    name: ClassCounters(weights[name], totals[name], at_s, at_s, strengths[name]) for name in heaviest
                }
                if near is not None and near[0] == person:
                    others: dict[str, dict[tuple[str, ...], float]] = {}
                    for _, name, other, worth in near[1]:
                        others.setdefault(name, {})[NEIGHBOUR, other] = worth
                    kept = {near_class(name): others[name] for name in heaviest if name in others}
                    found_classes |= {name: ClassCounters(own, 0.0, at_s, at_s) for name, own in kept.items()}
                    near = next(near_rows, None)
                yield person, found_classes

    def near(self) -> Iterator[tuple[str, Near]]:
        """Yield each item that has neighbours, with them."""
        return listed_neighbours(self._db) if self.near_items else iter(())

    def _near(self, after: str) -> Any:
        """Return the rows of person, class, neighbour and its weight, the heaviest of each class, in the order of persons."""
        return self._db.cursor().execute(
            f"""
            WITH used AS (
              SELECT person, string_split(member, chr(31))[3] AS class, string_split(member, chr(31))[2] AS item, worth
              FROM profile_weights
              WHERE worth > 1e-9 AND person > ? AND {IS_ITEM_OF_CLASS}
            )
            SELECT person, class, other, sum(worth * strength) AS worth FROM used JOIN neighbours USING (class, item)
            GROUP BY person, class, other
            QUALIFY row_number() OVER (PARTITION BY person, class ORDER BY sum(worth * strength) DESC, other) <= {MAX_VALUES}
            ORDER BY person, class, worth DESC, other
            """,
            [after],
        )

    def populations(self) -> Iterator[tuple[int, Counters]]:
        """Yield the part of the population of every partition, since all parts are replaced.

        Items are left out, as in ingest, since an item's affinity needs no population.
        """
        found = self._counters("part", "part_weights", "part_seen", POPULATION_KEPT)
        following = next(found, None)
        for number in range(self._partitions):
            if following is not None and following[0] == number:
                yield following
                following = next(found, None)
            else:
                yield number, Counters({}, {}, self.landmark_s)

    def segments(self) -> Iterator[tuple[str, int, Counters]]:
        """Yield name, partition and counters of each part of each segment of the history."""
        silent = {(name, number) for name in self.segment_names for number in range(self._partitions)}
        for place, counters in self._counters("place", "place_weights", "place_seen", POPULATION_KEPT):
            name, _, number = place.partition(" ")
            silent.discard((name, int(number)))
            yield name, int(number), counters
        for name, number in sorted(silent):
            yield name, number, Counters({}, {}, self.landmark_s)

    def _worth(self) -> str:
        return f"sum(weight * pow(2, greatest(-1000, (at_s - {self.landmark_s!r}) / half_life_s)))"

    def _counters(
        self, by: str, weights: str, seen: str, kept: int, which: str = "true", strongest: str = "0"
    ) -> Iterator[tuple[Any, Counters]]:
        """Yield each subject's counters, merged from two ordered queries: totals with events, and the heaviest values.

        strongest: the weight of an item's strongest action, in SQL.
        """
        cursor, other = self._db.cursor(), self._db.cursor()
        cursor.execute(
            f"""
            WITH totals AS (SELECT {by}, field, sum(worth) AS total FROM {weights} GROUP BY {by}, field)
            SELECT {by}, map_from_entries(list((field, total)) FILTER (field IS NOT NULL)), any_value(events), any_value(last_s)
            FROM {seen} LEFT JOIN totals USING ({by}) WHERE {which} GROUP BY {by} ORDER BY {by}
            """
        )
        other.execute(
            f"""
            SELECT {by}, member, CASE WHEN field = '{ITEM}' THEN {strongest} ELSE 0 END, worth
            FROM {weights} WHERE worth > 1e-9 AND {which}
            QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY worth DESC, member) <= {kept} ORDER BY {by}, worth DESC
            """
        )
        rows = _rows(other)
        following = next(rows, None)
        for subject, totals, events, last_s in _rows(cursor):
            found: dict[tuple[str, ...], float] = {}
            while following is not None and following[0] == subject:
                found[tuple(following[1].split(SEPARATOR))] = marked(following[3], number_of(following[2]))
                following = next(rows, None)
            yield subject, Counters(found, totals or {}, self.landmark_s, last_s, float(events))


def insert(db: Any, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Append rows to a table, created if missing. They are inserted by column, since an insert by row takes a millisecond."""
    db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(f'{key} {kind}' for key, kind in columns.items())})")
    wanted = ", ".join(f"unnest(?::{kind}[])" for kind in columns.values())
    for start in range(0, len(rows), AT_ONCE):
        parts = [list(part) for part in zip(*rows[start : start + AT_ONCE], strict=True)]
        db.execute(f"INSERT INTO {name} SELECT {wanted}", parts)


def _rows(cursor: Any) -> Iterator[Any]:
    while rows := cursor.fetchmany(10_000):
        yield from rows
