"""Call runs: the latest calls in order, with their kinds, in memory that their rate does not decide.

A window of a minute holds 60,000 calls at 1,000 a second, which as entries of their own would take 6 MB for each breaker. Calls
in a row of one kind that came within `STEP_S` are one run: a time and a number.
"""

from __future__ import annotations

from collections import deque

STEP_S = 0.05
"""A call counts as having come up to this much earlier than it did."""

MAX_RUNS = 4_096
"""Runs that are remembered: those of three minutes of calls that all went well; of thousands of calls where kinds alternate."""


class CallRuns:
    """A queue of calls, each with its time (monotonic seconds) and its kind (a small number). Not safe for several threads."""

    __slots__ = ("_calls", "_runs")

    def __init__(self) -> None:
        self._runs: deque[list[float]] = deque()  # of time, kind, number of calls
        self._calls = 0

    def __len__(self) -> int:
        """Return the number of calls."""
        return self._calls

    @property
    def full(self) -> bool:
        """Whether there are more runs than are remembered: drop calls until there are not."""
        return len(self._runs) > MAX_RUNS

    @property
    def oldest_s(self) -> float:
        """The time of the oldest call. Raises IndexError without calls."""
        return self._runs[0][0]

    def add(self, kind: int, now_s: float) -> None:
        """Add a call."""
        self._calls += 1
        last = self._runs[-1] if self._runs else None
        if last is not None and last[1] == kind and 0.0 <= now_s - last[0] < STEP_S:
            last[2] += 1
        else:
            self._runs.append([now_s, kind, 1])

    def drop(self) -> int:
        """Remove the oldest call, and return its kind. Raises IndexError without calls."""
        run = self._runs[0]
        run[2] -= 1
        self._calls -= 1
        if not run[2]:
            self._runs.popleft()
        return int(run[1])

    def clear(self) -> None:
        """Remove all calls."""
        self._runs.clear()
        self._calls = 0
