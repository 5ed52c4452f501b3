"""Counters by class of product: those of each class that a subject used, of which a search reads those of its query.

One sorted set for everything makes a subject's classes crowd each other out: of a household's 128 heaviest counters 1.1 are items
of the product type that it searches for, of 2.4 that it has bought. `class_layout` has their bytes in the store. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from rewriter.record import record
from rewriter.signals.counters import SEPARATOR, HalfLives, Observation, Value, growth

SUFFIX = f"{SEPARATOR}near"
"""Ends the name under which the neighbours of a class are kept. No class of an item has such a name."""
MAX_VALUES = 64
"""Of one class: households have a median of 4 items and at most 58 in a year. As in classes.lua."""
MAX_CLASSES = 256
"""Of one subject, those used last, in memory; in the store each bucket of `class_layout` keeps those used last."""
MAX_READ = 8
"""Classes that one search reads."""


@record(frozen=True, slots=True)
class ClassCounters:
    """A subject's counters within one class, as of their landmark. Values are without the class.

    total:        of all items ever counted.
    last_event_s: orders the classes by their last use when they are written; a store keeps the order, not the time.
    strengths:    of items, the weight of the strongest action (`strengths`), as far as it is known. Only written, for ingest.
    """

    weights: Mapping[Value, float]
    total: float
    landmark_s: float
    last_event_s: float = 0.0
    strengths: Mapping[Value, float] | None = None


def of_class(value: Value, item: str, combinations: Collection[str]) -> tuple[str, Value] | None:
    """Return the class of a value and the value without it, or None for values that are counted for all classes together.

    An item's class ends it; in a combination that begins with the class field, the class comes first.
    """
    if value[0] == item:
        return (value[-1], value[:-1]) if len(value) > 2 else None
    return (value[1], (value[0], *value[2:])) if value[0] in combinations else None


def with_class(value: Value, item: str, class_name: str) -> Value:
    """Return the whole value of one without its class: what `of_class` took apart."""
    return (*value, class_name) if value[0] == item else (value[0], class_name, *value[1:])


def counted_by_class(
    observations: Iterable[Observation],
    half_lives: HalfLives,
    landmark_s: float,
    item: str,
    combinations: Collection[str],
) -> dict[str, ClassCounters]:
    """Return what observations, in any order, add up to in each class, as of `landmark_s`."""
    weights: dict[str, dict[Value, float]] = {}
    totals: dict[str, float] = {}
    last_s: dict[str, float] = {}
    for seen in observations:
        for value in seen.values:
            if (found := of_class(value, item, combinations)) is None:
                continue
            class_name, inner = found
            own = weights.setdefault(class_name, {})
            worth = seen.weight * growth(landmark_s, seen.at_s, half_lives.of(value[0]))
            own[inner] = own.get(inner, 0.0) + worth
            totals[class_name] = totals.get(class_name, 0.0) + (worth if value[0] == item else 0.0)
            last_s[class_name] = max(last_s.get(class_name, 0.0), seen.at_s)
    kept = sorted(last_s, key=lambda name: (-last_s[name], name))[:MAX_CLASSES]
    return {name: ClassCounters(weights[name], totals[name], landmark_s, last_s[name]) for name in kept}
