"""Snapshot of a search's body at the time of the call, as plain JSON values.

Callers reuse their bodies, and put into them any value that their client's serializer can write: dates, decimals, numpy arrays,
objects of their own. The optional legs run beside the baseline or after it, so they work on this copy, and cache keys are made from
it. A value that JSON cannot represent is copied in the form that the serializer writes. `str()` would not do: the texts of arrays
and series are abbreviated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from rewriter.query_form import inside

Write = Callable[[Any], "str | bytes"]
"""Serializer of the caller's client: writes a list as JSON, and raises its own exception for a value that it cannot write."""

JSON_SCALARS = frozenset({int, float, bool, type(None)})

FLOAT_BYTES = 18
"""Charged for a float: it is written with all its digits, which takes longest (0.4 µs each)."""


TOO_LARGE = "the body is too large to be copied while its caller waits"


class TooLargeError(ValueError):
    """The body has more bytes than may be copied while the caller waits."""


class ReadOnceError(ValueError):
    """The body has an iterator. The caller's own search would be sent without what is read from it here."""


def snapshot(value: Any, write: Write, max_bytes: int, names: set[str] | None = None) -> Any:
    """Return a copy of `value` equal to what the caller's client sends: dicts with text keys, lists, texts, numbers.

    max_bytes: limit of its size as JSON, roughly. It bounds the work too, whatever the size of `value`.
    names:     receives the keys of every object in the copy.
    Raises TooLargeError beyond the limit, ReadOnceError for an iterator, RecursionError for a body nested too deep, or any
    exception of `write`.
    """
    return _Copying(write, max_bytes, set() if names is None else names).copied(value)


class _Copying:
    def __init__(self, write: Write, max_bytes: int, names: set[str]) -> None:
        self._write = write
        self._left = max_bytes
        self._names = names

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
                self._names.update(value)
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
        if isinstance(value, Iterator) or any(isinstance(one, Iterator) for _, one in inside([value])):
            raise ReadOnceError
        text = self._write([value])
        self._took(len(text))
        (read,) = json.loads(text)
        self._names.update(key for key, _ in inside([read]))
        return read

    def _took(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise TooLargeError(TOO_LARGE)

    def _fits(self, count: int) -> None:
        if count > self._left:
            raise TooLargeError(TOO_LARGE)


def _least_bytes(value: Any) -> int:
    """Return a rough lower bound of a value's bytes as JSON, from its `size` and `dtype` or its length; 0 if it has neither."""
    size = getattr(value, "size", None)
    if isinstance(size, int):
        return size * (FLOAT_BYTES if getattr(getattr(value, "dtype", None), "kind", "") == "f" else 2)
    try:
        return 2 * len(value)
    except TypeError:
        return 0
