"""What history adds up to, by DuckDB: the counters of each user, and of each partition's population and segments, as of one time.

A file (Parquet, NDJSON, CSV) has a row per event: `timestamp`, `object_id`, `user_id` or `client_id` or both, and optionally
`action_name` (a purchase, where there is no such column), `event_id`, `consent` and `segments` (a list of names, or a text of them
with commas). Columns named as the document fields that are counted spare the look-up of the objects. Negative actions are
subtracted from the sum, and no sum is below zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.counters import Counters, Value
from rewriter.signals.events import MAX_SEGMENTS_EACH, SEGMENT_NAME, values
from rewriter.signals.ingest.batch import POPULATION_KEPT, Plan
from rewriter.signals.ingest.contract import MAX_SEGMENTS
from rewriter.signals.ingest.objects import Objects
from rewriter.subject import pseudonym

READERS = {
    ".parquet": "read_parquet",
    ".ndjson": "read_json_auto",
    ".jsonl": "read_json_auto",
    ".json": "read_json_auto",
    ".csv": "read_csv_auto",
}
OBJECTS_AT_ONCE = 5_000


class History:
    """Counters as of `until_s`, in a database of its own. Raises ConfigurationError for files that cannot be read, and for
    segments that an event could not name.

    until_s:   up to when the history is whole: what is later is left to the streams; by default its latest event.
    forgotten: pseudonyms of users by the time up to which they are to be forgotten.
    """

    def __init__(
        self, files: Sequence[str], plan: Plan, partitions: int, until_s: float | None, forgotten: Mapping[str, float]
    ) -> None:
        import duckdb  # noqa: PLC0415  an extra: pip install 'rewriter[backfill]'

        self._plan = plan
        self._db = duckdb.connect()
        self._db.execute("SET TimeZone = 'UTC'")
        self._db.execute("SET enable_progress_bar = false")  # it would go to standard output
        try:
            self._open(files)
        except duckdb.Error as error:
            raise ConfigurationError(
                [Fault(", ".join(files), f"cannot be read: {str(error).splitlines()[0]}")]
            ) from None
        self._refuse_segments(", ".join(files))
        self.rows = self._one("SELECT count(*) FROM history")
        latest_s = self._one("SELECT max(at_s) FROM history")
        self.until_s: float = (latest_s or 0.0) if until_s is None else until_s
        self._choose(partitions, forgotten)

    def add_up(self, objects: Objects, on_progress: Callable[[int, int], None]) -> dict[str, int]:
        """Look the objects up, and compute all counters; return what there is to say of it."""
        asked, found = self._describe(objects, on_progress)
        lives = self._plan.scopes["profile"].half_lives
        ages = [(name, lives.of(name)) for name in self._plan.fields]
        self._db.execute("CREATE TABLE ages (field VARCHAR, half_life_s DOUBLE)")
        self._db.executemany("INSERT INTO ages VALUES (?, ?)", ages)
        for weights, events, place in (("weights", "chosen", ""), ("segment_weights", "segment_events", "place, ")):
            self._db.execute(
                f"""
                CREATE TABLE {weights} AS
                SELECT person, part, {place}field, said,
                       greatest(0, sum(weight * pow(2, (at_s - ?) / half_life_s))) AS worth
                FROM {events} JOIN described USING (doc) JOIN ages USING (field) GROUP BY ALL
                """,  # noqa: S608  names of our own
                [self.until_s],
            )
        return {
            "rows": self.rows,
            "events": self._one("SELECT count(*) FROM chosen"),
            "users": self._one("SELECT count(DISTINCT person) FROM weights"),
            "objects": asked,
            "objects_missing": asked - found,
            "values": self._one("SELECT count(*) FROM weights"),
            "segments": len(self.segment_names),
        }

    def profiles(self) -> Iterator[tuple[str, int, Counters]]:
        """Yield each user's pseudonym, partition and counters, in the order of pseudonyms."""
        kept = self._plan.scopes["profile"].kept
        yield from self._counters("person", "weights", "chosen", kept)

    def populations(self) -> Iterator[tuple[int, Counters]]:
        """Yield each partition's part of the population."""
        for part, _, counters in self._counters("part", "weights", "chosen", POPULATION_KEPT):
            yield int(part), counters

    def segments(self) -> Iterator[tuple[str, int, Counters]]:
        """Yield each segment's name, and of each partition that says something of it, the number and the counters."""
        for place, part, counters in self._counters("place", "segment_weights", "segment_events", POPULATION_KEPT):
            yield place.partition(" ")[0], part, counters

    def _counters(self, by: str, worths: str, seen: str, kept: int) -> Iterator[tuple[Any, int, Counters]]:
        """Two ordered streams, merged: a subject's totals and events, and its heaviest values."""
        cursor, other = self._db.cursor(), self._db.cursor()
        cursor.execute(
            f"""
            WITH totals AS (
              SELECT {by}, min(part) AS least, field, sum(worth) AS total FROM {worths} GROUP BY {by}, field
            ), seen AS (SELECT {by}, count(*) AS events, max(at_s) AS last_s FROM {seen} GROUP BY {by})
            SELECT {by}, min(least), map_from_entries(list((field, total))), any_value(events), any_value(last_s)
            FROM totals JOIN seen USING ({by}) GROUP BY {by} ORDER BY {by}
            """  # noqa: S608  column names of our own
        )
        other.execute(
            f"""
            WITH summed AS (SELECT {by}, said, sum(worth) AS worth FROM {worths} GROUP BY {by}, said HAVING sum(worth) > 1e-9)
            SELECT {by}, said, worth FROM summed
            QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY worth DESC, said) <= {kept} ORDER BY {by}, worth DESC
            """  # noqa: S608  column names of our own
        )
        rows = _rows(other)
        following = next(rows, None)
        for subject, number, totals, events, last_s in _rows(cursor):
            weights: dict[Value, float] = {}
            while following is not None and following[0] == subject:
                weights[tuple(following[1])] = following[2]
                following = next(rows, None)
            yield subject, number, Counters(weights, totals, self.until_s, last_s, float(events))

    def _open(self, files: Sequence[str]) -> None:
        parts = []
        for file in files:
            reader = READERS.get("." + file.rpartition(".")[2].lower())
            if reader is None:
                raise ConfigurationError([Fault(file, "is of no kind that is read", ", ".join(READERS))])
            quoted = file.replace("'", "''")
            parts.append(f"SELECT * FROM {reader}('{quoted}')")  # noqa: S608  quoted
        self._db.execute("CREATE VIEW files AS " + " UNION ALL BY NAME ".join(parts))
        columns = {row[0]: row[1] for row in self._db.execute("DESCRIBE files").fetchall()}
        people = [name for name in ("user_id", "client_id") if name in columns]
        missing = [name for name in ("timestamp", "object_id") if name not in columns]
        if missing or not people:
            wanted = [*missing, *([] if people else ["user_id or client_id"])]
            raise ConfigurationError([Fault(", ".join(files), f"no column {name}") for name in wanted])
        self._told = sorted((self._plan.attributes - {"_id"}) & columns.keys())
        self._is_told = bool(self._plan.attributes - {"_id"}) and set(self._told) == self._plan.attributes - {"_id"}
        told = "".join(f', "{name}"' for name in self._told) if self._is_told else ""
        action = "action_name" if "action_name" in columns else "'purchase'"
        consent = "coalesce(consent, true)" if "consent" in columns else "true"
        once = "event_id" if "event_id" in columns else "NULL"
        named = "NULL"
        if "segments" in columns:
            split = "regexp_split_to_array(nullif(trim(segments::VARCHAR), ''), '\\s*,\\s*')"
            named = "segments" if columns["segments"].endswith("[]") else split
        self._db.execute(
            f"""
            CREATE TABLE history AS
            SELECT coalesce({", ".join(f"{name}::VARCHAR" for name in people)}) AS person,
                   epoch(timestamp::TIMESTAMPTZ) AS at_s, object_id::VARCHAR AS object_id, {action} AS action,
                   {consent} AS consent, {once}::VARCHAR AS event_id,
                   {named}::VARCHAR[] AS named{told}
            FROM files
            """  # noqa: S608  column names of our own
        )

    def _refuse_segments(self, where: str) -> None:
        """Raise ConfigurationError with all that is wrong with the segments; names are not repeated, they may be anything."""
        self._db.execute("CREATE VIEW names AS SELECT DISTINCT unnest(named) AS name FROM history")
        unsound = self._one(
            "SELECT count(*) FROM names WHERE NOT coalesce(regexp_full_match(name, ?), false)", SEGMENT_NAME
        )
        crowded = self._one("SELECT count(*) FROM history WHERE len(named) > ?", MAX_SEGMENTS_EACH)
        names = self._one("SELECT count(*) FROM names")
        faults = [
            *([f"{unsound} names are not 1 to 64 of A-Z a-z 0-9 _ . -"] if unsound else []),
            *([f"{crowded} rows name more than {MAX_SEGMENTS_EACH}"] if crowded else []),
            *([f"{names:,} names, and a store knows {MAX_SEGMENTS:,}"] if names > MAX_SEGMENTS else []),
        ]
        if faults:
            raise ConfigurationError([Fault(f"{where}, column segments", fault) for fault in faults])

    def _choose(self, partitions: int, forgotten: Mapping[str, float]) -> None:
        """Keep what counts: known actions, within the horizon, agreed to, not forgotten, each event once."""
        signals, salt = self._plan.settings.signals, self._plan.settings.store.key_salt.get_secret_value()
        people = self._db.execute("SELECT DISTINCT person FROM history WHERE person IS NOT NULL").fetchall()
        named = [(one, pseudonym("u", one, salt), crc32(one.encode()) % partitions) for (one,) in people]
        rows = [(one, digest, part, forgotten.get(digest, 0.0)) for one, digest, part in named]
        self._table("people", {"person": "VARCHAR", "digest": "VARCHAR", "part": "INT", "forgotten_s": "DOUBLE"}, rows)
        self._table("actions", {"action": "VARCHAR", "weight": "DOUBLE"}, list(signals.action_weights.items()))
        told = "".join(f', "{name}"' for name in self._told) if self._is_told else ""
        distinct = f"SELECT DISTINCT object_id{told} FROM history"  # noqa: S608  column names of our own
        self._db.execute(f"CREATE VIEW distinct_docs AS {distinct}")
        self._db.execute("CREATE TABLE docs AS SELECT row_number() OVER () AS doc, * FROM distinct_docs")
        same = " AND ".join(
            f'h."{name}" IS NOT DISTINCT FROM d."{name}"'
            for name in ("object_id", *(self._told if self._is_told else ()))
        )
        self._db.execute(
            f"""
            CREATE TABLE chosen AS
            SELECT digest AS person, part, at_s, weight, doc, named
            FROM history h JOIN people USING (person) JOIN actions USING (action) JOIN docs d ON {same}
            WHERE at_s <= ? AND at_s >= ? AND at_s > forgotten_s AND consent
            QUALIFY event_id IS NULL OR row_number() OVER (PARTITION BY event_id ORDER BY at_s) = 1
            """,  # noqa: S608  column names of our own
            [self.until_s, self.until_s - signals.horizon_s],
        )
        self._db.execute(
            """
            CREATE TABLE segment_events AS
            SELECT person, part, at_s, weight, doc, unnest(list_distinct(named)) || ' ' || part AS place FROM chosen
            """
        )
        names = "SELECT DISTINCT unnest(named) FROM chosen ORDER BY 1"
        self.segment_names = [name for (name,) in self._db.execute(names).fetchall()]

    def _describe(self, objects: Objects, on_progress: Callable[[int, int], None]) -> tuple[int, int]:
        """Say what each object's values are; return how many objects there are, and how many of them are known."""
        cursor = self._db.execute("SELECT * FROM docs WHERE doc IN (SELECT doc FROM chosen)")
        names = [column[0] for column in cursor.description or ()]
        docs = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        needs_index = bool(self._plan.attributes - {"_id"}) and not self._is_told
        found = 0
        rows: list[tuple[int, str, list[str]]] = []
        for start in range(0, len(docs), OBJECTS_AT_ONCE):
            chunk = docs[start : start + OBJECTS_AT_ONCE]
            known = objects.find([("_id", doc["object_id"]) for doc in chunk]) if needs_index else None
            for doc in chunk:
                document = {**doc, "_id": doc["object_id"]} if known is None else known.get(("_id", doc["object_id"]))
                if document is not None:
                    found += 1
                    rows += [(doc["doc"], value[0], list(value)) for value in values(document, self._plan.fields)]
            on_progress(min(start + OBJECTS_AT_ONCE, len(docs)), len(docs))
        self._table("described", {"doc": "BIGINT", "field": "VARCHAR", "said": "VARCHAR[]"}, rows)
        return len(docs), found

    def _table(self, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Make a table of rows: a column at a time, since row-wise inserts take a millisecond each."""
        self._db.execute(f"CREATE TABLE {name} ({', '.join(f'{key} {kind}' for key, kind in columns.items())})")
        if rows:
            wanted = ", ".join(f"unnest(?::{kind}[])" for kind in columns.values())
            for start in range(0, len(rows), 50_000):
                parts = [list(part) for part in zip(*rows[start : start + 50_000], strict=True)]
                self._db.execute(f"INSERT INTO {name} SELECT {wanted}", parts)

    def _one(self, query: str, *parameters: Any) -> Any:
        row = self._db.execute(query, parameters).fetchone()
        return row[0] if row else None


def seconds_of(text: str) -> float:
    """Read a time (ISO 8601; without a zone: UTC). Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _rows(cursor: Any) -> Iterator[Any]:
    while rows := cursor.fetchmany(10_000):
        yield from rows
