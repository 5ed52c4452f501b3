"""Late legs of one policy: pauses its optional legs when too many miss the cut-off, since late legs only cost the cluster.

If more than `LATE_SHARE` of the last `SEARCHES` were late, no leg is sent for `PAUSE_S`. The baseline's usual time, an exponential
moving average, also sets the client's time-out of a leg.
"""

from __future__ import annotations

from collections import deque
from threading import Lock

LATE_SHARE = 0.2
SEARCHES = 200
PAUSE_S = 60.0
_SMOOTHING = 0.05
_MAX_LEG_S = 10.0


class LateLegs:
    """The late legs of one policy. Methods are called from many threads; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._late: deque[bool] = deque(maxlen=SEARCHES)
        self._late_count = 0
        self._paused_until_s = float("-inf")
        self._baseline_s = 0.0

    def paused(self, now_s: float) -> bool:
        """Return whether this policy's legs are paused at `now_s`."""
        return now_s < self._paused_until_s

    def leg_timeout_s(self, cutoff_s: float) -> float:
        """Return the time-out of a leg in seconds: the cut-off plus four times the baseline's usual time, 10 s at most."""
        return min(_MAX_LEG_S, cutoff_s + 4.0 * self._baseline_s)

    def record(self, *, late: bool, baseline_s: float, now_s: float) -> None:
        """Record one search whose legs were sent: whether they were late, and the baseline's time in seconds."""
        with self._lock:
            self._baseline_s += (baseline_s - self._baseline_s) * (_SMOOTHING if self._late else 1.0)
            if len(self._late) == SEARCHES:
                self._late_count -= self._late[0]
            self._late.append(late)
            self._late_count += late
            if len(self._late) == SEARCHES and self._late_count > LATE_SHARE * SEARCHES:
                self._paused_until_s = now_s + PAUSE_S
                self._late.clear()
                self._late_count = 0

    def late_share(self) -> float:
        """Return the share of the recorded searches whose legs were late, in [0, 1]."""
        with self._lock:
            return self._late_count / len(self._late) if self._late else 0.0
