"""A search's body as it stands at the time of the call, made of nothing but what JSON knows.

Callers reuse their bodies, and put into them whatever their client's serializer can write: dates, decimals, numpy arrays, objects
of their own. What runs beside the caller's own search, or after it, works on a copy, and the keys of what is cached are made of it.
What JSON does not know is copied as the serializer writes it. A text made by `str()` is no copy: arrays and series abbreviate.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Write = Callable[[Any], "str | bytes"]
"""Writes a list as JSON, as the caller's client does; raises whatever it raises for what it cannot write."""

JSON_SCALARS = frozenset({int, float, bool, type(None)})

FLOAT_BYTES = 18
"""A float is written with all its digits, which takes longest: 0.4 µs each."""


class TooLargeError(ValueError):
    """A body of more bytes than may be copied while its caller waits."""


def snapshot(value: Any, write: Write, max_bytes: int) -> Any:
    """Return a copy of `value` that is equal to what its caller's client sends: dicts with texts as keys, lists, texts, numbers.

    max_bytes: of it as JSON, roughly: what is larger is not copied. The work is bounded by it, not by the size of `value`.
    Raises TooLargeError, RecursionError for what is nested too deep, or what `write` raises.
    """
    return _Copying(write, max_bytes).copied(value)


class _Copying:
    def __init__(self, write: Write, max_bytes: int) -> None:
        self._write = write
        self._left = max_bytes

    def copied(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            self._took(len(value) + 3)
            return value
        if kind in JSON_SCALARS:
            self._took(FLOAT_BYTES if kind is float else 4)
            return value
        if kind is dict:
            self._fits(4 * len(value))
            if not value or set(map(type, value)) == {str}:
                self._took(sum(map(len, value)) + 4 * len(value))
                return {key: self.copied(one) for key, one in value.items()}
        elif kind in (list, tuple):
            self._fits(2 * len(value))
            kinds = set(map(type, value))
            if kinds <= JSON_SCALARS:
                self._took((FLOAT_BYTES if float in kinds else 4) * len(value))
                return list(value)
            if kinds == {str}:
                self._took(sum(map(len, value)) + 3 * len(value))
                return list(value)
            return [self.copied(one) for one in value]
        return self._as_written(value)

    def _as_written(self, value: Any) -> Any:
        self._fits(_least_bytes(value))
        text = self._write([value])
        self._took(len(text))
        (read,) = json.loads(text)
        return read

    def _took(self, count: int) -> None:
        self._fits(count)
        self._left -= count

    def _fits(self, count: int) -> None:
        if count > self._left:
            raise TooLargeError("the body is too large to be copied while its caller waits")


def _least_bytes(value: Any) -> int:
    """Return about how many bytes a value will have at least, as far as it says so; an array says `size` and `dtype`."""
    size = getattr(value, "size", None)
    if isinstance(size, int):
        return size * (FLOAT_BYTES if getattr(getattr(value, "dtype", None), "kind", "") == "f" else 2)
    try:
        return 2 * len(value)
    except TypeError:
        return 0
