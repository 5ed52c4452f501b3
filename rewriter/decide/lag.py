"""Whether signals are fresh enough to act on. An idle session is not a lagging one.

Two views: the pipeline's own lag, published as a heartbeat and judged with hysteresis for each partition, and a session's, which
is how long its latest event took to become visible. A pipeline is judged only once it has published a heartbeat; from then on a
missing one counts as lagging. A partition that is stuck makes only its own people lag.

A heartbeat's age is how long ago this process first saw it, by a clock that does not jump: the pipeline's clock and this machine's
may differ, and either may be set. Only the first one that a process sees is as old as it says.
"""

from __future__ import annotations

from dataclasses import dataclass

from rewriter.subject import partition_of_unit

RECOVERED_PART = 0.5
"""Below this part of the limit a lagging pipeline counts as caught up again: no flapping around the limit."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a pipeline last published: when, by its own clock, and how far it then lagged (seconds).

    lags_s: of each partition; empty where the pipeline only knows the largest, `lag_s`, which then holds for everybody.
    """

    at_s: float
    lag_s: float
    lags_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Lag:
    """The pipeline's lag as judged.

    seconds:    the largest, None before the first heartbeat.
    lagging:    whether it is too much, for some people at least.
    partitions: seconds of each partition, and whether they are too much; empty where it is the same for everybody.
    """

    seconds: float | None = None
    lagging: bool = False
    partitions: tuple[tuple[float, bool], ...] = ()

    @property
    def behind(self) -> int:
        """How many partitions lag, where that is known."""
        return sum(lagging for _, lagging in self.partitions)

    def of(self, unit: str | None) -> tuple[float, bool]:
        """Return the lag in seconds, and whether it is too much, for the events of a user, or of a session without one."""
        if self.partitions and unit is not None:
            return self.partitions[partition_of_unit(unit, len(self.partitions))]
        return self.seconds or 0.0, self.lagging


@dataclass(frozen=True, slots=True)
class LastHeartbeat:
    """The heartbeat as it is known, and when it was new (monotonic seconds)."""

    heartbeat: Heartbeat | None = None
    new_at_s: float = 0.0


def note_heartbeat(before: LastHeartbeat, heartbeat: Heartbeat | None, clock_s: float, now_s: float) -> LastHeartbeat:
    """Return what is known once `heartbeat` was read at `clock_s` (monotonic) and `now_s` (wall)."""
    if heartbeat is None or heartbeat == before.heartbeat:
        return LastHeartbeat() if heartbeat is None else before
    age_s = max(0.0, now_s - heartbeat.at_s) if before.heartbeat is None else 0.0
    return LastHeartbeat(heartbeat, clock_s - age_s)


def judge_lag(before: Lag, known: LastHeartbeat, clock_s: float, max_lag_s: float) -> Lag:
    """Return the lag at `clock_s`, given how it was judged before. A heartbeat's age counts once it exceeds what was measured."""
    if known.heartbeat is None:
        return before if before.seconds is None else Lag(before.seconds, lagging=True)
    beat, age_s = known.heartbeat, clock_s - known.new_at_s

    def too_much(seconds: float, lagged: bool) -> bool:
        return seconds > (max_lag_s * RECOVERED_PART if lagged else max_lag_s)

    seconds = max(beat.lag_s, age_s)
    if not beat.lags_s:
        return Lag(seconds, too_much(seconds, before.lagging))
    lagged = [lagging for _, lagging in before.partitions]
    if len(lagged) != len(beat.lags_s):
        lagged = [before.lagging] * len(beat.lags_s)
    each = [max(lag_s, age_s) for lag_s in beat.lags_s]
    partitions = tuple((one, too_much(one, was)) for one, was in zip(each, lagged, strict=True))
    return Lag(max(each), any(lagging for _, lagging in partitions), partitions)


def in_partitions(lag: Lag) -> str:
    """Return in how many partitions the signals lag, in words to go after others; nothing where it is everywhere."""
    return f" in {lag.behind} of {len(lag.partitions)} partitions" if lag.behind else ""
