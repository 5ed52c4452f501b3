"""A past counted by one policy's rules: the signals of a person, of a segment and of everybody, as of any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from rewriter.evaluate.arrays import Codes, Numbers
from rewriter.evaluate.coded_past import CodedPast
from rewriter.evaluate.near_replay import NearTable
from rewriter.evaluate.near_search import near_table
from rewriter.evaluate.past import Past
from rewriter.evaluate.subject_replay import SubjectEvents, SubjectReplay, ValueTable
from rewriter.settings import Settings
from rewriter.signals.affinities import Population
from rewriter.signals.class_affinities import class_totals
from rewriter.signals.counters import SEPARATOR, Counters, Value
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.packed import MAX_POPULATION, MAX_SEGMENTS_VALUES
from rewriter.signals.repeats import USES
from rewriter.signals.uses import judged


class CountedPast:
    """A past counted by one policy's rules.

    settings: settings with only that policy. coded: the past in the same values, if another policy counts them too.
    """

    def __init__(self, past: Past, settings: Settings, coded: CodedPast | None = None) -> None:
        self.past = past
        self.coded = coded or CodedPast(past, settings)
        scopes = CountingRules.of(settings).scopes
        self.half_lives, self._session_lives = (scopes[scope].half_lives for scope in ("profile", "session"))
        self._populations: dict[float, Population] = {}
        self._near: dict[float, NearTable] = {}
        self._segments: dict[tuple[str, float], Counters | None] = {}
        kept = MAX_SEGMENTS_VALUES // max(1, len(past.in_segment))  # as in the value that all segments share
        self._segment_values = max(1, min(settings.signals.max_counters, kept))

    def replay(self, number: int | None, near: NearTable | None = None) -> SubjectReplay:
        """Return the replay of a person's events; of no events for None. near: the neighbours that its items have."""
        past = self.past
        events = self._events(past.events_of(number) if number is not None else np.empty(0, np.int64))
        return SubjectReplay(events, self.table, self.half_lives, self._session_lives, self.coded.by_class, near)

    def _events(self, at: Codes) -> SubjectEvents:
        past = self.past
        event, code = self.coded.coded_events(past.doc[at])
        return SubjectEvents(past.at_s[at], past.weight[at], past.session[at], event, code)

    def near(self, at_s: float) -> NearTable:
        """Return the neighbours of items as a backfill at `at_s` finds them, in the events before it."""
        if at_s not in self._near:
            past, table = self.past, self.table
            end = int(np.searchsorted(past.at_s, at_s, side="left"))
            event, code = self.coded.coded_events(past.doc[:end])
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
            table = replace(self.table, shared=np.ones(len(self.table.values), bool))  # nothing is kept by class
            replay = SubjectReplay(
                self._events(self.past.in_segment[name]), table, self.half_lives, self._session_lives, None
            )
            replay.advance(at_s)
            self._segments[name, at_s] = replay.signals(self._segment_values).profile
        return self._segments[name, at_s]

    @cached_property
    def table(self) -> ValueTable:
        """All values."""
        return self.coded.table(self.half_lives, self._session_lives)

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
        for name, (docs, codes, named) in self.coded.by_field.items():
            half_life_s = self.half_lives.of(name)
            if half_life_s not in by_life:
                worth = past.weight[:end] * _decayed(past.at_s[:end], at_s, half_life_s)
                by_life[half_life_s] = _sums(past.doc[:end], worth, len(past.documents))
            sums = _sums(codes, by_life[half_life_s][docs], len(named))
            found.append((named, np.maximum(sums, 0.0)))
        if ITEM in self.coded.fields:
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
            class_totals=class_totals(members, self.coded.combinations),
        )  # fmt: skip

    def _used(self, at_s: float) -> tuple[Sequence[Value], Numbers]:
        """Return the population's counts of uses and repeated uses of items before `at_s`."""
        times, uses, codes, named = self.coded.uses
        end = int(np.searchsorted(times, at_s, side="left"))
        worth = _decayed(times[:end], at_s, self.half_lives.of(USES))
        cut = int(np.searchsorted(uses, end, side="left"))
        sums = _sums(codes[:cut], worth[uses[:cut]], len(named)).tolist()
        found = judged({value: weight for value, weight in zip(named, sums, strict=True) if weight > 0.0})
        return list(found), np.array(list(found.values()))


def _decayed(times_s: Numbers, at_s: float, half_life_s: float) -> Numbers:
    """Return the decayed weight at `at_s` of an event of weight 1 at each time."""
    return np.exp2(np.maximum(-1000.0, (times_s - at_s) / half_life_s))


def _sums(codes: Codes, worth: Numbers, count: int) -> Numbers:
    """Return the sum of `worth` by code."""
    found: Numbers = np.bincount(codes, weights=worth, minlength=count).astype(np.float64)
    return found
