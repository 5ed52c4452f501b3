"""Health of ingest: backlog and lag of each partition, and entries that were lost.

The lag of a partition is the age of its oldest uncounted entry, or the recent time from append to counters, whichever is larger. It
is computed from the server's data by the server's clock. So any worker can report it for all partitions, whatever its own clock,
and a partition without a worker is visible. The time from an event's own timestamp is separate: each session keeps it (`lag`), and
the heartbeat has its median (`event_lag`), since one phone that was offline for an hour is no lag of the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewriter.errors import StoreError
from rewriter.plural import count_of
from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.scripts import GAP, LOOK, Engine, ran, script_command, sound_replies

UNCOUNTED = "the server does not count a stream's entries: it needs Redis 7.0 or Valkey 7.2"
UNKNOWN_MS = 24 * 3600 * 1000
"""The reported lag of a partition whose state cannot be read."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog of all partitions.

    entries: uncounted entries.
    lags_s:  lag in seconds by partition: the age of the oldest uncounted entry, or the recent time from append to counters if
             larger.
    at_s:    the time of the measurement by the server's clock (seconds since the epoch).
    """

    entries: int
    lags_s: tuple[float, ...]
    at_s: float

    @property
    def lag_s(self) -> float:
        """The largest lag in seconds."""
        return max((0.0, *self.lags_s))


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries that were removed from a stream before they were read.

    lost:   their number, 0 if unknown.
    passed: the increment of the partition's counter `passed`.
    what:   the event in words.
    """

    lost: int
    passed: int
    what: str


def backlog(engine: Engine, keys: StreamKeys, partitions: int) -> Backlog:
    """Return the backlog of all partitions. Raises the client's exception."""
    wanted = [
        script_command(LOOK, [keys.of_stream(number, "state"), keys.stream(number)], []) for number in range(partitions)
    ]
    seen = [(0, UNKNOWN_MS, 0, 0) if is_of_one(reply) else reply for reply in ran(engine, wanted)]
    for reply in seen:
        if isinstance(reply, Exception):
            raise reply
    return Backlog(
        sum(waiting for waiting, *_ in seen),
        tuple(max(age_ms, lately_ms) / 1000.0 for _, age_ms, lately_ms, _ in seen),
        max((now_ms for *_, now_ms in seen), default=0) / 1000.0,
    )


def find_gap(engine: Engine, keys: StreamKeys, partition: int) -> Gap | None:
    """Return the entries that a partition's stream lost unread, or None. Raises the client's error, or StoreError."""
    (found,) = sound_replies(
        engine, [script_command(GAP, [keys.of_stream(partition, "state"), keys.stream(partition)], [])]
    )
    if not found:  # no stream yet
        return None
    added, length, passed, unread = found
    if added < 0:
        raise StoreError(UNCOUNTED)
    return gap(added, length, passed, None if unread < 0 else unread)


def gap(added: int, length: int, passed: int, unread: int | None) -> Gap | None:
    """Return the entries that a stream lost unread, or None if it lost none.

    added:  number of entries ever added to it; `length` of them are present.
    passed: number of entries that workers have passed.
    unread: number of present entries that they have not, None if unknown.
    Each entry was passed, is unread, or was lost, whether a trim removed it or somebody deleted it alone. Where the unread entries
    were not counted, those count that certainly were lost: a stream is read at its front, so the removed entries beyond `passed`.
    More entries were passed than added where the stream was deleted and begun anew; the number is corrected once it is known.
    """
    lost = max(0, added - length - passed) if unread is None else added - unread - passed
    if lost < 0:
        return Gap(0, lost, "the stream was deleted and begun anew; what it held unread is unknown")
    why = f"{count_of(lost, 'entry', 'were')} trimmed or deleted before they were read"
    return Gap(lost, lost, why) if lost else None


def added_and_removed(info: Any) -> tuple[int, int]:
    """Return how many entries were ever added to a stream, and how many of them were removed. Raises StoreError."""
    fields: Mapping[Any, Any] = info if isinstance(info, Mapping) else dict(zip(info[::2], info[1::2], strict=True))
    try:
        added = int(fields[b"entries-added"])
        return added, added - int(fields[b"length"])
    except KeyError:
        raise StoreError(UNCOUNTED) from None
