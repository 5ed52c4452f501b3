"""History: computes, with DuckDB, the counters of each user and of each partition's population and segments as of one time.

A file (Parquet, NDJSON, CSV) has one row per event, with `timestamp`, `object_id`, `user_id` or `client_id` or both. Optional
columns are `action_name` (default: purchase), `event_id`, `consent` and `segments` (a list of names, or a comma-separated text).
Columns with the names of the counted document fields save the look-up of the objects. Negative actions are subtracted; no sum is
below zero.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any
from zlib import crc32

from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.signals.backfill.files import Files, read_files
from rewriter.signals.backfill.popularity import popularities
from rewriter.signals.backfill.row_counts import REASONS, RowCounts
from rewriter.signals.backfill.sums import Sums, insert
from rewriter.signals.backfill.uses import guard_of_uses, listed_at_uses
from rewriter.signals.counters import SEPARATOR
from rewriter.signals.events import MAX_SEGMENTS_EACH, SEGMENT_NAME, read_json
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import MAX_SEGMENTS
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.repeats import RepeatGuard
from rewriter.subject import pseudonym

Documents = Callable[[int, Mapping[str, Any]], None]
OBJECTS_AT_ONCE = 5_000
SHOWN_ACTIONS = 5
MEMORY = "2GB"
"""DuckDB's memory limit; beyond it, tables are spilled to a temporary folder until the process ends."""


class History:
    """The counters of history files as of `until_s`, in a database of its own.

    partitions: number of partitions of the store.
    until_s:    the time up to which the files are complete (seconds since the epoch); later events are read from the streams. By
                default the time of the latest event.
    forgotten:  the time of erasure by pseudonym of erased users.
    now_s:      the present time, beyond which an event is in the future; by default the clock's.
    more:       the columns of the search behind an event that are read too (`columns.SEARCH`).
    sums:       the counters, to which `live` adds the streams' later events.
    row_counts: the outcomes of the rows, set by `add_up`.
    Raises ConfigurationError for files that cannot be read, and for segment names that events could not have.
    """

    def __init__(
        self,
        files: Sequence[str],
        plan: CountingRules,
        partitions: int,
        until_s: float | None,
        forgotten: Mapping[str, float],
        *,
        now_s: float | None = None,
        more: Collection[str] = ("session_id",),
    ) -> None:
        import duckdb  # noqa: PLC0415  an extra: pip install 'rewriter[backfill]'

        self._plan = plan
        self._now_s = time.time() if now_s is None else now_s
        self._db = duckdb.connect()
        for name, value in (
            ("TimeZone", "UTC"),
            ("memory_limit", MEMORY),
            ("temp_directory", f"{tempfile.gettempdir()}/rewriter-{token_hex(8)}"),
        ):
            self._db.execute(f"SET {name} = '{value}'")
        self._db.execute("SET enable_progress_bar = false")  # it would go to standard output
        with tempfile.TemporaryDirectory(prefix="rewriter-") as folder:
            self.files: Files = read_files(self._db, files, plan.attributes - {"_id"}, Path(folder), more)
        self._refuse_unreadable(", ".join(files))
        self._is_limited = until_s is not None
        latest_s = self._one(
            "SELECT max(at_s) FROM history WHERE at_s <= ?", self._now_s + plan.settings.signals.max_skew_s
        )
        self.until_s: float = min(latest_s or 0.0, self._now_s) if until_s is None else until_s
        self._left_out: dict[str, tuple[int, int]] = {}
        self._choose(partitions, forgotten)
        self.sums = Sums(self._db, plan, self.until_s, partitions)

    def add_up(self, objects: Objects, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Look up the objects, compute all counters, and return the counts to print.

        on_progress: called with the number of objects looked up and of all objects.
        """
        wanted, found = self.describe(objects, on_progress)
        self.sums.add_history()
        return {
            **self.row_counts.counts(),
            "users": self._one("SELECT count(DISTINCT person) FROM chosen"),
            "objects": wanted,
            "objects_missing": wanted - found,
            "values": self._one("SELECT count(*) FROM weights"),
            "segments": len(self.sums.segment_names),
            **({"with_neighbours": self.sums.near_items} if self._plan.has_neighbours else {}),
        }

    def describe(
        self, objects: Objects, on_progress: Callable[[int, int], None], keep: Documents | None = None
    ) -> tuple[int, int]:
        """Look up the objects and choose the events that count; return the number of objects, and of those with a document.

        keep: receives each object's number and its document. With it, no counters can be computed (`add_up`).
        """
        counts = self._describe(objects, on_progress, keep)
        self._db.execute(
            """
            CREATE TABLE chosen AS SELECT person, part, at_s, weight, doc, named, row, session
            FROM sound JOIN docs USING (object_id, document) LEFT JOIN undescribed USING (doc) WHERE reason IS NULL
            """
        )
        self._leave_out(
            "SELECT reason, count(*), min(row) FROM sound JOIN docs USING (object_id, document) JOIN undescribed USING (doc)"
            " GROUP BY reason"
        )
        self._db.execute("DROP TABLE sound")
        self.row_counts = self._row_counts()
        return counts

    def table(self, query: str) -> Mapping[str, Any]:
        """Return the columns of a query as arrays, by name."""
        found: Mapping[str, Any] = self._db.execute(query).fetchnumpy()
        return found

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        found: list[tuple[Any, ...]] = self._db.execute(query, parameters).fetchall()
        return found

    def popularities(self, half_life_s: float) -> Iterator[tuple[str, float]]:
        """Yield each item's id and decayed popularity as of the end of the history. Call `add_up` first."""
        heaviest = max((*self._plan.settings.signals.action_weights.values(), 0.0)) or 1.0
        return popularities(self._db, self.until_s, half_life_s, heaviest)

    def _row_counts(self) -> RowCounts:
        left_out = {reason: self._left_out.get(reason, (0, 0))[0] for reason in REASONS}
        left_out["malformed"] = self.files.malformed
        first = {reason: self.files.row(row) for reason, (_, row) in self._left_out.items()}
        rows = sum(self.files.rows) + self.files.malformed
        events, mean = self._row("SELECT count(*), coalesce(avg(weight) FILTER (weight > 0), 0) FROM chosen")
        return RowCounts(rows, events, left_out, first, self._actions, mean)

    def repeats(self) -> RepeatGuard:
        """Return how often people used items again, after `add_up`."""
        return guard_of_uses(self._db)

    def listed_at_uses(self, field: str) -> list[tuple[str, float]]:
        """Return the date of each item used, as its document has it in a signal field, and the time of the use, after `add_up`."""
        return listed_at_uses(self._db, field)

    def _refuse_unreadable(self, where: str) -> None:
        """Raise ConfigurationError with all faults of the columns consent and segments, without their values."""
        self._db.execute("CREATE VIEW names AS SELECT rowid AS row, unnest(named) AS name FROM history")
        unsound, odd = self._row(
            "SELECT count(DISTINCT name), min(row) FROM names WHERE NOT coalesce(regexp_full_match(name, ?), false)",
            SEGMENT_NAME,
        )
        crowded, full = self._row("SELECT count(*), min(rowid) FROM history WHERE len(named) > ?", MAX_SEGMENTS_EACH)
        names = self._one("SELECT count(DISTINCT name) FROM names")
        faults = [
            *(
                [f"{unsound} names are not 1 to 64 of A-Z a-z 0-9 _ . - (first: {self.files.row(odd)})"]
                if unsound
                else []
            ),
            *(
                [f"{count_of(crowded, 'row', 'name')} more than {MAX_SEGMENTS_EACH} (first: {self.files.row(full)})"]
                if crowded
                else []
            ),
            *([f"{names:,} names, and a store knows {MAX_SEGMENTS:,}"] if names > MAX_SEGMENTS else []),
        ]
        found = [Fault(f"{where}, column segments", fault) for fault in faults]
        unclear, first = self._row("SELECT count(*), min(rowid) FROM history WHERE agreed IS NULL")
        if unclear:
            what = f"column consent is neither true nor false (granted, denied) in {count_of(unclear, 'row')}"
            found.append(Fault(self.files.row(first), what))
        if found:
            raise ConfigurationError(found)

    def _choose(self, partitions: int, forgotten: Mapping[str, float]) -> None:
        """Assign each row's fate, and create the table `sound` of the rows that may count, without duplicates of an event_id."""
        signals, salt = self._plan.settings.signals, self._plan.settings.store.key_salt.get_secret_value()
        people = self._db.execute("SELECT DISTINCT person FROM history WHERE person IS NOT NULL").fetchall()
        named = [(one, pseudonym("u", one, salt), crc32(one.encode()) % partitions) for (one,) in people]
        rows = [(one, digest, part, forgotten.get(digest, 0.0)) for one, digest, part in named]
        columns = {"person": "VARCHAR", "digest": "VARCHAR", "part": "INT", "forgotten_s": "DOUBLE"}
        insert(self._db, "people", columns, rows)
        insert(self._db, "actions", {"action": "VARCHAR", "weight": "DOUBLE"}, list(signals.action_weights.items()))
        later = "after_until" if self._is_limited else "in_future"
        self._db.execute(
            f"""
            CREATE VIEW row_fates AS
            SELECT h.rowid AS row, action, digest, part, least(at_s, {self._now_s!r}) AS at_s, weight, object_id,
                   coalesce(document, '') AS document, named, event_id, session,
                   CASE WHEN at_s IS NULL THEN 'no_time'
                        WHEN at_s > {self._now_s + signals.max_skew_s!r} THEN 'in_future'
                        WHEN least(at_s, {self._now_s!r}) > {self.until_s!r} THEN '{later}'
                        WHEN at_s < {self.until_s - signals.horizon_s!r} THEN 'too_old'
                        WHEN long_id THEN 'long_id'
                        WHEN person IS NULL THEN 'no_person'
                        WHEN weight IS NULL THEN 'unknown_action'
                        WHEN NOT agreed THEN 'no_consent'
                        WHEN at_s <= forgotten_s THEN 'forgotten'
                        WHEN object_id IS NULL THEN 'no_object' END AS fate
            FROM history h LEFT JOIN people USING (person) LEFT JOIN actions USING (action)
            """
        )
        self._leave_out("SELECT fate, count(*), min(row) FROM row_fates WHERE fate IS NOT NULL GROUP BY fate")
        self._actions = self._db.execute(
            "SELECT action[:64], count(*) FROM row_fates WHERE fate = 'unknown_action' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
            [SHOWN_ACTIONS if "unknown_action" in self._left_out else 0],
        ).fetchall()
        self._db.execute(
            """
            CREATE TABLE sound AS
            SELECT row, digest AS person, part, at_s, weight, object_id, document, named, event_id, session
            FROM row_fates WHERE fate IS NULL
            """
        )
        self._db.execute(
            """
            CREATE TABLE doubled AS SELECT row FROM sound WHERE event_id IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY at_s, row) > 1
            """
        )
        self._leave_out("SELECT 'doubled', count(*), min(row) FROM doubled HAVING count(*) > 0")
        self._db.execute("DELETE FROM sound WHERE row IN (SELECT row FROM doubled)")
        self._db.execute(
            """
            CREATE TABLE docs AS SELECT row_number() OVER (ORDER BY object_id, document) AS doc, object_id, document
            FROM (SELECT DISTINCT object_id, document FROM sound)
            """
        )

    def _leave_out(self, query: str) -> None:
        """Add the number and first row of each reason to the left-out rows."""
        for reason, count, row in self._db.execute(query).fetchall():
            before, first = self._left_out.get(reason, (0, row))
            self._left_out[reason] = (before + count, min(first, row))

    def _describe(
        self, objects: Objects, on_progress: Callable[[int, int], None], keep: Documents | None
    ) -> tuple[int, int]:
        """Create the table of each object's values; return the number of objects, and of those with a document.

        With `keep`, the caller counts the values, and the table stays empty.
        """
        docs = self._db.execute("SELECT doc, object_id, document FROM docs").fetchall()
        needs_index = bool(self._plan.attributes - {"_id"})
        found = 0
        rows: list[tuple[int, str, str]] = []
        undescribed: list[tuple[int, str]] = []
        for start in range(0, len(docs), OBJECTS_AT_ONCE):
            chunk = docs[start : start + OBJECTS_AT_ONCE]
            unknown = [("_id", one) for _, one, document in chunk if needs_index and not document]
            known = objects.find(unknown) if unknown else {}
            for doc, one, own in chunk:
                document = _read(own, one) if own or not needs_index else known.get(("_id", one))
                values = self._plan.values(document) if document is not None else ()
                found += document is not None
                if keep is None:
                    rows += [(doc, value[0], SEPARATOR.join(value)) for value in values]
                elif document is not None:
                    keep(doc, document)
                if not values:
                    undescribed.append((doc, "no_object" if document is None else "no_value"))
            on_progress(min(start + OBJECTS_AT_ONCE, len(docs)), len(docs))
        insert(self._db, "described", {"doc": "BIGINT", "field": "VARCHAR", "member": "VARCHAR"}, rows)
        insert(self._db, "undescribed", {"doc": "BIGINT", "reason": "VARCHAR"}, undescribed)
        return len(docs), found

    def _one(self, query: str, *parameters: Any) -> Any:
        return self._row(query, *parameters)[0]

    def _row(self, query: str, *parameters: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(query, parameters).fetchone() or (None,)
        return row


def _read(own: str, object_id: str) -> Mapping[str, Any]:
    """Return an object's document of the history's columns; one that is nested too deeply has no values, not even its id."""
    try:
        return {**read_json(own or "{}"), "_id": object_id}
    except ValueError:
        return {}


def seconds_of(text: str) -> float:
    """Parse an ISO 8601 time, in UTC if it has no zone, to seconds since the epoch. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
