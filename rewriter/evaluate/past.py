"""A history read for evaluation: all people's events in the order of time, and the population as of any time.

The files are read by the reader of `rewriter backfill`, with the same rules on consent, duplicates, actions and times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewriter.evaluate.subject_replay import SubjectEvents, SubjectReplay, ValueTable
from rewriter.settings import Settings
from rewriter.signals.affinities import Population
from rewriter.signals.backfill.columns import SEARCH
from rewriter.signals.backfill.history import History
from rewriter.signals.class_affinities import class_totals
from rewriter.signals.counters import SEPARATOR, HalfLives, Value
from rewriter.signals.events import values
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.packed import MAX_POPULATION
from rewriter.signals.repeats import AGAIN, NO_CLASS, USES
from rewriter.subject import pseudonym

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]
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

    def number_of(self, user_id: str | None) -> int | None:
        """Return a person's number, or None if the person is not in the history."""
        return self.people.get(pseudonym("u", user_id, self.salt)) if user_id else None

    def events_of(self, number: int) -> Codes:
        """Return the positions of a person's events, in the order of time."""
        order, bounds = self._by_person
        return order[bounds[number] : bounds[number + 1]]

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
    )  # fmt: skip


class CountedPast:
    """A past counted by one policy's rules: the values of each document, and populations as of any time.

    settings: settings with only that policy. half_lives: by default those of the settings.
    """

    def __init__(self, past: Past, settings: Settings, half_lives: HalfLives | None = None) -> None:
        self.past = past
        rules = CountingRules.of(settings)
        self._fields = rules.fields
        self._combinations = rules.class_combinations
        self.half_lives = half_lives or rules.scopes["profile"].half_lives
        self._session_lives = rules.scopes["session"].half_lives
        self._by_class = self._combinations if settings.class_field else None
        self._values: list[tuple[Value, ...] | None] = [None] * len(past.documents)
        self._populations: dict[float, Population] = {}

    def values(self, doc: int) -> tuple[Value, ...]:
        """Return the signal values of a document."""
        found = self._values[doc]
        if found is None:
            document = self.past.documents[doc]
            found = self._values[doc] = values(document, self._fields) if document is not None else ()
        return found

    def replay(self, number: int | None) -> SubjectReplay:
        """Return the replay of a person's events; of no events for None."""
        past = self.past
        at = past.events_of(number) if number is not None else np.empty(0, np.int64)
        event, code = self._coded_events(past.doc[at])
        events = SubjectEvents(past.at_s[at], past.weight[at], past.session[at], event, code)
        return SubjectReplay(events, self._table[0], self.half_lives, self._session_lives, self._by_class)

    def _coded_events(self, docs: Codes) -> tuple[Codes, Codes]:
        """Return, for each value of each event on one of `docs`, the position of the event and the number of the value."""
        _, bounds, codes = self._table
        lengths = bounds[docs + 1] - bounds[docs]
        event = np.repeat(np.arange(len(docs)), lengths)
        within = np.arange(len(event)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return event, codes[np.repeat(bounds[docs], lengths) + within]

    @cached_property
    def _table(self) -> tuple[ValueTable, Codes, Codes]:
        """The values, and each document's offset into the numbers of all values."""
        numbers: dict[Value, int] = {}
        bounds, codes = [0], list[int]()
        for doc in range(len(self.past.documents)):
            codes += [numbers.setdefault(value, len(numbers)) for value in self.values(doc)]
            bounds.append(len(codes))
        table = ValueTable.of(list(numbers), self.half_lives, self._session_lives, self._by_class)
        return table, np.array(bounds, np.int64), np.array(codes, np.int64)

    def population(self, at_s: float) -> Population:
        """Return the population's counters of the events before `at_s`, as of that time: the heaviest values, as in a store."""
        if at_s not in self._populations:
            self._populations[at_s] = self._counted(at_s)
        return self._populations[at_s]

    def _counted(self, at_s: float) -> Population:
        past = self.past
        end = int(np.searchsorted(past.at_s, at_s, side="left"))
        found: list[tuple[Sequence[Value], Numbers]] = []
        by_life: dict[float, Numbers] = {}
        for name, (docs, codes, named) in self._coded.items():
            half_life_s = self.half_lives.of(name)
            if half_life_s not in by_life:
                worth = past.weight[:end] * _decayed(past.at_s[:end], at_s, half_life_s)
                by_life[half_life_s] = _sums(past.doc[:end], worth, len(past.documents))
            sums = _sums(codes, by_life[half_life_s][docs], len(named))
            found.append((named, np.maximum(sums, 0.0)))
        if ITEM in self._fields:
            found.append(self._used(at_s))
        totals: dict[str, float] = {}
        pairs: list[tuple[Value, float]] = []
        for own, weights in found:
            for value, weight in zip(own, weights.tolist(), strict=True):
                if weight > 0.0:
                    totals[value[0]] = totals.get(value[0], 0.0) + weight
                    pairs.append((value, weight))
        pairs.sort(key=lambda pair: (-pair[1], pair[0]))
        floor = pairs[MAX_POPULATION][1] if len(pairs) > MAX_POPULATION else 0.0
        kept = dict(pairs[:MAX_POPULATION])
        members = {SEPARATOR.join(value): weight for value, weight in kept.items()}
        return Population(
            kept, totals, floor, max(0, len(pairs) - MAX_POPULATION),
            class_totals=class_totals(members, self._combinations),
        )  # fmt: skip

    @cached_property
    def _coded(self) -> dict[str, tuple[Codes, Codes, list[Value]]]:
        """By field: documents, the number of a value of each, and the values. Items are left out: they need no population."""
        table, bounds, codes = self._table
        docs = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        found: dict[str, tuple[Codes, Codes, list[Value]]] = {}
        for number, name in enumerate(table.fields):
            if name != ITEM:
                own = table.field[codes] == number
                different, local = np.unique(codes[own], return_inverse=True)
                found[name] = docs[own], local, [table.values[code] for code in different.tolist()]
        return found

    def _used(self, at_s: float) -> tuple[Sequence[Value], Numbers]:
        """Return the population's counts of uses and repeated uses of items before `at_s`."""
        times, uses, codes, named = self._uses
        end = int(np.searchsorted(times, at_s, side="left"))
        worth = _decayed(times[:end], at_s, self.half_lives.of(USES))
        cut = int(np.searchsorted(uses, end, side="left"))
        return named, _sums(codes[:cut], worth[uses[:cut]], len(named))

    @cached_property
    def _uses(self) -> tuple[Numbers, Codes, Codes, list[Value]]:
        """The times of uses; then for each value of a use: the number of the use, and of the value; and the values.

        Counted as in `repeats.observed_uses`: an item counts once per visit, and a person's first visit does not count.
        """
        past, table = self.past, self._table[0]
        (events,) = np.nonzero(past.weight > 0.0)
        person = past.person[events]
        visit = _visits(person, past.at_s[events])
        event, code = self._coded_events(past.doc[events])
        item = table.is_item[code]
        event, code = event[item], code[item]
        _, first = np.unique(np.stack([person[event], visit[event], code]), axis=1, return_index=True)
        first.sort()  # once a visit, in the order of time
        event, code = event[first], code[first]
        _, earliest = np.unique(np.stack([person[event], code]), axis=1, return_index=True)
        again = np.ones(len(event), bool)
        again[earliest] = False
        counts = visit[event] > 0
        event, code, again = event[counts], code[counts], again[counts]
        classes: dict[str, int] = {}
        names = (value[2] if len(value) > 2 else NO_CLASS for value in (table.values[one] for one in code.tolist()))
        class_of = np.array([classes.setdefault(name, len(classes)) for name in names], np.int64)
        number = np.arange(len(event))
        uses = np.concatenate([number, number[again]])
        marks = np.concatenate([class_of, class_of[again] + len(classes)])
        order = np.argsort(uses, kind="stable")
        named: list[Value] = [(mark, name) for mark in (USES, AGAIN) for name in classes]
        return past.at_s[events][event], uses[order], marks[order], named


def _visits(person: Codes, at_s: Numbers) -> Codes:
    """Return the number of each event's visit of its person, from 0: a visit ends after half an hour without events."""
    order = np.argsort(person, kind="stable")
    same = np.concatenate([[False], np.diff(person[order]) == 0]) if len(order) else np.empty(0, bool)
    silent = np.concatenate([[0.0], np.diff(at_s[order])]) > VISIT_S if len(order) else np.empty(0, bool)
    begins = np.cumsum(same & silent)
    first = np.maximum.accumulate(np.where(~same, np.arange(len(order)), 0)) if len(order) else np.empty(0, np.int64)
    found = np.empty(len(order), np.int64)
    found[order] = begins - begins[first]
    return found


def _decayed(times_s: Numbers, at_s: float, half_life_s: float) -> Numbers:
    """Return the decayed weight at `at_s` of an event of weight 1 at each time."""
    return np.exp2(np.maximum(-1000.0, (times_s - at_s) / half_life_s))


def _sums(codes: Codes, worth: Numbers, count: int) -> Numbers:
    """Return the sum of `worth` by code."""
    found: Numbers = np.bincount(codes, weights=worth, minlength=count).astype(np.float64)
    return found
