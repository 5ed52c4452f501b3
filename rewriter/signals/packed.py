"""The compact form of the population and of the segments: one value for all that every process reads.

A process that searches needs what everybody does, but not in parts and not every time. So one process adds the partitions' parts up
(`gathering`, `maker`) and puts the sum under one key; the others read the value's header, 64 bytes, and the rest only when its
version is another one. `docs/signals.md` describes the bytes for other languages.

    header   64 bytes of ASCII, blanks up to a newline: rw1 VERSION MADE_S EVENTS BYTES
    body     zlib: a line of JSON, then the members joined by two U+001F, then their weights as little-endian doubles

Pure. The bytes may be anybody's, so whatever is unsound raises ValueError, and sizes are bounded before anything is expanded.
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

FORMAT = "rw1"
HEADER_BYTES = 64
MAX_POPULATION = 20_000
"""Values of the population that are kept, the heaviest."""
MAX_SEGMENTS_VALUES = 32_768
"""Values of all segments together."""
MAX_BODY_BYTES = 4 * 2**20
"""Of a body as it is read. Beyond it no value is read, and none is written: the lightest values are left out."""
BETWEEN = SEPARATOR * 2
"""Between members. No part of a member is empty, so that it occurs in none."""
SLICE = 2_000
"""Values that are handled between two pauses: some tenths of a millisecond, for which a thread may keep others waiting."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a value says of itself in front.

    version: 16 hexadecimal digits, another one for another content; made_s: when it was made, seconds since the epoch;
    events: how many events were counted in it; size: bytes of the body.
    """

    version: str
    made_s: float
    events: float
    size: int

    def bytes(self) -> bytes:
        """Return the header as it stands in front of the body."""
        events = min(self.events, 1e15)
        return f"{FORMAT} {self.version} {int(self.made_s)} {events:.0f} {self.size}".encode().ljust(63) + b"\n"


def header_of(raw: bytes | None) -> Header | None:
    """Return the header at the start of a value, or None where there is no value. Raises ValueError for anything else."""
    if not raw:
        return None
    form, version, made_s, events, size = raw[:HEADER_BYTES].decode("ascii").split()
    found = Header(version, float(made_s), float(events), int(size))
    if form != FORMAT or not 0 < found.size <= MAX_BODY_BYTES:
        raise ValueError("a value of another format, or too large")
    return found


class PackedWeights(Mapping[Value, float]):
    """Weights by value, kept by member: one text and one number each, a fifth of what tuples take."""

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
        """Return a value's weight; searches ask for many that are not there."""
        return self._by_member.get(SEPARATOR.join(value), default)


@dataclass(frozen=True, slots=True)
class PackedPopulation:
    """The population: weight by member, total by field. `floor` is what a value that was left out weighs at most."""

    weights: Mapping[str, float]
    totals: Mapping[str, float]
    floor: float = 0.0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class PackedSegments:
    """The segments' counters by name. `failed` says of which segments the last read failed, and why: theirs are older ones.

    left_out: how many segments had no room.
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
    """Return the population in a body; `pause` is called between slices of the work. Raises ValueError."""
    try:
        meta, members, weights = _unpacked(body, MAX_POPULATION)
        found: dict[str, float] = {}
        pairs = zip(members, weights, strict=True)
        while chunk := list(islice(pairs, SLICE)):
            pause()
            found.update([(text, weight) for text, weight in chunk if 0.0 < weight <= MAX_WEIGHT])
        return PackedPopulation(found, _totals(meta["totals"]), sound(meta["floor"]) or 0.0, int(meta["left_out"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no population") from error


def read_segments(body: bytes, pause: Callable[[], object]) -> PackedSegments:
    """Return the segments in a body, as `read_population` does."""
    try:
        meta, members, weights = _unpacked(body, MAX_SEGMENTS_VALUES)
        pairs = zip(members, weights, strict=True)
        counters: dict[str, Counters] = {}
        for number, (name, said) in enumerate(meta["segments"].items()):
            if number % 16 == 0:
                pause()
            own = {
                text: weight
                for text, weight in islice(pairs, int(said["values"]))
                if 0.0 < weight <= MAX_WEIGHT and is_member(text)
            }
            landmark_s, last_event_s, events = (sound(said[part]) for part in ("landmark", "last_event", "events"))
            if landmark_s is not None:
                counters[name] = Counters(
                    PackedWeights(own), _totals(said["totals"]), landmark_s, last_event_s or 0.0, events or 0.0
                )
        failed = {str(name): str(why) for name, why in meta["failed"].items()}
        return PackedSegments(counters, failed, int(meta["left_out"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no segments") from error


def is_member(text: str) -> bool:
    """Whether a text is a field and its values, none of them empty, in no more bytes than a member may take."""
    return (
        SEPARATOR in text
        and BETWEEN not in text
        and not text.startswith(SEPARATOR)
        and not text.endswith(SEPARATOR)
        and len(text) <= MAX_MEMBER_BYTES
    )


def _totals(said: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): total for name, number in said.items() if (total := sound(number))}


def _packed(meta: Mapping[str, Any], members: Iterable[str], weights: Iterable[float]) -> bytes:
    text, numbers = BETWEEN.join(members).encode(), list(weights)
    line = json.dumps({**meta, "values": len(numbers), "text": len(text)}).encode()
    return zlib.compress(line + b"\n" + text + struct.pack(f"<{len(numbers)}d", *numbers), 6)


def _unpacked(body: bytes, most: int) -> tuple[dict[str, Any], Sequence[str], Sequence[float]]:
    try:
        raw = zlib.decompressobj().decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise ValueError("a body cut off or damaged") from error
    line, _, rest = raw.partition(b"\n")
    meta = json.loads(line)
    size, count = int(meta["text"]), int(meta["values"])
    if not (0 <= count <= most and size >= 0 and len(rest) == size + 8 * count):
        raise ValueError("a body whose sizes do not agree")
    text = rest[:size].decode()
    return meta, text.split(BETWEEN) if count else [], struct.unpack(f"<{count}d", rest[size:])
