"""Items of all classes together: what a search reads of `BASE:c` while it does not know its query's classes.

A profile's items are kept by class alone (`class_layout`). A first search for some words, and a policy without a `class_field` of
its own, read the items of all classes instead, the heaviest of which join the counters of `BASE:z`. The layout before had items
with their class in `BASE:z` too; where both have one, the larger weight is right: each holds some of the same events.

A bucket names its classes by digest. Their names are those of the population (`class_names`), and an item of a class that the
population lacks has none: the repeat guard then uses the share of the whole catalogue. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from operator import itemgetter

from rewriter.record import record
from rewriter.signals.class_layout import (
    BUCKETS,
    NAMES,
    UNIT_S,
    bodies_in,
    digest_of,
    field_names,
    item_text,
    items_in,
)
from rewriter.signals.counters import SEPARATOR, Counters, growth
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.repeats import USES

MAX_SEEN = 2_048
"""Counters that one search looks at, of the classes used last. A household has 1,100 a year, attributes included."""
HASH_FIELDS = (NAMES, *(f"{NAMES}{number}" for number in range(BUCKETS)))
"""The fields of `BASE:c` that hold items."""
MAX_NUMBER = 7
"""Numbers of fields that take one byte. Items have 0, unless another program chose the names."""


@record(frozen=True, slots=True)
class EveryClass:
    """A read of the items of all classes. half_life_s: of items. names: of classes by digest, as far as they are known."""

    half_life_s: float
    names: Mapping[bytes, str]


def class_names(members: Iterable[str]) -> dict[bytes, str]:
    """Return the names of classes by digest, of the population's members. It looks at all: not for a search."""
    start = f"{USES}{SEPARATOR}"
    names = (member[len(start) :] for member in members if member.startswith(start))
    return {digest_of(name): name for name in names}


def with_items(counters: Counters, replies: Sequence[bytes | None], every: EveryClass, limit: int) -> Counters:
    """Return counters with the items of all classes, in all the `limit` heaviest. replies: the values of `HASH_FIELDS`."""
    items = _heaviest(replies, every, counters.landmark_s, limit)
    if not items:
        return counters
    weights = dict(counters.weights)
    for weight, raw, start, end, name in items:
        text = item_text(raw, start, end)
        if not text or SEPARATOR in text:
            continue  # no id, or not one
        value = (ITEM, text) if name is None else (ITEM, text, name)
        weights[value] = max(weight, weights.get(value, 0.0))
    return replace(counters, weights=dict(sorted(weights.items(), key=itemgetter(1), reverse=True)[:limit]))


_Found = tuple[float, bytes, int, int, str | None]
"""An item: its weight, the bytes of its class, from where to where its counter goes, and the name of its class."""


def _heaviest(replies: Sequence[bytes | None], every: EveryClass, landmark_s: float, limit: int) -> list[_Found]:
    named, *buckets = replies if len(replies) == len(HASH_FIELDS) else (None,)
    fields = field_names(named)[:MAX_NUMBER]
    if ITEM not in fields:
        return []
    number, left = fields.index(ITEM), MAX_SEEN
    found: list[_Found] = []
    for digest, raw in _used_last_first(buckets):
        items, seen = items_in(raw, number, left)
        if items:
            name = every.names.get(digest)
            factor = growth(landmark_s, int.from_bytes(raw[:3], "little") * UNIT_S, every.half_life_s)
            found += [(weight * factor, raw, start, end, name) for weight, start, end in items]
        left -= seen
        if left <= 0:
            break
    found.sort(key=itemgetter(0), reverse=True)
    return found[:limit]


def _used_last_first(buckets: Iterable[bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the classes of all buckets, of each bucket the one used last before the next one of any."""
    return filter(None, chain.from_iterable(zip_longest(*map(bodies_in, buckets))))
