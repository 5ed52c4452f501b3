"""How far behind the workers are, and what was lost.

The lag is the pipeline's own: the age of the oldest entry that waits, or how long the latest took from its append to its key,
whichever is more. It is a function of streams and positions, so any worker can say it for all, and a partition that nobody holds
shows. How long an event took from its own time on is kept with each session (`lag`) and published beside it (`event_lag`, the
median): one phone that was offline for an hour is no fault of the pipeline's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewriter.errors import StoreError
from rewriter.signals.ingest.contract import STREAM_START, StreamKeys
from rewriter.signals.ingest.scripts import Engine, ran, sound_replies


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many entries wait, and the age of the oldest in seconds."""

    entries: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries that a stream no longer has and that nobody read. `passed` is what to add to the counter of that name."""

    lost: int
    passed: int
    what: str


def backlog(engine: Engine, keys: StreamKeys, partitions: int, now_s: float) -> Backlog:
    """Return what waits in all partitions at `now_s`. Raises what the client raises."""
    states = sound_replies(
        engine, [("HMGET", keys.of_stream(number, "state"), "position", "passed") for number in range(partitions)]
    )
    streams = [keys.stream(number) for number in range(partitions)]
    infos = ran(engine, [("XINFO", "STREAM", stream) for stream in streams])
    waiting = 0
    asked = []
    for stream, (position, passed), info in zip(streams, states, infos, strict=True):
        ahead = 0 if isinstance(info, Exception) else max(0, added_and_removed(info)[0] - int(passed or 0))
        waiting += ahead
        if ahead:
            after = (position or STREAM_START.encode()).decode()
            asked.append(("XRANGE", stream, f"({after}", "+", "COUNT", 1))
    oldest_ms = [int(entries[0][0].partition(b"-")[0]) for entries in sound_replies(engine, asked) if entries]
    return Backlog(waiting, max([0.0, *(now_s - ms / 1000 for ms in oldest_ms)]))


def gap(info: Any, passed: int) -> Gap | None:
    """Return what `XINFO STREAM` shows to be lost of a stream of which `passed` entries were passed, or None.

    Entries are removed at the front, and read from the front: of a stream that was added to A times and holds L entries the first
    A − L are gone, and what is more than was passed was never read.
    """
    if isinstance(info, Exception):  # no stream yet
        return None
    added, removed = added_and_removed(info)
    if added < passed:
        return Gap(0, removed - passed, "the stream was deleted and begun anew; what it held unread is unknown")
    if removed > passed:
        lost = removed - passed
        return Gap(lost, lost, f"{lost} entries were trimmed before they were read")
    return None


def added_and_removed(info: Any) -> tuple[int, int]:
    """Return how many entries a stream was ever given, and how many of them it has no longer. Raises StoreError."""
    said: Mapping[Any, Any] = info if isinstance(info, Mapping) else dict(zip(info[::2], info[1::2], strict=True))
    try:
        added = int(said[b"entries-added"])
        return added, added - int(said[b"length"])
    except KeyError:
        raise StoreError("the server does not count a stream's entries: Redis 7.0 or Valkey 7.2 is the least") from None
