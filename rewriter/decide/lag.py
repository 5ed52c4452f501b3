"""Whether signals are fresh enough to act on. An idle session is not a lagging one.

Two views: the pipeline's own lag, published as a heartbeat and judged with hysteresis, and a session's, which is how long its
latest event took to become visible. A pipeline is judged only once it has published a heartbeat; from then on a missing one
counts as lagging.

A heartbeat's age is how long ago this process first saw it, by a clock that does not jump: the pipeline's clock and this machine's
may differ, and either may be set. Only the first one that a process sees is as old as it says.
"""

from __future__ import annotations

from dataclasses import dataclass

RECOVERED_PART = 0.5
"""Below this part of the limit a lagging pipeline counts as caught up again: no flapping around the limit."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a pipeline last published: when, by its own clock, and how far it then lagged (event time to visible time, seconds)."""

    at_s: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class Lag:
    """The pipeline's lag as judged: seconds, and whether that is too much. `seconds` is None before the first heartbeat."""

    seconds: float | None = None
    lagging: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """The heartbeat as it is known, and when it was new (monotonic seconds)."""

    heartbeat: Heartbeat | None = None
    new_at_s: float = 0.0


def heard(before: Heard, heartbeat: Heartbeat | None, clock_s: float, now_s: float) -> Heard:
    """Return what is known once `heartbeat` was read at `clock_s` (monotonic) and `now_s` (wall)."""
    if heartbeat is None or heartbeat == before.heartbeat:
        return Heard() if heartbeat is None else before
    age_s = max(0.0, now_s - heartbeat.at_s) if before.heartbeat is None else 0.0
    return Heard(heartbeat, clock_s - age_s)


def judged(before: Lag, known: Heard, clock_s: float, max_lag_s: float) -> Lag:
    """Return the lag at `clock_s`, given how it was judged before. A heartbeat's age counts once it exceeds what was measured."""
    if known.heartbeat is None:
        return before if before.seconds is None else Lag(before.seconds, lagging=True)
    seconds = max(known.heartbeat.lag_s, clock_s - known.new_at_s)
    limit_s = max_lag_s * RECOVERED_PART if before.lagging else max_lag_s
    return Lag(seconds, seconds > limit_s)
