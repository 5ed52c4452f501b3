"""Sums of the partitions' parts of the population and of the segments, computed in small slices so that no search waits.

Each function is a generator that yields commands and is sent their replies; a slice takes the server and the process some tenths of
a millisecond. An empty list of commands is an opportunity to pause. Pure.

A part is read by ZSCAN, since its order may change meanwhile: ZSCAN returns every member that exists throughout the read. A part
whose landmark moved during the read is read again. Items are left out: an item's affinity is not a lift and needs no population.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from math import frexp
from typing import Any, TypeVar

from rewriter.errors import StoreError
from rewriter.signals.commands import Command, pairs_of
from rewriter.signals.counters import SEPARATOR, Counters, HalfLives, Value, growth, sound, value_of
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.packed import MAX_BODY_BYTES, PackedPopulation
from rewriter.signals.store import Keys
from rewriter.signals.uses import judge_members

SCANNED = 500
"""Members of one slice."""
MAX_PART = 100_000
"""Limit of the members read from one part; workers keep 20,000."""
MEMBERS_AT_ONCE = 512
"""Members of a segment's parts read at once: half a megabyte if each member has its maximal length."""
METAS_AT_ONCE = 64
TEXT_BYTES = MAX_BODY_BYTES // 2
"""Limit of the population's members in bytes, which leaves room for their weights and the totals."""
MAX_FIELDS = 256

_T = TypeVar("_T")
Steps = Generator[list[Command], Sequence[Any], _T]
_ITEMS = f"{ITEM}{SEPARATOR}".encode()


@dataclass(frozen=True, slots=True)
class Sources:
    """The state of the population's parts. Equal sources give equal sums.

    version:    8 hex digits of a hash of the landmarks, then 8 of a hash of events and last events.
    landmark_s: the latest landmark (seconds since the epoch), None if there are no parts.
    events:     number of counted events.
    """

    version: str
    landmark_s: float | None
    events: float


@dataclass(frozen=True, slots=True)
class _Meta:
    landmark_s: float
    last_event_s: float
    events: float
    totals: Mapping[str, float]


def sources_of(keys: Keys, partitions: int) -> Steps[Sources]:
    """Return the state of the population's parts, read from their meta hashes only."""
    found: list[Sequence[Any]] = []
    for start in range(0, partitions, METAS_AT_ONCE):
        numbers = range(start, min(start + METAS_AT_ONCE, partitions))
        replies = yield [("HMGET", f"{keys.population(one)}:m", "landmark", "events", "last_event") for one in numbers]
        found += [_sound_reply(reply) for reply in replies]
    landmarks = [known for landmark, _, _ in found if (known := sound(landmark)) is not None]
    version = _digest([one[0] for one in found]) + _digest([one[1:] for one in found])
    return Sources(version, max(landmarks, default=None), sum(sound(events) or 0.0 for _, events, _ in found))


def gather_population(
    keys: Keys, partitions: int, at_s: float, half_lives: HalfLives, kept: int
) -> Steps[PackedPopulation]:
    """Return the sum of the population's parts as of `at_s` (seconds since the epoch), with its `kept` heaviest values.

    Raises StoreError if a part cannot be read, since an incomplete population would be taken for the whole.
    """
    whole: dict[str, float] = {}
    totals: dict[str, float] = {}
    left_out, floor = 0, 0.0
    for number in range(partitions):
        meta, part, unread = yield from _part(keys.population(number))
        left_out += unread
        if meta is None:
            continue
        factors = {name: growth(at_s, meta.landmark_s, half_lives.of(name)) for name in meta.totals}
        for name, total in meta.totals.items():
            totals[name] = totals.get(name, 0.0) + total * factors[name]
        for chunk in _slices(part.items()):
            for text, weight in chunk:
                factor = factors.get(text.partition(SEPARATOR)[0])
                if factor is not None:  # without a total of its field, a value has no share
                    whole[text] = whole.get(text, 0.0) + weight * factor
            yield []
        if len(whole) > 3 * kept:
            whole, pruned, lightest = yield from _heaviest(whole, kept)
            left_out, floor = left_out + pruned, max(floor, lightest)
    judge_members(whole, totals)
    yield []
    whole, pruned, lightest = yield from _heaviest(whole, kept)
    left_out, floor = left_out + pruned, max(floor, lightest)
    text_bytes = 0
    for chunk in _slices(whole.items()):
        text_bytes += sum(len(text.encode()) + len(SEPARATOR) * 2 for text, _ in chunk)
        yield []
    if text_bytes > TEXT_BYTES:
        whole, pruned, lightest = yield from _heaviest(whole, int(len(whole) * TEXT_BYTES / text_bytes))
        left_out, floor = left_out + pruned, max(floor, lightest)
    return PackedPopulation(whole, totals, floor, left_out)


def gather_segment(keys: Keys, name: str, partitions: int, half_lives: HalfLives, limit: int) -> Steps[Counters | None]:
    """Return the sum of a segment's parts as of the latest landmark, with its `limit` heaviest values; None if there are no parts.

    Raises StoreError if a part cannot be read.
    """
    parts: list[tuple[_Meta, dict[Value, float]]] = []
    step = max(1, MEMBERS_AT_ONCE // limit)
    for start in range(0, partitions, step):
        bases = [keys.segment(name, one) for one in range(start, min(start + step, partitions))]
        replies = yield [
            command
            for base in bases
            for command in (
                ("ZRANGE", f"{base}:z", 0, limit - 1, "REV", "WITHSCORES"),
                ("HGETALL", f"{base}:m"),
            )
        ]
        for members, meta in zip(replies[::2], replies[1::2], strict=True):
            found = _meta(_sound_reply(meta))
            if found is not None:
                weights = {
                    value: weight
                    for raw, score in pairs_of(_sound_reply(members))
                    if (value := value_of(raw)) is not None and (weight := sound(score))
                }
                parts.append((found, weights))
    if not parts:
        return None
    at_s = max(meta.landmark_s for meta, _ in parts)
    whole: dict[Value, float] = {}
    totals: dict[str, float] = {}
    for meta, weights in parts:
        for field, total in meta.totals.items():
            totals[field] = totals.get(field, 0.0) + total * growth(at_s, meta.landmark_s, half_lives.of(field))
        for value, weight in weights.items():
            grown = weight * growth(at_s, meta.landmark_s, half_lives.of(value[0]))
            whole[value] = whole.get(value, 0.0) + grown
        yield []
    heaviest = sorted(whole.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    last_s, events = max(meta.last_event_s for meta, _ in parts), sum(meta.events for meta, _ in parts)
    return Counters(dict(heaviest), totals, at_s, last_s, events) if totals else None


def _part(base: str) -> Steps[tuple[_Meta | None, dict[str, float], int]]:
    """Return a part's meta, its weights by member, and the number of members beyond MAX_PART that were not read."""
    for _ in range(2):
        (before,) = yield [("HGETALL", f"{base}:m")]
        meta = _meta(_sound_reply(before), without=ITEM)
        if meta is None:
            return None, {}, 0
        part, unread = yield from _scanned(f"{base}:z")
        (after,) = yield [("HGET", f"{base}:m", "landmark")]
        if sound(_sound_reply(after)) == meta.landmark_s:
            return meta, part, unread
    raise StoreError(f"the landmark of {base} moved during each of two reads")


def _scanned(key: str) -> Steps[tuple[dict[str, float], int]]:
    found: dict[str, float] = {}
    cursor: Any = 0
    read = 0
    while True:
        (reply,) = yield [("ZSCAN", key, cursor, "COUNT", SCANNED)]
        cursor, members = _sound_reply(reply)
        for raw, score in pairs_of(members):
            read += 1
            if not raw.startswith(_ITEMS) and value_of(raw) is not None and (weight := sound(score)):
                found[raw.decode()] = weight
        if int(cursor) == 0:
            return found, 0
        if read >= MAX_PART:
            (count,) = yield [("ZCARD", key)]
            return found, max(0, int(_sound_reply(count)) - read)


def _heaviest(weights: dict[str, float], kept: int) -> Steps[tuple[dict[str, float], int, float]]:
    """Return the `kept` heaviest weights, the number of the others, and an upper bound of the others' weights.

    Weights are compared by eighths of octaves, since sorting all at once would block every thread; ties are broken arbitrarily.
    """
    if len(weights) <= kept:
        return weights, 0, 0.0
    counts: dict[int, int] = {}
    for chunk in _slices(weights.items()):
        for _, weight in chunk:
            level = _level(weight)
            counts[level] = counts.get(level, 0) + 1
        yield []
    room, lowest = kept, 0
    for lowest in sorted(counts, reverse=True):
        if counts[lowest] > room:
            break
        room -= counts[lowest]
    found: dict[str, float] = {}
    for chunk in _slices(weights.items()):
        for text, weight in chunk:
            level = _level(weight)
            if level > lowest:
                found[text] = weight
            elif level == lowest and room > 0:
                found[text] = weight
                room -= 1
        yield []
    octave, eighth = divmod(lowest, 8)
    return found, len(weights) - len(found), 2.0**octave * (1.0 + (eighth + 1) / 8.0)


def _level(weight: float) -> int:
    mantissa, exponent = frexp(weight)  # 0.5 ≤ mantissa < 1
    return 8 * (exponent - 1) + int((mantissa - 0.5) * 16.0)


def _meta(reply: Any, without: str = "") -> _Meta | None:
    found = reply if isinstance(reply, Mapping) else dict(zip(reply[::2], reply[1::2], strict=True))
    landmark_s = sound(found.get(b"landmark"))
    if landmark_s is None:
        return None
    totals: dict[str, float] = {}
    for name, number in found.items():
        field = name[6:].decode("utf-8", "replace") if name.startswith(b"total:") else ""
        if field and field != without and len(totals) < MAX_FIELDS and (total := sound(number)):
            totals[field] = total
    return _Meta(landmark_s, sound(found.get(b"last_event")) or 0.0, sound(found.get(b"events")) or 0.0, totals)


def _slices(pairs: Iterable[tuple[str, float]]) -> Iterator[list[tuple[str, float]]]:
    left = iter(pairs)
    while chunk := list(islice(left, SCANNED)):
        yield chunk


def _sound_reply(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise StoreError(f"a part cannot be read: {type(reply).__name__}") from reply
    return reply


def _digest(replies: Any) -> str:
    return blake2b(repr(replies).encode(), digest_size=4).hexdigest()
