"""Lag guard: decides from the ingest pipeline's heartbeat whether signals are fresh enough. An idle session does not lag.

There are two measures. The pipeline's lag is published as a heartbeat and compared with the limit, with hysteresis, for each
partition; a stuck partition affects only its own subjects. A session's lag is the time that its latest event took to become
visible. A pipeline counts as lagging only after its first heartbeat; from then on a missing heartbeat counts as lagging.

A heartbeat's age is measured from when this process first read it, by a monotonic clock: the pipeline's clock and this machine's
may differ, and either may be set. Only for the first heartbeat that a process reads is the pipeline's own time used.
"""

from __future__ import annotations

from dataclasses import dataclass

from rewriter.plural import count_of
from rewriter.subject import partition_of_unit

RECOVERED_PART = 0.5
"""Hysteresis: a lagging pipeline has caught up when its lag is at most this part of the limit."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A pipeline's latest heartbeat.

    at_s:   when it was published, by the pipeline's clock (seconds since the epoch).
    lag_s:  the largest lag of its partitions in seconds.
    lags_s: the lag of each partition in seconds; empty if the pipeline knows only the largest, which then holds for every subject.
    """

    at_s: float
    lag_s: float
    lags_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Lag:
    """The pipeline's lag, compared with the limit.

    seconds:    the largest lag, None before the first heartbeat.
    lagging:    whether at least one partition lags.
    partitions: lag in seconds of each partition, and whether it lags; empty if the lag is known only as a whole.
    """

    seconds: float | None = None
    lagging: bool = False
    partitions: tuple[tuple[float, bool], ...] = ()

    @property
    def behind(self) -> int:
        """The number of partitions that lag; 0 if the lag is known only as a whole."""
        return sum(lagging for _, lagging in self.partitions)

    def of(self, unit: str | None) -> tuple[float, bool]:
        """Return the lag in seconds of a unit's events, and whether it exceeds the limit. `unit` is a user's or session's id."""
        if self.partitions and unit is not None:
            return self.partitions[partition_of_unit(unit, len(self.partitions))]
        return self.seconds or 0.0, self.lagging


@dataclass(frozen=True, slots=True)
class LastHeartbeat:
    """The latest heartbeat that this process has read, and when it was published (monotonic seconds)."""

    heartbeat: Heartbeat | None = None
    new_at_s: float = 0.0


def note_heartbeat(before: LastHeartbeat, heartbeat: Heartbeat | None, clock_s: float, now_s: float) -> LastHeartbeat:
    """Return the latest heartbeat after a read.

    heartbeat: the one that was read, None if the key is missing.
    clock_s, now_s: the time of the read, monotonic and since the epoch.
    """
    if heartbeat is None or heartbeat == before.heartbeat:
        return LastHeartbeat() if heartbeat is None else before
    age_s = max(0.0, now_s - heartbeat.at_s) if before.heartbeat is None else 0.0
    return LastHeartbeat(heartbeat, clock_s - age_s)


def judge_lag(before: Lag, known: LastHeartbeat, clock_s: float, max_lag_s: float) -> Lag:
    """Return the lag at `clock_s` (monotonic seconds): the larger of each measured lag and the heartbeat's age.

    before:    the previous result, for the hysteresis.
    max_lag_s: the limit in seconds.
    """
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
    """Return " in N of M partitions" to append to a message; "" if no partition lags or the lag is known only as a whole."""
    return f" in {lag.behind} of {count_of(len(lag.partitions), 'partition')}" if lag.behind else ""
