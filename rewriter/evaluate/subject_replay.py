"""Replay of a subject's events: the signals that a store would have held at the time of each judged search. Pure.

Only events *before* a search count: an event in the same second is an outcome of the search, and not a signal. Counters decay as in
`signals.counters`, computed over arrays: a subject of 2,000 events takes some tenths of a millisecond per search.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rewriter.evaluate.arrays import Codes, Numbers
from rewriter.evaluate.event_by_event import PastEvent, RunningCounters
from rewriter.evaluate.near_replay import NearTable
from rewriter.signals.class_counters import MAX_CLASSES, MAX_VALUES, ClassCounters, of_class
from rewriter.signals.counters import Counters, HalfLives, Value
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.neighbours import Near, class_of_near, near_class
from rewriter.signals.store import Signals


@dataclass(frozen=True)
class ValueTable:
    """All signal values of a history by number, with the facts of each that counting needs.

    field:      number of the field. half_life_s: in the profile; session_half_life_s: in a session.
    shared:     whether it is counted for all classes together. class_of: number of its class, -1 for none.
    is_item:    whether it is an item.
    inner:      the value without its class.
    """

    values: Sequence[Value]
    fields: Sequence[str]
    classes: Mapping[str, int]
    field: Codes
    half_life_s: Numbers
    session_half_life_s: Numbers
    shared: NDArray[np.bool_]
    class_of: Codes
    is_item: NDArray[np.bool_]
    inner: Sequence[Value]

    @cached_property
    def code_of(self) -> Mapping[Value, int]:
        """The number of each value."""
        return {value: code for code, value in enumerate(self.values)}

    @classmethod
    def of(
        cls, values: Sequence[Value], profile: HalfLives, session: HalfLives, by_class: Collection[str] | None
    ) -> ValueTable:
        """Return the table of values. by_class: combinations kept only by class; None if nothing is kept by class."""
        fields: dict[str, int] = {}
        classes: dict[str, int] = {}
        field, class_of, inner = [], [], []
        for value in values:
            field.append(fields.setdefault(value[0], len(fields)))
            found = of_class(value, ITEM, by_class) if by_class is not None else None
            class_of.append(classes.setdefault(found[0], len(classes)) if found else -1)
            inner.append(found[1] if found else value)
        names = list(fields)
        numbers = np.array(field, np.int64)
        lives, session_lives = _lives(names, profile), _lives(names, session)
        apart = np.array([name in (by_class or ()) for name in names] or [False], bool)
        item = np.array([name == ITEM for name in names] or [False], bool)
        return cls(
            values, names, classes, numbers, lives[numbers], session_lives[numbers], ~apart[numbers],
            np.array(class_of, np.int64), item[numbers], inner,
        )  # fmt: skip

    def with_lives(self, profile: HalfLives, session: HalfLives) -> ValueTable:
        """Return the table with other half-lives."""
        lives, session_lives = _lives(self.fields, profile)[self.field], _lives(self.fields, session)[self.field]
        return replace(self, half_life_s=lives, session_half_life_s=session_lives)


def _by_value(values: Sequence[Value], codes: Codes, weights: Numbers) -> dict[Value, float]:
    return dict(zip(map(values.__getitem__, codes.tolist()), weights.tolist(), strict=True))


def _lives(fields: Sequence[str], half_lives: HalfLives) -> Numbers:
    return np.array([half_lives.of(name) for name in fields] or [1.0], np.float64)


@dataclass(frozen=True, slots=True)
class SubjectEvents:
    """One subject's events in the order of time, and the values of each: `event` and `code` have one element per value."""

    at_s: Numbers
    weight: Numbers
    session: Codes
    event: Codes
    code: Codes


class SubjectReplay:
    """One subject's signals at advancing times. near: the neighbours of items, None if no search reads them."""

    def __init__(
        self,
        events: SubjectEvents,
        table: ValueTable,
        profile: HalfLives,
        session: HalfLives,
        by_class: Collection[str] | None,
        near: NearTable | None = None,
    ) -> None:
        self._events = events
        self._near = near
        self._table = table
        self._lives = profile, session
        self._by_class = by_class
        self._end = 0
        self._at_s = float("-inf")
        self._lowers = bool((events.weight < 0.0).any())

    @cached_property
    def _codes(self) -> Codes:
        return self._coded[0]

    @cached_property
    def _local(self) -> Codes:
        return self._coded[1]

    @cached_property
    def _coded(self) -> tuple[Codes, Codes]:
        codes, local = np.unique(self._events.code, return_inverse=True)
        return codes, local

    def advance(self, until_s: float) -> None:
        """Add the events before `until_s`. Raises ValueError if an earlier call had a later time: its events are counted."""
        if until_s < self._at_s:
            raise ValueError("a replay cannot go back: its counters hold later events")
        self._at_s = until_s
        self._end = int(np.searchsorted(self._events.at_s, until_s, side="left"))

    def signals(self, limit: int, classes: Sequence[str] = (), session: int = -1) -> Signals:
        """Return the answer that a store would have given: at most `limit` counters per scope, and those of some classes.

        Without classes, items of all of them are among the profile's counters.
        """
        if self._lowers:
            return self._one_by_one(limit, classes, session)
        entries = int(np.searchsorted(self._events.event, self._end, side="left"))
        table = self._table
        worth = self._worth(entries, table.half_life_s)
        counted = table.shared & ~(table.is_item & (table.class_of >= 0)) if classes else table.shared
        return Signals(
            self._session(entries, session, limit) if session >= 0 else None,
            self._counters(worth, entries, counted[self._codes], limit, self._end),
            classes=self._classes(worth, entries, classes) if classes and self._end else {},
        )

    def _worth(self, entries: int, half_life_s: Numbers) -> Numbers:
        events, code = self._events, self._events.code[:entries]
        event = events.event[:entries]
        ages = np.maximum(-1000.0, (events.at_s[event] - self._at_s) / half_life_s[code])
        found: Numbers = events.weight[event] * np.exp2(ages)
        return found

    def _sums(self, entries: int, worth: Numbers) -> Numbers:
        found: Numbers = np.bincount(self._local[:entries], weights=worth, minlength=len(self._codes)).astype(
            np.float64
        )
        return found

    def _counters(
        self, worth: Numbers, entries: int, counted: NDArray[np.bool_], limit: int, events: int
    ) -> Counters | None:
        if not events:
            return None
        sums = self._sums(entries, worth)
        return self._as_counters(np.where(counted, sums, 0.0), limit, events, float(self._events.at_s[self._end - 1]))

    def _as_counters(self, sums: Numbers, limit: int, events: int, last_s: float) -> Counters:
        table = self._table
        by_field = np.bincount(table.field[self._codes], weights=sums, minlength=len(table.fields)).tolist()
        totals = {name: total for name, total in zip(table.fields, by_field, strict=True) if total > 0.0}
        heaviest = np.argsort(-sums, kind="stable")[: min(limit, int((sums > 0.0).sum()))]
        weights = _by_value(table.values, self._codes[heaviest], sums[heaviest])
        return Counters(weights, totals, self._at_s, last_s, float(events))

    def _session(self, entries: int, session: int, limit: int) -> Counters | None:
        mine = self._events.session[: self._end] == session
        count = int(mine.sum())
        if not count:
            return None
        worth = self._worth(entries, self._table.session_half_life_s) * mine[self._events.event[:entries]]
        return self._as_counters(
            self._sums(entries, worth), limit, count, float(self._events.at_s[: self._end][mine][-1])
        )

    def _classes(self, worth: Numbers, entries: int, names: Sequence[str]) -> dict[str, ClassCounters]:
        table = self._table
        wanted = {table.classes[name]: name for name in names if name in table.classes}
        beside = frozenset(filter(None, map(class_of_near, names)))
        class_of = table.class_of[self._codes]
        is_wanted = np.zeros(len(table.classes) + 1, bool)  # the last one stands for values of no class
        is_wanted[list(wanted)] = True
        if not is_wanted[class_of].any():
            return {}
        of_entry = table.class_of[self._events.code[:entries]]
        kept = self._kept_classes(of_entry, entries)
        chosen = is_wanted[of_entry]
        sums = np.bincount(self._local[:entries][chosen], weights=worth[chosen], minlength=len(self._codes))
        found: dict[str, ClassCounters] = {}
        for number, name in wanted.items():
            rows = np.nonzero((class_of == number) & (sums > 0.0))[0]
            if not len(rows) or (kept is not None and number not in kept):
                continue
            own: Numbers = sums[rows].astype(np.float64)
            heaviest = np.argsort(-own, kind="stable")[:MAX_VALUES]
            codes = self._codes[rows]
            weights = _by_value(table.inner, codes[heaviest], own[heaviest])
            total = float(own[table.is_item[codes]].sum())
            last = int(self._events.event[:entries][of_entry == number][-1])
            found[name] = ClassCounters(weights, total, self._at_s, float(self._events.at_s[last]))
            if self._near is not None and name in beside:
                items = table.is_item[codes]
                if near := self._near.counted(codes[items], own[items]):
                    found[near_class(name)] = ClassCounters(near, 0.0, self._at_s, found[name].last_event_s)
        return found

    def _kept_classes(self, of_entry: Codes, entries: int) -> set[int] | None:
        """Return the classes that a store keeps: those used last; None for all."""
        if len(self._table.classes) <= MAX_CLASSES:
            return None
        last = np.full(len(self._table.classes), -1, np.int64)
        inside = of_entry >= 0
        np.maximum.at(last, of_entry[inside], self._events.event[:entries][inside])
        if int((last >= 0).sum()) <= MAX_CLASSES:
            return None
        return set(np.argsort(-last, kind="stable")[:MAX_CLASSES].tolist())

    def _one_by_one(self, limit: int, classes: Sequence[str], session: int) -> Signals:
        """Count event by event, since no counter may fall below zero at any event."""
        profile = RunningCounters(self._lives[0], self._by_class, self._neighbours if self._near else None)
        own = RunningCounters(self._lives[1])
        bounds = np.searchsorted(self._events.event, np.arange(self._end + 1)).tolist()
        for at in range(self._end):
            codes = self._events.code[bounds[at] : bounds[at + 1]].tolist()
            values = tuple(self._table.values[code] for code in codes)
            event = PastEvent(float(self._events.at_s[at]), float(self._events.weight[at]), values)
            profile.add(event)
            if session >= 0 and self._events.session[at] == session:
                own.add(event)
        return Signals(
            own.counters(limit), profile.counters(limit, apart=bool(classes)), classes=profile.classes(classes)
        )

    def _neighbours(self, value: Value) -> Near:
        code = self._table.code_of.get(value)
        return self._near.of(code) if self._near is not None and code is not None else ()
