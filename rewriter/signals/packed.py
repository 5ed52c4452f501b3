"""Binary format of the population and of the segments: one value each, which every searching process reads.

Searches need the population as a whole, and seldom a new one. So one process sums the partitions' parts (`partial_sums`,
`population_builder`) and writes the sum under one key. The others read the value's header of 64 bytes, and the body only when its
version has changed. `docs/signals.md` describes the bytes for other languages.

    header   64 bytes of ASCII, blanks up to a newline: rw1 VERSION MADE_S EVENTS BYTES
    body     zlib: a line of JSON, then the members joined by two U+001F, then their weights as little-endian doubles

Pure. Any client of the store may have written the bytes, so invalid ones raise ValueError, and sizes are checked before inflation.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rewriter.signals.counters import MAX_MEMBER_BYTES, MAX_WEIGHT, SEPARATOR, Counters, Value, sound
from rewriter.signals.uses import judge_members

FORMAT = "rw1"
HEADER_BYTES = 64
MAX_POPULATION = 20_000
"""Number of values of the population, the heaviest."""
MAX_SEGMENTS_VALUES = 32_768
"""Number of values of all segments together."""
MAX_BODY_BYTES = 4 * 2**20
"""Limit of an inflated body. A longer one is not read; when written, the lightest values are left out."""
BETWEEN = SEPARATOR * 2
"""Separator of members. It occurs in no member, since no part of a member is empty."""
SLICE = 2_000
"""Values processed between two pauses: some tenths of a millisecond, for which other threads may wait."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a value.

    version: 16 hex digits, a hash of the content.
    made_s:  when it was built (seconds since the epoch).
    events:  number of events counted in it.
    size:    bytes of the body, compressed.
    """

    version: str
    made_s: float
    events: float
    size: int

    def bytes(self) -> bytes:
        """Return the 64 bytes before the body."""
        events = min(self.events, 1e15)
        return f"{FORMAT} {self.version} {int(self.made_s)} {events:.0f} {self.size}".encode().ljust(63) + b"\n"


def header_of(raw: bytes | None) -> Header | None:
    """Return the header at the start of a value, or None for no value. Raises ValueError for anything else."""
    if not raw:
        return None
    form, version, made_s, events, size = raw[:HEADER_BYTES].decode("ascii").split()
    found = Header(version, float(made_s), float(events), int(size))
    if form != FORMAT or not 0 < found.size <= MAX_BODY_BYTES:
        raise ValueError("the value has another format, or is too large")
    return found


class PackedWeights(Mapping[Value, float]):
    """Weights by value, stored by member: one text and one number each take a fifth of the memory of tuples."""

    __slots__ = ("_by_member",)

    def __init__(self, by_member: Mapping[str, float]) -> None:
        self._by_member = by_member

    def __getitem__(self, value: Value) -> float:
        return self._by_member[SEPARATOR.join(value)]

    def __iter__(self) -> Iterator[Value]:
        return (tuple(text.split(SEPARATOR)) for text in self._by_member)

    def __len__(self) -> int:
        return len(self._by_member)

    def get(self, value: Value, default: Any = None) -> Any:
        """Return a value's weight, or `default`; a fast path, since most look-ups of a search find none."""
        return self._by_member.get(SEPARATOR.join(value), default)


@dataclass(frozen=True, slots=True)
class PackedPopulation:
    """The population: weight by member, total by field.

    floor:    the largest weight that a left-out value may have.
    left_out: number of left-out values.
    """

    weights: Mapping[str, float]
    totals: Mapping[str, float]
    floor: float = 0.0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class PackedSegments:
    """The segments' counters by name.

    failed:   by name, why a segment's last read failed; its counters are older ones.
    left_out: number of segments beyond the limit.
    """

    counters: Mapping[str, Counters]
    failed: Mapping[str, str]
    left_out: int = 0


def population_body(population: PackedPopulation) -> bytes:
    """Return the body of a population's value."""
    meta = {"totals": population.totals, "floor": population.floor, "left_out": population.left_out}
    return _packed(meta, population.weights.keys(), population.weights.values())


def segments_body(segments: PackedSegments) -> bytes:
    """Return the body of the segments' value."""
    found = {
        name: {
            "landmark": one.landmark_s,
            "last_event": one.last_event_s,
            "events": one.events,
            "totals": one.totals,
            "values": len(one.weights),
        }
        for name, one in segments.counters.items()
    }
    meta = {"segments": found, "failed": segments.failed, "left_out": segments.left_out}
    pairs = [
        (SEPARATOR.join(value), weight) for one in segments.counters.values() for value, weight in one.weights.items()
    ]
    return _packed(meta, [text for text, _ in pairs], [weight for _, weight in pairs])


def read_population(body: bytes, pause: Callable[[], object]) -> PackedPopulation:
    """Return the population in a body; `pause` is called between slices of the work. Raises ValueError for an invalid body."""
    try:
        meta, members, weights = _unpacked(body, MAX_POPULATION)
        found: dict[str, float] = {}
        pairs = zip(members, weights, strict=True)
        while chunk := list(islice(pairs, SLICE)):
            pause()
            found.update([(text, weight) for text, weight in chunk if 0.0 < weight <= MAX_WEIGHT])
        totals = _totals(meta["totals"])
        judge_members(found, totals)  # a process of the version before may have written all uses
        return PackedPopulation(found, totals, sound(meta["floor"]) or 0.0, int(meta["left_out"]))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("no population") from error


def read_segments(body: bytes, pause: Callable[[], object]) -> PackedSegments:
    """Return the segments in a body; see `read_population`."""
    try:
        meta, members, weights = _unpacked(body, MAX_SEGMENTS_VALUES)
        pairs = zip(members, weights, strict=True)
        counters: dict[str, Counters] = {}
        for number, (name, part) in enumerate(meta["segments"].items()):
            if number % 16 == 0:
                pause()
            own = {
                text: weight
                for text, weight in islice(pairs, int(part["values"]))
                if 0.0 < weight <= MAX_WEIGHT and is_member(text)
            }
            landmark_s, last_event_s, events = (sound(part[key]) for key in ("landmark", "last_event", "events"))
            if landmark_s is not None:
                counters[name] = Counters(
                    PackedWeights(own), _totals(part["totals"]), landmark_s, last_event_s or 0.0, events or 0.0
                )
        failed = {str(name): str(why) for name, why in meta["failed"].items()}
        return PackedSegments(counters, failed, int(meta["left_out"]))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("no segments") from error


def is_member(text: str) -> bool:
    """Whether a text is a field with values, none of them empty, and no longer than MAX_MEMBER_BYTES."""
    return (
        SEPARATOR in text
        and BETWEEN not in text
        and not text.startswith(SEPARATOR)
        and not text.endswith(SEPARATOR)
        and len(text) <= MAX_MEMBER_BYTES
    )


def _totals(raw: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): total for name, number in raw.items() if (total := sound(number))}


def _packed(meta: Mapping[str, Any], members: Iterable[str], weights: Iterable[float]) -> bytes:
    text, numbers = BETWEEN.join(members).encode(), list(weights)
    line = json.dumps({**meta, "values": len(numbers), "text": len(text)}).encode()
    return zlib.compress(line + b"\n" + text + struct.pack(f"<{len(numbers)}d", *numbers), 6)


def _unpacked(body: bytes, most: int) -> tuple[dict[str, Any], Sequence[str], Sequence[float]]:
    try:
        raw = zlib.decompressobj().decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise ValueError("the body is truncated or damaged") from error
    line, _, rest = raw.partition(b"\n")
    meta = json.loads(line)
    size, count = int(meta["text"]), int(meta["values"])
    if not (0 <= count <= most and size >= 0 and len(rest) == size + 8 * count):
        raise ValueError("the body's sizes do not agree")
    text = rest[:size].decode()
    return meta, text.split(BETWEEN) if count else [], struct.unpack(f"<{count}d", rest[size:])
