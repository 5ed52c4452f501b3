"""Recent times: how long the latest searches of one kind took, and a quantile of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

EVERY_S = 0.05
"""How far apart searches are that are remembered, so that they cover half a minute however many are sent. What the last second
alone tells follows a server into overload, and then nothing is late any more."""


class RecentTimes:
    """The times of the latest `most` searches, in seconds. Not safe for several threads.

    at_once: up to how many are remembered without regard to EVERY_S.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self._most = most
        self._at_once = at_once
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []
        self._noted_s = float("-inf")

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, took_s: float, now_s: float) -> None:
        """Add a search that took `took_s`. now_s: monotonic seconds."""
        if now_s < self._noted_s + EVERY_S and len(self._latest) >= self._at_once:
            return
        self._noted_s = now_s
        self._latest.append(took_s)
        insort(self._sorted, took_s)
        if len(self._latest) > self._most:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    @property
    def sorted_s(self) -> list[float]:
        """The times, in order."""
        return self._sorted

    def clear(self) -> None:
        """Forget everything."""
        self._latest.clear()
        self._sorted.clear()


def quantile(of: float, times: RecentTimes, others: RecentTimes | None = None) -> float:
    """Return a quantile of some times, and of others, if given. There must be one."""
    known = sorted([*times.sorted_s, *others.sorted_s]) if others else times.sorted_s
    return known[int(of * (len(known) - 1))]
