"""How a policy's optional legs keep up with the baseline. Legs that are nearly always late only cost the cluster.

More than `LATE_SHARE` of the last `SEARCHES` too late: stop sending them for `PAUSE_S`. The usual time of the baseline, an
exponential moving average, also sets how long a leg may take before its client gives it up.
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
    """The pace of one policy. Called from many threads; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._late: deque[bool] = deque(maxlen=SEARCHES)
        self._late_count = 0
        self._paused_until_s = float("-inf")
        self._baseline_s = 0.0

    def paused(self, now_s: float) -> bool:
        """Return whether this policy's legs are not to be sent now."""
        return now_s < self._paused_until_s

    def leg_timeout_s(self, cutoff_s: float) -> float:
        """Return how long a leg may take: the cut-off on top of four times what the baseline usually takes, 10 s at most."""
        return min(_MAX_LEG_S, cutoff_s + 4.0 * self._baseline_s)

    def record(self, *, late: bool, baseline_s: float, now_s: float) -> None:
        """Note one search whose legs were sent."""
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
        """Return the share of the remembered searches whose legs were too late."""
        with self._lock:
            return self._late_count / len(self._late) if self._late else 0.0
