"""A past counted by one policy's rules: the signals of a person, of a segment and of everybody, as of any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from rewriter.evaluate.near_replay import Codes, NearTable, Numbers
from rewriter.evaluate.near_search import near_table
from rewriter.evaluate.past import Past
from rewriter.evaluate.subject_replay import SubjectEvents, SubjectReplay, ValueTable
from rewriter.settings import Settings
from rewriter.signals.affinities import Population
from rewriter.signals.class_affinities import class_totals
from rewriter.signals.counters import SEPARATOR, Counters, HalfLives, Value
from rewriter.signals.events import values
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.packed import MAX_POPULATION, MAX_SEGMENTS_VALUES
from rewriter.signals.repeats import AGAIN, NO_CLASS, USES


class CountedPast:
    """A past counted by one policy's rules.

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
        self._near: dict[float, NearTable] = {}
        self._segments: dict[tuple[str, float], Counters | None] = {}
        kept = MAX_SEGMENTS_VALUES // max(1, len(past.in_segment))  # as in the value that all segments share
        self._segment_values = max(1, min(settings.signals.max_counters, kept))

    def values(self, doc: int) -> tuple[Value, ...]:
        """Return the signal values of a document."""
        found = self._values[doc]
        if found is None:
            document = self.past.documents[doc]
            found = self._values[doc] = values(document, self._fields) if document is not None else ()
        return found

    def replay(self, number: int | None, near: NearTable | None = None) -> SubjectReplay:
        """Return the replay of a person's events; of no events for None. near: the neighbours that its items have."""
        past = self.past
        events = self._events(past.events_of(number) if number is not None else np.empty(0, np.int64))
        return SubjectReplay(events, self._table[0], self.half_lives, self._session_lives, self._by_class, near)

    def _events(self, at: Codes) -> SubjectEvents:
        past = self.past
        event, code = self._coded_events(past.doc[at])
        return SubjectEvents(past.at_s[at], past.weight[at], past.session[at], event, code)

    def near(self, at_s: float) -> NearTable:
        """Return the neighbours of items as a backfill at `at_s` finds them, in the events before it."""
        if at_s not in self._near:
            past, table = self.past, self._table[0]
            end = int(np.searchsorted(past.at_s, at_s, side="left"))
            event, code = self._coded_events(past.doc[:end])
            item = table.is_item[code] & (table.class_of[code] >= 0)
            event, code = event[item], code[item]
            worth = past.weight[event] * _decayed(past.at_s[event], at_s, self.half_lives.of(ITEM))
            pairs, which = np.unique(past.person[event] * len(table.values) + code, return_inverse=True)
            person, used = np.divmod(pairs, max(1, len(table.values)))
            self._near[at_s] = near_table(person, used, _sums(which, worth, len(pairs)), table.values)
        return self._near[at_s]

    def segments(self, names: Sequence[str], at_s: float) -> dict[str, Counters]:
        """Return the counters of segments of the events before `at_s`, as of that time. Those without events are left out."""
        found = {name: self._segment(name, at_s) for name in names if name in self.past.in_segment}
        return {name: counters for name, counters in found.items() if counters is not None}

    def _segment(self, name: str, at_s: float) -> Counters | None:
        if (name, at_s) not in self._segments:
            table = replace(
                self._table[0], shared=np.ones(len(self._table[0].values), bool)
            )  # nothing is kept by class
            replay = SubjectReplay(
                self._events(self.past.in_segment[name]), table, self.half_lives, self._session_lives, None
            )
            replay.advance(at_s)
            self._segments[name, at_s] = replay.signals(self._segment_values).profile
        return self._segments[name, at_s]

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
