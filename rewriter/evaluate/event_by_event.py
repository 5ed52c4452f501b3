"""Counters of one subject, updated event by event as `rewriter ingest` updates them. Pure.

`subject_replay` computes the same in one pass if no action has a negative weight. A counter that may fall to zero depends on the
order of the events, and this module counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from heapq import nlargest
from typing import NamedTuple, TypeVar

from rewriter.signals.class_counters import MAX_CLASSES, MAX_VALUES, ClassCounters, of_class
from rewriter.signals.counters import Counters, HalfLives, Value, growth
from rewriter.signals.kinds.item import ITEM, is_item_of_class
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.neighbours import Near, class_of_near, near_class

_K = TypeVar("_K")


class PastEvent(NamedTuple):
    """One event: its time (seconds since the epoch), its action's weight, and the values of its object."""

    at_s: float
    weight: float
    values: tuple[Value, ...]


class RunningCounters:
    """One subject's counters in one scope, updated in the order of time.

    by_class: combinations with the class, which are kept only by class; None if nothing is kept by class.
    near:     the neighbours of an item, which a use of the item counts too.
    """

    def __init__(
        self,
        half_lives: HalfLives,
        by_class: Collection[str] | None = None,
        near: Callable[[Value], Near] | None = None,
    ) -> None:
        self._half_lives = half_lives
        self._near = near
        self._by_class = by_class
        self._apart = frozenset(by_class or ())
        self._weights: dict[Value, float] = {}
        self._totals: dict[str, float] = {}
        self._classes: dict[str, dict[Value, float]] = {}
        self._class_totals: dict[str, float] = {}
        self._class_last_s: dict[str, float] = {}
        self._landmark_s = 0.0
        self._last_s = 0.0
        self._events = 0

    @property
    def events(self) -> int:
        """The number of events added."""
        return self._events

    def add(self, event: PastEvent) -> None:
        """Add one event. No counter falls below zero."""
        if not self._events:
            self._landmark_s = event.at_s
        elif event.at_s - self._landmark_s > self._half_lives.shortest_s / 4.0:
            self._move(event.at_s)
        self._events += 1
        self._last_s = max(self._last_s, event.at_s)
        worth: dict[float, float] = {}
        for value in event.values:
            half_life_s = self._half_lives.of(value[0])
            added = worth.get(half_life_s)
            if added is None:
                added = worth[half_life_s] = event.weight * growth(self._landmark_s, event.at_s, half_life_s)
            if value[0] not in self._apart:
                _add(self._weights, value, added)
                _add(self._totals, value[0], added)
            if self._by_class is not None and (found := of_class(value, ITEM, self._apart)) is not None:
                name, inner = found
                _add(self._classes.setdefault(name, {}), inner, added)
                _add(self._class_totals, name, added if value[0] == ITEM else 0.0)
                self._class_last_s[name] = event.at_s
                for other, strength in self._near(value) if self._near is not None and value[0] == ITEM else ():
                    beside = near_class(name)
                    _add(self._classes.setdefault(beside, {}), (NEIGHBOUR, other), added * strength)
                    self._class_totals[beside] = 0.0

    def counters(self, limit: int, *, apart: bool = False) -> Counters | None:
        """Return the `limit` heaviest counters as of the landmark, or None without events. apart: without items of a class."""
        if not self._events:
            return None
        counted = (pair for pair in self._weights.items() if not (apart and is_item_of_class(pair[0])))
        heaviest = nlargest(limit, counted, key=_rank)
        return Counters(dict(heaviest), dict(self._totals), self._landmark_s, self._last_s, float(self._events))

    def classes(self, names: Sequence[str]) -> dict[str, ClassCounters]:
        """Return the counters of the kept classes among `names`: the heaviest values of each."""
        if len(self._class_last_s) > MAX_CLASSES:
            latest = nlargest(MAX_CLASSES, self._class_last_s.items(), key=lambda pair: (pair[1], pair[0]))
            kept: Collection[str] = {name for name, _ in latest}
        else:
            kept = self._classes
        return {
            name: ClassCounters(
                dict(nlargest(MAX_VALUES, self._classes[name].items(), key=_rank)),
                self._class_totals[name], self._landmark_s, self._class_last_s[class_of_near(name) or name],
            )
            for name in names
            if name in self._classes and (class_of_near(name) or name) in kept
        }  # fmt: skip

    def _move(self, at_s: float) -> None:
        """Move the landmark: every weight and total decays."""
        factors: dict[str, float] = {}
        for weights in (self._weights, *self._classes.values()):
            for value in weights:
                weights[value] *= self._factor(factors, value[0], at_s)
        for name in self._totals:
            self._totals[name] *= self._factor(factors, name, at_s)
        for name in self._class_totals:
            self._class_totals[name] *= self._factor(factors, ITEM, at_s)
        self._landmark_s = at_s

    def _factor(self, factors: dict[str, float], name: str, at_s: float) -> float:
        if name not in factors:
            factors[name] = growth(at_s, self._landmark_s, self._half_lives.of(name))
        return factors[name]


def _add(weights: dict[_K, float], key: _K, added: float) -> None:
    weights[key] = max(0.0, weights.get(key, 0.0) + added)


def _rank(pair: tuple[Value, float]) -> tuple[float, Value]:
    return pair[1], pair[0]
