"""Whether signals are fresh enough to act on. An idle session is not a lagging one.

Two views: the pipeline's own lag, published as a heartbeat and judged with hysteresis, and a session's, which is how long its
latest event took to become visible. A pipeline is judged only once it has published a heartbeat; from then on a missing one
counts as lagging.
"""

from __future__ import annotations

from dataclasses import dataclass

RECOVERED_PART = 0.5
"""Below this part of the limit a lagging pipeline counts as caught up again: no flapping around the limit."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a pipeline last published: when, and how far it then lagged (event time to visible time, seconds)."""

    at_s: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class Lag:
    """The pipeline's lag as judged: seconds, and whether that is too much. `seconds` is None before the first heartbeat."""

    seconds: float | None = None
    lagging: bool = False


def judged(before: Lag, heartbeat: Heartbeat | None, now_s: float, max_lag_s: float) -> Lag:
    """Return the lag at `now_s`, given how it was judged before. A heartbeat's age counts once it exceeds what was measured."""
    if heartbeat is None:
        return before if before.seconds is None else Lag(before.seconds, lagging=True)
    seconds = max(heartbeat.lag_s, now_s - heartbeat.at_s)
    limit_s = max_lag_s * RECOVERED_PART if before.lagging else max_lag_s
    return Lag(seconds, seconds > limit_s)
