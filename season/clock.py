"""Virtual time: searches of weeks run in minutes, each at its time in the season.

A rewriter reads two clocks: the wall clock (decay of signals, times of records) and a monotonic one (deadlines, breakers, caches).
The season replaces only the wall clock. Events carry their own time, which may lie weeks back (`signals.horizon_s`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from rewriter.observe import ubi
from rewriter.shell import sync


class VirtualTime:
    """Replacement of the module `time` where a search and its record read the wall clock."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def time(self) -> float:
        """Return the season's time (seconds since the epoch)."""
        return self.now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Draws:
    """Replacement of the source of the searches' seeds."""

    def __init__(self) -> None:
        self._random = Random(0)

    def seed(self, text: str) -> None:
        """Seed the next search's draws with `text`."""
        self._random = Random(text)

    def __call__(self, bits: int) -> int:
        """Return the next draw with the given number of bits."""
        return self._random.getrandbits(bits)


@contextmanager
def virtual(now_s: float) -> Iterator[tuple[VirtualTime, Draws]]:
    """Run the searches of this process with the season's time and seeds, for the duration of the block."""
    clock, draws = VirtualTime(now_s), Draws()
    before = [(sync, "time", sync.time), (ubi, "time", ubi.time), (sync, "randbits", sync.randbits)]  # type: ignore[attr-defined]
    try:
        for (module, name, _), value in zip(before, (clock, clock, draws), strict=True):
            setattr(module, name, value)
        yield clock, draws
    finally:
        for module, name, value in before:
            setattr(module, name, value)
