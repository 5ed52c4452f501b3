"""A history read for evaluation: all people's events in the order of time.

The files are read by the reader of `rewriter backfill`, with the same rules on consent, duplicates, actions and times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from rewriter.evaluate.arrays import Codes, Numbers
from rewriter.settings import Settings
from rewriter.signals.backfill.columns import SEARCH
from rewriter.signals.backfill.history import History
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.objects import Objects
from rewriter.subject import pseudonym

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Past:
    """Events in the order of time, as arrays of equal length.

    at_s:      time (seconds since the epoch). weight: the action's. person, doc, session: numbers (session: -1 for none).
    people:    number by pseudonym. sessions: number by session_id.
    documents: by number, each with `_id`; objects without a document have no events.
    until_s:   the end of the history.
    row_counts: the outcomes of the rows, as `rewriter backfill` counts them; lines: the lines of rows left out, for people.
    history:   the database, for queries on the rows behind the events.
    in_segment: the positions of the events that name each segment.
    """

    at_s: Numbers
    weight: Numbers
    person: Codes
    doc: Codes
    session: Codes
    people: Mapping[str, int]
    sessions: Mapping[str, int]
    documents: Sequence[Mapping[str, Any] | None]
    until_s: float
    row_counts: Mapping[str, int]
    lines: Sequence[str]
    history: History = field(repr=False)
    salt: str = field(default="", repr=False)
    in_segment: Mapping[str, Codes] = field(default_factory=dict)

    def number_of(self, user_id: str | None) -> int | None:
        """Return a person's number, or None if the person is not in the history."""
        return self.people.get(pseudonym("u", user_id, self.salt)) if user_id else None

    def events_of(self, number: int) -> Codes:
        """Return the positions of a person's events, in the order of time."""
        order, bounds = self._by_person
        return order[bounds[number] : bounds[number + 1]]

    @cached_property
    def docs_of(self) -> Mapping[str, Sequence[int]]:
        """The numbers of the documents with each `_id`."""
        found: dict[str, list[int]] = {}
        for doc, document in enumerate(self.documents):
            if document is not None:
                found.setdefault(str(document["_id"]), []).append(doc)
        return found

    @cached_property
    def _by_person(self) -> tuple[Codes, Codes]:
        order = np.argsort(self.person, kind="stable")
        return order, np.searchsorted(self.person[order], np.arange(len(self.people) + 1))


def read_past(
    files: Sequence[str],
    settings: Settings,
    attributes: Collection[str],
    objects: Callable[[Collection[str]], Objects],
    on_progress: Progress,
    *,
    now_s: float | None = None,
) -> Past:
    """Read history files. Raises ConfigurationError for files that cannot be read, ImportError without the extra.

    settings:   settings with every evaluated policy. attributes: document fields to read besides those of signals.
    objects:    makes the look-up of documents for some attributes; called only if the files lack them.
    """
    rules = CountingRules.of(settings)
    rules = replace(rules, attributes=rules.attributes | frozenset(attributes))
    history = History(list(files), rules, 1, None, {}, now_s=now_s, more=SEARCH)
    documents: list[Mapping[str, Any] | None] = []

    def keep(number: int, document: Mapping[str, Any]) -> None:
        documents.extend([None] * (number + 1 - len(documents)))
        documents[number] = document

    history.describe(objects(rules.attributes), on_progress, keep)
    history.rows("CREATE TABLE people_of AS SELECT person, row_number() OVER (ORDER BY person) - 1 AS number"
                 " FROM (SELECT DISTINCT person FROM chosen)")  # fmt: skip
    history.rows("CREATE TABLE sessions_of AS SELECT session, row_number() OVER (ORDER BY session) - 1 AS number"
                 " FROM (SELECT DISTINCT session FROM history WHERE session IS NOT NULL)")  # fmt: skip
    table = history.table(
        """
        SELECT c.at_s, c.weight, p.number AS person, c.doc, coalesce(s.number, -1) AS session
        FROM chosen c JOIN people_of p USING (person) JOIN history h ON h.rowid = c.row LEFT JOIN sessions_of s
             ON s.session = h.session
        ORDER BY c.at_s, c.row
        """
    )
    at_s, weight, person, doc, session = (table[name] for name in ("at_s", "weight", "person", "doc", "session"))
    return Past(
        np.asarray(at_s, np.float64), np.asarray(weight, np.float64), np.asarray(person, np.int64),
        np.asarray(doc, np.int64), np.asarray(session, np.int64),
        dict(history.rows("SELECT person, number FROM people_of")),
        dict(history.rows("SELECT session, number FROM sessions_of")), documents, history.until_s,
        history.row_counts.counts(), history.row_counts.lines(), history, settings.store.key_salt.get_secret_value(),
        _in_segment(history),
    )  # fmt: skip


def _in_segment(history: History) -> dict[str, Codes]:
    """Return the positions of the events that name each segment, in the order of time."""
    table = history.table(
        """
        SELECT number, unnest(list_distinct(named)) AS name
        FROM (SELECT row_number() OVER (ORDER BY at_s, row) - 1 AS number, named FROM chosen) ORDER BY name, number
        """
    )
    names, first = np.unique(np.asarray(table["name"], str), return_index=True)
    parts = np.split(np.asarray(table["number"], np.int64), first[1:])
    return dict(zip(names.tolist(), parts, strict=False))
