"""Virtual time: searches of weeks run in minutes, each at its time in the season.

A rewriter reads two clocks: the wall clock (decay of signals, times of records) and a monotonic one (deadlines, breakers, caches).
The season replaces only the wall clock. Events carry their own time, which may lie weeks back (`signals.horizon_s`).

Three things in a rewriter go by neither, and would make two runs of one season differ:
the population, read anew every ten seconds, is read once for each simulated day; the classes of queries, forgotten after ten
minutes, stay known, and each search waits for those that were asked for beside it; the decay of the exploration template, whose
origin is the server's "now", gets the simulated day from the search (see `stage`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from rewriter import core as core_module
from rewriter.observe import ubi
from rewriter.shell import job
from rewriter.shell.background import population
from rewriter.shell.background.population import PopulationReader
from rewriter.shell.threads import runtime
from rewriter.signals.query_classes import QueryClasses

WAIT_S, PAUSE_S = 60.0, 0.002


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


class StandingClasses(QueryClasses):
    """Classes of queries that stay known. `unknown` holds the keys of those that a search has asked for and not got yet."""

    def __init__(self) -> None:
        super().__init__(ttl_s=inf)
        self.unknown: set[str] = set()

    def claim(self, key: str, now_s: float) -> bool:
        """See QueryClasses.claim."""
        claimed = super().claim(key, now_s)
        if claimed:
            self.unknown.add(key)
        return claimed

    def put(self, key: str, classes: tuple[str, ...], now_s: float) -> None:
        """See QueryClasses.put."""
        super().put(key, classes, now_s)
        self.unknown.discard(key)


class PopulationOnDemand(PopulationReader):
    """Reads the population when it starts, and afterwards only when `look` is called."""

    _read_first = False

    def start(self) -> None:
        """Read the population, which the backfill has counted. Called on a background thread."""
        until_s = time.monotonic() + WAIT_S
        while not (self.tried() and self._core.snapshot.population.totals) and time.monotonic() < until_s:
            time.sleep(PAUSE_S)
        self._read_first = True

    @property
    def started(self) -> bool:
        """See PopulationReader.started."""
        return self._read_first


@dataclass(frozen=True, slots=True)
class Virtual:
    """What a season controls of the rewriters that are made within `virtual`."""

    clock: VirtualTime
    draws: Draws = field(default_factory=Draws)
    classes: list[StandingClasses] = field(default_factory=list)
    populations: list[PopulationOnDemand] = field(default_factory=list)

    def begin_day(self, at_s: float) -> None:
        """Set the clock, and let every rewriter read the population as it is now; one of them builds it, whichever may."""
        self.clock.now_s = at_s
        for _ in range(2):
            for one in self.populations:
                one.look()

    def await_classes(self) -> None:
        """Wait until the classes of queries that were asked for are known. Raises RuntimeError after `WAIT_S`."""
        until_s = time.monotonic() + WAIT_S
        while any(one.unknown for one in self.classes):
            if time.monotonic() >= until_s:
                raise RuntimeError("the classes of a query were not read")
            time.sleep(PAUSE_S)


@contextmanager
def virtual(now_s: float) -> Iterator[Virtual]:
    """Run the rewriters made in the block, and their searches, with the season's time and seeds."""
    found = Virtual(VirtualTime(now_s))

    def classes() -> StandingClasses:
        found.classes.append(StandingClasses())
        return found.classes[-1]

    def reader(*arguments: Any, **named: Any) -> PopulationOnDemand:
        found.populations.append(PopulationOnDemand(*arguments, **named))
        return found.populations[-1]

    replaced: Sequence[tuple[Any, str, Any]] = (
        (job, "time", found.clock), (ubi, "time", found.clock), (population, "time", found.clock),
        (job, "randbits", found.draws), (core_module, "QueryClasses", classes), (runtime, "PopulationReader", reader),
    )  # fmt: skip
    before = [getattr(module, name) for module, name, _ in replaced]
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        yield found
    finally:
        for (module, name, _), value in zip(replaced, before, strict=True):
            setattr(module, name, value)
