"""The tally of reasons: the number of searches of the last minute by reason.

It answers the first question of an engineer on call: is anybody personalized, and if not, why? Hooks could count the same, but
only if they were connected to a monitoring system before.
"""

from __future__ import annotations

from collections import Counter, deque
from threading import Lock

from rewriter.report import Reason

STEP_S = 5.0
STEPS = 12


class Tally:
    """Counts by reason, in steps of `STEP_S`. Thread-safe; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._steps: deque[tuple[int, Counter[Reason]]] = deque(maxlen=STEPS)

    def note(self, reason: Reason, clock_s: float) -> None:
        """Count one search."""
        step = int(clock_s // STEP_S)
        with self._lock:
            if not self._steps or self._steps[-1][0] != step:
                self._steps.append((step, Counter()))
            self._steps[-1][1][reason] += 1

    def last_minute(self, clock_s: float) -> dict[str, int]:
        """Return the counts of the last `STEPS` steps including the present one, the most frequent reason first."""
        since = int(clock_s // STEP_S) - STEPS
        with self._lock:
            found = sum((counts for step, counts in self._steps if step > since), Counter[Reason]())
        return {str(reason): count for reason, count in found.most_common()}
