"""Counters by class of product: one packed value for each class that a subject used, of which a search reads those of its query.

One sorted set for everything makes a subject's classes crowd each other out: of a household's 128 heaviest counters 1.1 are items
of the product type that it searches for, of 2.4 that it has bought. So `BASE:c` is a hash with a value for each class:

    byte 0       1, the number of this format                             (all numbers are little-endian)
    bytes 1–24   three doubles: the landmark and the time of the class's latest event, in seconds since the epoch; the total of the
                 class, which is all weights of items ever counted, those since left out included, as of the landmark
    then each value: its weight as of the landmark (a double), the length of its member (2 bytes), the member: a field and its
                 values, joined by U+001F, without the class

Each class has a landmark of its own, so that an event rewrites its own class alone. Pure. The bytes may be anybody's: of a class
whose value has another format, an unsound number in its head or too few or too many bytes there are no counters, and a single value
with an unsound weight or member is left out. Ingest reads them by the same rules (classes.lua), and so begins such a class anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from struct import Struct

from rewriter.record import record
from rewriter.signals.counters import HalfLives, Observation, Value, growth, member, sound, value_of

FORMAT = 1
HEAD, WEIGHED = Struct("<Bddd"), Struct("<dH")
MAX_VALUES = 64
"""Of one class: households have a median of 4 items and at most 58 in a year. As in apply.lua."""
MAX_CLASSES = 256
"""Of one subject, those used last. As in apply.lua."""
MAX_PACKED_BYTES = HEAD.size + MAX_VALUES * (WEIGHED.size + 1024)
MAX_READ = 8
"""Classes that one search reads."""


@record(frozen=True, slots=True)
class ClassCounters:
    """A subject's counters within one class, as of their landmark. Values are without the class.

    total: of all items ever counted.
    """

    weights: Mapping[Value, float]
    total: float
    landmark_s: float
    last_event_s: float = 0.0


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


def packed(counters: ClassCounters) -> bytes:
    """Return the value of a class, of its heaviest values."""
    parts = [HEAD.pack(FORMAT, counters.landmark_s, counters.last_event_s, counters.total)]
    heaviest = sorted(counters.weights.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_VALUES]
    for value, weight in heaviest:
        if sound(weight) and (raw := member(value)) is not None:
            parts += (WEIGHED.pack(weight, len(raw)), raw)
    return b"".join(parts)


def unpacked(raw: bytes | None) -> ClassCounters | None:
    """Return the counters in the value of a class, or None where there are none or it is not of this format."""
    if not raw or not HEAD.size <= len(raw) <= MAX_PACKED_BYTES:
        return None
    form, *numbers = HEAD.unpack_from(raw)
    landmark_s, last_event_s, total = map(sound, numbers)
    if form != FORMAT or landmark_s is None or last_event_s is None or total is None:
        return None
    weights: dict[Value, float] = {}
    at = HEAD.size
    while at < len(raw):
        if at + WEIGHED.size > len(raw):
            return None
        weight, size = WEIGHED.unpack_from(raw, at)
        at += WEIGHED.size
        if at + size > len(raw):
            return None
        value = value_of(raw[at : at + size])
        if value is not None and sound(weight) is not None:
            weights[value] = weight
        at += size
    return ClassCounters(weights, total, landmark_s, last_event_s)


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
