"""Bounded cache in process memory: limited in entries, bytes and age, the oldest entry evicted first.

It holds exploration pools, last known signals and plans.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A cache whose callers give each value's size. Methods are called from many threads; time is an argument (monotonic seconds).

    max_bytes: limit of the sum of all sizes.
    max_age_s: seconds after which a value is no longer returned.
    max_count: limit of entries; None for no limit.
    """

    def __init__(self, *, max_bytes: int, max_age_s: float, max_count: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._max_count = max_count
        self._lock = Lock()
        self._kept: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of entries, expired ones included."""
        return len(self._kept)

    def get(self, key: K, now_s: float) -> V | None:
        """Return the value of `key`, or None if there is none or it is older than `max_age_s`."""
        with self._lock:
            kept = self._kept.get(key)
        return kept[2] if kept and now_s - kept[0] <= self._max_age_s else None

    def put(self, key: K, value: V, size: int, now_s: float) -> None:
        """Store `value` of `size` bytes, then evict expired entries and the oldest beyond the limits.

        A value larger than `max_bytes` is not stored; it removes the earlier value of its key.
        """
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                return
            self._kept[key] = (now_s, size, value)
            self._bytes += size
            while self._kept and self._too_much(now_s):
                self._drop(next(iter(self._kept)))

    def drop(self, key: K) -> None:
        """Remove the entry of `key`, if any."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _too_much(self, now_s: float) -> bool:
        oldest_s = next(iter(self._kept.values()))[0]
        too_many = self._max_count is not None and len(self._kept) > self._max_count
        return too_many or self._bytes > self._max_bytes or now_s - oldest_s > self._max_age_s

    def _drop(self, key: K) -> None:
        kept = self._kept.pop(key, None)
        if kept:
            self._bytes -= kept[1]
