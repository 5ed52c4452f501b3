"""A past in the values that one policy counts, as numbers: the part of counting that no half-life changes."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rewriter.evaluate.arrays import Codes, Numbers, rows_of
from rewriter.evaluate.past import Past
from rewriter.evaluate.subject_replay import ValueTable
from rewriter.settings import Settings
from rewriter.signals.counters import HalfLives, Value
from rewriter.signals.events import values
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.repeats import MARKS, NO_CLASS
from rewriter.signals.uses import level_of, marks_of_uses


class CodedPast:
    """The values of each document of a past by number. settings: settings with only the policy that counts them.

    by_class: combinations that profiles keep by class; None if nothing is kept by class.
    """

    def __init__(self, past: Past, settings: Settings) -> None:
        self.past = past
        rules = CountingRules.of(settings)
        self.fields = rules.fields
        self.combinations = rules.class_combinations
        self._session_ttl_s = settings.signals.session_ttl_s
        self.by_class = self.combinations if settings.class_field else None
        self._values: list[tuple[Value, ...] | None] = [None] * len(past.documents)

    def values(self, doc: int) -> tuple[Value, ...]:
        """Return the signal values of a document."""
        found = self._values[doc]
        if found is None:
            document = self.past.documents[doc]
            found = self._values[doc] = values(document, self.fields) if document is not None else ()
        return found

    def coded_events(self, docs: Codes) -> tuple[Codes, Codes]:
        """Return, for each value of each event on one of `docs`, the position of the event and the number of the value."""
        event, rows = rows_of(self._bounds, docs)
        return event, self._codes[rows]

    def table(self, profile: HalfLives, session: HalfLives) -> ValueTable:
        """Return all values with their half-lives."""
        return self._of_one_life.with_lives(profile, session)

    @cached_property
    def _of_one_life(self) -> ValueTable:
        return ValueTable.of(self._numbered[2], HalfLives(1.0), HalfLives(1.0), self.by_class)

    @property
    def _bounds(self) -> Codes:
        return self._numbered[0]

    @property
    def _codes(self) -> Codes:
        return self._numbered[1]

    @cached_property
    def _numbered(self) -> tuple[Codes, Codes, list[Value]]:
        """Each document's offset into the numbers of all values, these numbers, and the values."""
        numbers: dict[Value, int] = {}
        bounds, codes = [0], list[int]()
        for doc in range(len(self.past.documents)):
            codes += [numbers.setdefault(value, len(numbers)) for value in self.values(doc)]
            bounds.append(len(codes))
        return np.array(bounds, np.int64), np.array(codes, np.int64), list(numbers)

    @cached_property
    def by_field(self) -> dict[str, tuple[Codes, Codes, list[Value]]]:
        """By field: documents, the number of a value of each, and the values. Items are left out: they need no population."""
        table, bounds, codes = self._of_one_life, self._bounds, self._codes
        docs = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        found: dict[str, tuple[Codes, Codes, list[Value]]] = {}
        for number, name in enumerate(table.fields):
            if name != ITEM:
                own = table.field[codes] == number
                different, local = np.unique(codes[own], return_inverse=True)
                found[name] = docs[own], local, [table.values[code] for code in different.tolist()]
        return found

    @cached_property
    def uses(self) -> tuple[Numbers, Codes, Codes, list[Value]]:
        """The times of uses; then for each value of a use: the number of the use, and of the value; and the values.

        Counted by `uses.marks_of_uses`, with the class and the weight of the action of each use as its value.
        """
        past, table = self.past, self._of_one_life
        (events,) = np.nonzero(past.weight > 0.0)
        person = past.person[events]
        visit = _visits(person, past.at_s[events], past.session[events], self._session_ttl_s)
        is_later = visit != _first(person, visit)
        event, code = self.coded_events(past.doc[events])
        item = table.is_item[code]
        event, code = event[item], code[item]
        weights, level = np.unique(past.weight[events], return_inverse=True)
        of_person = person[event] * (int(code.max(initial=0)) + 1) + code
        _, of_person = np.unique(of_person, return_inverse=True)  # small numbers: the product below must not overflow
        visits, levels = int(visit.max(initial=0)) + 1, max(1, len(weights))
        _, first = np.unique((of_person * visits + visit[event]) * levels + level[event], return_index=True)
        first.sort()  # each action once a visit, in the order of time
        event, code = event[first], code[first]
        classes: dict[str, int] = {}
        different, local = np.unique(code, return_inverse=True)
        items = [table.values[one] for one in different.tolist()]
        names = (value[2] if len(value) > 2 else NO_CLASS for value in items)
        class_of = np.array([classes.setdefault(name, len(classes)) for name in names], np.int64)[local]
        of = class_of * levels + level[event]
        columns = (person[event], visit[event], is_later[event], code, of, level[event])
        bits = np.fromiter(marks_of_uses(zip(*(one.tolist() for one in columns), strict=True)), np.uint8, len(event))
        counts = bits > 0
        number = np.arange(int(counts.sum()))
        event, of, bits = event[counts], of[counts], bits[counts]
        chosen = [(bits >> at & 1).astype(bool) for at in range(len(MARKS))]
        uses = np.concatenate([number[one] for one in chosen])
        marks = np.concatenate([of[one] + at * len(classes) * levels for at, one in enumerate(chosen)])
        order = np.argsort(uses, kind="stable")
        texts = [level_of(weight) for weight in weights.tolist()] or [level_of(1.0)]
        named: list[Value] = [(mark, name, text) for mark in MARKS for name in classes for text in texts]
        return past.at_s[events][event], uses[order], marks[order], named


def _first(person: Codes, visit: Codes) -> Codes:
    """Return the visit of each event's person's first event."""
    _, first, of = np.unique(person, return_index=True, return_inverse=True)
    found: Codes = visit[first[of]]
    return found


def _visits(person: Codes, at_s: Numbers, session: Codes, session_ttl_s: float) -> Codes:
    """Return a number of each event's visit: a session until its time to live passes, else events half an hour apart at most."""
    of_session = person * (int(session.max(initial=-1)) + 2) + session + 1
    in_session = len(person) + _runs(of_session, at_s, session_ttl_s)
    return np.where(session >= 0, in_session, _runs(person, at_s, VISIT_S))


def _runs(of: Codes, at_s: Numbers, silence_s: float) -> Codes:
    """Return a number of each event's run: events of one number of `of`, in the order of time, without a longer silence."""
    order = np.argsort(of, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(of[order]) != 0) | (np.diff(at_s[order]) > silence_s)
    found = np.empty(len(order), np.int64)
    found[order] = np.cumsum(begins) - 1
    return found
