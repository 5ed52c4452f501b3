"""How far behind the workers are, and what was lost.

The lag is the pipeline's own, and each partition's: the age of the oldest entry that waits, or how long the latest took from its
append to its key, whichever is more. It is a function of what the server holds, by the server's clock, so any worker can say it for
all whatever its own clock says, and a partition that nobody holds shows. How long an event took from its own time on is kept with
each session (`lag`) and published beside it (`event_lag`, the median): one phone that was offline for an hour is no fault of the
pipeline's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewriter.errors import StoreError
from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.scripts import LOOK, Engine, ran, script_command

UNKNOWN_MS = 24 * 3600 * 1000
"""The lag of a partition that cannot be looked at."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many entries wait in all partitions, how far behind each of them is, and when that was (server's clock).

    lags_s: by partition, the age of the oldest entry that waits, or how long entries lately took to be counted, if that is more.
    """

    entries: int
    lags_s: tuple[float, ...]
    at_s: float

    @property
    def lag_s(self) -> float:
        """How far the partition that is furthest behind is behind."""
        return max((0.0, *self.lags_s))


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries that a stream no longer has and that nobody read. `passed` is what to add to the counter of that name."""

    lost: int
    passed: int
    what: str


def backlog(engine: Engine, keys: StreamKeys, partitions: int) -> Backlog:
    """Return what waits in all partitions. Raises what the client raises."""
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
