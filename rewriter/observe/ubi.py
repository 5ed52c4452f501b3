"""UBI records of searches, as a hook: one `ubi_queries` record for each search, written by a thread of the hook's own.

    records = UbiRecords(IndexSink(OpenSearch(…)), settings)
    rewriter = Rewriter(client, store=…, settings=settings, hooks=[records])

    with ubi_query(query_id="…", user_query="red shoes", client_id="…"):
        rewriter.search(…)

The search's thread only copies ids; another thread builds, writes and retries the records. The queue holds a bounded number of
searches; further ones are dropped and counted. Events refer to a search by its `query_id`: give it in the body's `ext.ubi`, as
UBI's clients do, or with `ubi_query` where the plugin is not installed and the server refuses `ext.ubi`. Without a `query_id`
the record gets an id of its own, to which no event can refer.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from datetime import UTC, datetime
from logging import getLogger
from threading import Lock
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from rewriter.expression import parsed_indices
from rewriter.measures.ages import age_days
from rewriter.measures.attributes import Paths, attribute_paths, attribute_values, attributes_of
from rewriter.measures.diversity import intra_list_diversity
from rewriter.observe.background import Background
from rewriter.observe.hooks import Answered, SearchDetails
from rewriter.observe.ubi_record import (
    MAX_HITS,
    MAX_ID_CHARS,
    MAX_OBJECT_ID_CHARS,
    NOTHING,
    ShownHit,
    ShownPage,
    UbiFields,
    record_of,
    requested_in,
    words_of,
)
from rewriter.report import Report
from rewriter.settings import PolicySettings, Settings
from rewriter.subject import Subject

MAX_BATCH = 500
RETRY_S = 0.5
MAX_RETRY_S = 30.0
LOG_PERIOD_S = 60.0
DIVERSE_HITS = 10
"""A page's intra-list diversity is that of so many first hits."""

_log = getLogger("rewriter")

FieldPath = tuple[str, ...] | None
"""A document field, split at its dots."""

_requested: ContextVar[UbiFields] = ContextVar("rewriter_ubi_query", default=NOTHING)


@contextmanager
def ubi_query(
    query_id: str | None = None,
    *,
    user_query: str | None = None,
    client_id: str | None = None,
    application: str | None = None,
    object_id_field: str | None = None,
    query_attributes: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Set UBI's fields for the searches within the block, and yield the query's id, to which events then refer.

    Context-local: other threads and tasks keep their own values. Fields of the body's `ext.ubi` override these.
    """
    chosen = query_id or str(uuid4())
    token = _requested.set(UbiFields(chosen, user_query, client_id, application, object_id_field, query_attributes))
    try:
        yield chosen
    finally:
        try:
            _requested.reset(token)
        except ValueError:  # left in another context, where it was never set
            _requested.set(NOTHING)


class Sink(Protocol):
    """The destination of records. Called by one thread."""

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        """Write (id, JSON) pairs; return how many the sink refused for good. Raises if all of them are to be tried again.

        Records that were written before may come again, under their id.
        """

    def close(self) -> None:
        """Release the sink's resources."""


class _Copied(NamedTuple):
    """The parts of one search that its thread copies."""

    given: UbiFields
    around: UbiFields
    words: str
    subject: Subject | None
    indices: tuple[str, ...]
    from_: int
    hits: list[tuple[Any, ...]]
    attributes: list[tuple[Any, ...]]
    total: int | None
    at_s: float
    report: Report


class UbiRecords:
    """The hook. Thread-safe and fork-safe; close it to write the waiting records.

    settings: its policies name category, date and signal fields, so that diversity can be measured; None for no such fields.
    application: UBI's, if neither the body nor `ubi_query` names one. object_id_field: the field that identifies objects, by
                 default `_id`.
    """

    def __init__(
        self,
        sink: Sink,
        settings: Settings | None = None,
        *,
        application: str | None = None,
        object_id_field: str | None = None,
        max_waiting: int = 10_000,
    ) -> None:
        self._sink = sink
        policies: Mapping[str, PolicySettings] = settings.policies if settings else {}
        self._attributes = {name: _paths(policy) for name, policy in policies.items()}
        self._fields = {
            name: (_path(policy.category_field), _path(policy.date_field)) for name, policy in policies.items()
        }
        self._default = UbiFields(application=application, object_id_field=object_id_field)
        self._counts: Counter[str] = Counter()
        self._lock = Lock()
        self._batch: list[tuple[str, str]] = []
        self._failures = 0
        self._is_reported, self._reported_s = False, float("-inf")
        self._due_s = float("-inf")
        self._process = os.getpid()
        self._queue: Background[_Copied] = Background(
            self._take, idle=self._write, ready=lambda: len(self._batch) < MAX_BATCH, max_waiting=max_waiting
        )

    def __call__(self, details: SearchDetails) -> None:
        """Do nothing: `answered` records the search."""

    def answered(self, search: Answered) -> None:
        """Copy the parts of one search that its record needs."""
        self._queue.put(self._copied(search, time.time()))

    @property
    def counts(self) -> dict[str, int]:
        """Records by outcome: written, refused, failed (those that could not be built), dropped, waiting; and the sink's failed
        attempts.
        """
        with self._lock:
            found = dict(self._counts)
        found["dropped"] = found.get("dropped", 0) + self._queue.dropped
        found["failed"] = self._queue.errors
        found["waiting"] = len(self._queue) + len(self._batch)
        return found

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all waiting records are written; return False after `timeout_s` seconds. Never on a search's path."""
        until_s = time.monotonic() + timeout_s
        while len(self._queue) or self._batch:
            if not self._queue.flush(max(0.0, until_s - time.monotonic())) or time.monotonic() >= until_s:
                return False
            if self._batch:
                time.sleep(0.01)
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Write the waiting records for at most `timeout_s` seconds, drop and count the rest, and close the sink."""
        self._due_s = float("-inf")
        self.flush(timeout_s)
        self._queue.close(0.0)
        with self._lock:
            self._counts["dropped"] += len(self._batch)
            self._batch = []
        self._sink.close()

    def _copied(self, search: Answered, now_s: float) -> _Copied:
        """Copy the objects that the caller may change. The hook's own thread makes everything else, ids included."""
        arguments, report, subject = search.arguments, search.report, search.subject
        body = arguments.get("body")
        given, around = requested_in(body), _requested.get()
        named = given.user_query is not None or around.user_query is not None
        id_field = given.object_id_field or around.object_id_field or self._default.object_id_field
        id_path = None if id_field == "_id" else _path(id_field)
        category, date = self._fields.get(report.policy or "", (None, None))
        envelope = search.response.get("hits") if isinstance(search.response, Mapping) else None
        found = envelope.get("hits") if isinstance(envelope, Mapping) else None
        hits = [hit for hit in found[:MAX_HITS] if isinstance(hit, (dict, Mapping))] if isinstance(found, list) else []
        paths = self._attributes.get(report.policy or "", ())
        return _Copied(
            given,
            around,
            "" if named or not isinstance(body, Mapping) else words_of(body.get("query")),
            subject,
            parsed_indices(arguments.get("index")),
            _from(arguments, body),
            [_values(hit, id_path, category, date) for hit in hits],
            [attribute_values(hit.get("_source"), paths) for hit in hits[:DIVERSE_HITS]] if paths else [],
            _total(envelope.get("total") if isinstance(envelope, Mapping) else None),
            now_s,
            report,
        )

    def _page(self, one: _Copied) -> ShownPage:
        requested = _over(_over(one.given, one.around), self._default)
        if requested.user_query is None:
            requested = replace(requested, user_query=one.words)
        visitor = (one.subject.user_id or one.subject.session_id) if one.subject else None
        may_name = one.subject is None or one.subject.consent
        client_id = (requested.client_id or visitor) if may_name else None
        named_id = requested.query_id if requested.query_id and len(requested.query_id) <= MAX_ID_CHARS else None
        hits = tuple(_shown(hit, one.at_s) for hit in one.hits)
        return ShownPage(
            requested, named_id or str(uuid4()), str(uuid4()), client_id, one.indices, one.from_, hits, one.total, one.at_s,
            one.report, intra_list_diversity([attributes_of(values) for values in one.attributes]),
        )  # fmt: skip

    def _take(self, one: _Copied) -> None:
        if self._process != os.getpid():  # after a fork the parent writes its own batch
            self._process, self._batch, self._counts, self._lock = os.getpid(), [], Counter(), Lock()
        page = self._page(one)
        record = record_of(page, timestamp(page.at_s))
        self._batch.append((page.response_id, json.dumps(record, default=str, separators=(",", ":"))))
        if len(self._batch) >= MAX_BATCH:
            self._write()

    def _write(self) -> None:
        if not self._batch or time.monotonic() < self._due_s:
            return
        batch = self._batch
        try:
            refused = self._sink.write(batch)
        except Exception as error:  # noqa: BLE001  whatever a sink raises: what waits stays, and is tried again later
            self._note_failure(error)
            self._due_s = time.monotonic() + min(MAX_RETRY_S, RETRY_S * 2**self._failures)
            self._failures = min(self._failures + 1, 10)
            self._count(attempts_failed=1)
            return
        if self._failures and self._is_reported:
            self._is_reported = False
            _log.warning("UBI records are written again")
        self._failures = 0
        self._batch = []
        self._count(written=len(batch) - refused, refused=refused)

    def _note_failure(self, error: Exception) -> None:
        """Log the first failure in a row, at most once in `LOG_PERIOD_S`. A server's own text may hold what people typed."""
        now_s = time.monotonic()
        if not self._is_reported and now_s - self._reported_s >= LOG_PERIOD_S:
            self._is_reported, self._reported_s = True, now_s
            cause = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
            _log.warning(
                "UBI records cannot be written, they wait: %s%s; `records.counts` counts those that are dropped meanwhile",
                type(error).__name__,
                cause,
            )

    def _count(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)


def timestamp(at_s: float) -> str:
    """Return a time as `strict_date_time`: with milliseconds and a zone, without which the plugin's mapping drops it silently."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _over(one: UbiFields, other: UbiFields) -> UbiFields:
    """Return `one`, with its missing fields taken from `other`."""
    if one is NOTHING:
        return other
    return replace(
        one, **{part.name: getattr(other, part.name) for part in fields(one) if getattr(one, part.name) is None}
    )


def _from(arguments: Mapping[str, Any], body: Any) -> int:
    params = arguments.get("params")
    for value in (
        arguments.get("from_"),
        params.get("from") if isinstance(params, Mapping) else None,
        body.get("from") if isinstance(body, Mapping) else None,
    ):
        try:
            if value is not None:
                return max(0, int(value))
        except (TypeError, ValueError):
            continue
    return 0


def _total(total: Any) -> int | None:
    value = total.get("value") if isinstance(total, Mapping) else total
    return value if isinstance(value, int) else None


def _paths(policy: PolicySettings) -> Paths:
    """Return the fields that describe an item: the category, and those of the signal fields."""
    return attribute_paths([policy.category_field, *(path for field in policy.fields.values() for path in field.of)])


def _path(field: str | None) -> FieldPath:
    return tuple(field.split(".")) if field else None


def _values(hit: Mapping[str, Any], id_path: FieldPath, category: FieldPath, date: FieldPath) -> tuple[Any, ...]:
    """Return a hit's id, and the values that its `_source` has in the fields of object id, category and date."""
    source = hit.get("_source")
    return (
        hit.get("_id"),
        _value(source, id_path) if id_path else None,
        _value(source, category) if category else None,
        _value(source, date) if date else None,
    )


def _shown(values: tuple[Any, ...], now_s: float) -> ShownHit:
    own_id, object_id, category, listed = values
    return ShownHit(
        str(own_id if object_id is None else object_id)[:MAX_OBJECT_ID_CHARS],
        None if category is None else str(category)[:MAX_ID_CHARS],
        age_days(listed, now_s),
    )


def _value(source: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        source = source.get(name) if isinstance(source, dict) else None
    return source[0] if isinstance(source, list) and source else source
