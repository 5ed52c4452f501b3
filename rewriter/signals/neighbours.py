"""Neighbours: items of one class that the same people use, kept with each subject as counters of their own. Pure.

`rewriter backfill` finds up to `MOST` neighbours of each item. With h_i the number of subjects who used item i, and k_ij of those
who used both i and j, of one class, each used by at least `MIN_USERS`:

    strength(i, j) = k / √(h_i · h_j) · k / (k + SHRUNK_BY)

the cosine of their sets of users, shrunk if few users have both. A use of i that counts w in a profile counts w · strength(i, j)
for each neighbour j. So neighbours decay, commute and are applied once like all counters, and a search reads those of its classes
together with the counters of these classes:

    affinity(j) = z / (z + neighbour_pseudo_count)

They are kept beside the class's own counters, under a class name that ends in U+001F and `near`, so that they displace none.

The table of all neighbours is in the store, for ingest workers alone: hashes of some dozens of items each,
`rw:{near:SLOT}:GENERATION`, and `rw:near`, which names the generation. Of an item it holds, for each neighbour: the length of its
id (2 bytes, little-endian), the id, and a byte q, of which strength = 2^(−q / 16).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, log2
from struct import Struct
from typing import Any
from zlib import crc32

from rewriter.signals.class_counters import MAX_CLASSES, MAX_VALUES, SUFFIX, ClassCounters
from rewriter.signals.counters import MAX_MEMBER_BYTES, SEPARATOR, Value
from rewriter.signals.kinds.neighbour import NEIGHBOUR

MOST, MIN_USERS, SHRUNK_BY = 5, 3, 10.0
STEPS = 16.0
"""Steps of an octave of strength: one is 4.4 %."""
ITEMS_IN_SLOT, MAX_SLOTS = 64, 2**20
FORM = 1
_SIZE = Struct("<H")

Near = tuple[tuple[str, float], ...]
"""An item's neighbours and their strengths in (0, 1]."""


def near_class(class_name: str) -> str:
    """Return the name under which the neighbours of a class's items are counted. No class of an item has such a name."""
    return class_name + SUFFIX


def class_of_near(name: str) -> str | None:
    """Return the class whose neighbours are counted under `name`, or None for a class of its own."""
    return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else None


@dataclass(frozen=True, slots=True)
class Table:
    """The identity of the table of neighbours in the store: its generation, its numbers of slots and items, and its time.

    former: generation and number of slots of the table before it until they are deleted, or of the one after it once they stay.
    """

    generation: str
    slots: int
    items: int = 0
    made_s: float = 0.0
    former: tuple[str, int] | None = None

    def text(self) -> str:
        """Return the text of the key that names it."""
        known = {"form": FORM, "generation": self.generation, "slots": self.slots, "items": self.items}
        former = {} if self.former is None else {"former": dict(zip(("generation", "slots"), self.former, strict=True))}
        return json.dumps(known | {"made_s": round(self.made_s)} | former)

    def slot(self, item: str) -> int:
        """Return the slot of an item."""
        return crc32(item.encode("utf-8", "surrogatepass")) % self.slots


def slots_for(items: int) -> int:
    """Return the number of slots of a table: each holds some dozens of items, which servers store compactly."""
    return max(1, min(MAX_SLOTS, ceil(items / ITEMS_IN_SLOT)))


def table_of(raw: bytes | None) -> Table | None:
    """Return the table that a key names, or None if the key is missing or has another form."""
    try:
        known = json.loads(raw or b"null")
        if known["form"] != FORM or not 0 < int(known["slots"]) <= MAX_SLOTS or not known["generation"].isalnum():
            return None
        former = _former(known.get("former"))
        return Table(known["generation"], int(known["slots"]), int(known["items"]), float(known["made_s"]), former)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _former(known: Any) -> tuple[str, int] | None:
    """Return generation and number of slots of a former table, or None for anything else: it only takes room."""
    try:
        generation, slots = known["generation"], int(known["slots"])
        return (generation, slots) if generation.isalnum() and 0 < slots <= MAX_SLOTS else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def packed_near(near: Iterable[tuple[str, float]]) -> bytes:
    """Return the value of an item in the table."""
    parts: list[bytes] = []
    for other, strength in near:
        raw = other.encode()
        if 0 < len(raw) <= MAX_MEMBER_BYTES and 0.0 < strength <= 1.0:
            parts += (_SIZE.pack(len(raw)), raw, bytes((min(255, round(-STEPS * log2(strength))),)))
    return b"".join(parts)


def unpacked_near(raw: bytes | None) -> Near:
    """Return the neighbours in the value of an item; () if there are none, or if the value is unsound."""
    found: list[tuple[str, float]] = []
    at = 0
    while raw and at < len(raw) and len(found) < MOST:
        if at + _SIZE.size > len(raw):
            return ()
        (size,) = _SIZE.unpack_from(raw, at)
        end = at + _SIZE.size + size
        if not 0 < size <= MAX_MEMBER_BYTES or end >= len(raw):
            return ()
        try:
            other = raw[at + _SIZE.size : end].decode()
        except UnicodeDecodeError:
            return ()
        if SEPARATOR in other:
            return ()
        found.append((other, 2.0 ** (-raw[end] / STEPS)))
        at = end + 1
    return tuple(found)


def counted_near(
    classes: Mapping[str, ClassCounters], near: Mapping[str, Near], item: str
) -> Iterator[tuple[str, ClassCounters]]:
    """Yield, by the name under which they are kept, the neighbours of the items that a subject's classes hold.

    item: the signal field of items.
    """
    for name, own in list(classes.items())[:MAX_CLASSES]:
        weights: dict[Value, float] = {}
        for value, weight in own.weights.items():
            for other, strength in near.get(value[1], ()) if value[0] == item else ():
                key = (NEIGHBOUR, other)
                weights[key] = weights.get(key, 0.0) + weight * strength
        if weights:
            kept = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_VALUES]
            yield near_class(name), ClassCounters(dict(kept), 0.0, own.landmark_s, own.last_event_s)
