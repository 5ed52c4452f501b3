"""The attributes of an item, as a hit's `_source` shows them: what the distance of two hits is measured by. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

MAX_ATTRIBUTES = 8
MAX_VALUES = 5
"""An item is described by at most so many document fields, and so many values of each."""

Paths = tuple[tuple[str, ...], ...]
"""Document fields, each split at its dots."""


def attribute_paths(fields: Iterable[str | None]) -> Paths:
    """Return the different fields among `fields`, the first MAX_ATTRIBUTES of them."""
    different = dict.fromkeys(path for path in fields if path)
    return tuple(tuple(path.split(".")) for path in list(different)[:MAX_ATTRIBUTES])


def attribute_values(source: Any, paths: Paths) -> tuple[Any, ...]:
    """Return the value of each field in a hit's `_source`, None where it is not known; of a list a copy of its first values."""
    if not isinstance(source, dict):
        return ()
    found = []
    for path in paths:
        value = source.get(path[0])
        for name in path[1:]:
            value = value.get(name) if isinstance(value, dict) else None
        found.append(tuple(value[:MAX_VALUES]) if isinstance(value, list) else value)
    return tuple(found)


def attributes_of(values: tuple[Any, ...]) -> frozenset[Hashable] | None:
    """Return a hit's attributes as pairs of a field's number and a value, None where none of them is known."""
    pairs = [
        (at, str(one))
        for at, value in enumerate(values)
        for one in (value if isinstance(value, tuple) else (value,))
        if isinstance(one, (str, int, float))
    ]
    return frozenset(pairs) if pairs else None
