"""What a process remembers for a while: bounded in number, bytes and age, the oldest out first.

Holds pools, last known signals and plans. Called from many threads; time is an argument (monotonic seconds).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A memory that forgets. Whoever puts something in says how many bytes it takes."""

    def __init__(self, *, max_bytes: int, max_age_s: float, max_count: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._max_count = max_count
        self._lock = Lock()
        self._kept: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many things are kept, old ones included."""
        return len(self._kept)

    def get(self, key: K, now_s: float) -> V | None:
        """Return what was put under `key`, unless it is too old."""
        with self._lock:
            kept = self._kept.get(key)
        return kept[2] if kept and now_s - kept[0] <= self._max_age_s else None

    def put(self, key: K, value: V, size: int, now_s: float) -> None:
        """Keep `value`; what is too old goes, and then the oldest beyond the bounds. What is larger than all of it is not kept."""
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                return
            self._kept[key] = (now_s, size, value)
            self._bytes += size
            while self._kept and self._too_much(now_s):
                self._drop(next(iter(self._kept)))

    def drop(self, key: K) -> None:
        """Forget what is kept under `key`."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
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
