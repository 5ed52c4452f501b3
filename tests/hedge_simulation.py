"""A simulated server under searches that are plain, rewritten or hedged: a queue, workers and stalls. Time is the simulation's.

Searches arrive at random (Poisson) and wait in one queue for one of WORKERS. A rewritten search takes REWRITTEN times as long as
the caller's own. Losers are ended: one that waits leaves the queue at once, one that is served frees its worker END_S later.
Nothing else is modelled, and that is enough for a melt-down.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from math import exp
from typing import Literal

from rewriter.decide.hedging import Hedging

WORKERS = 8
PLAIN_S = 0.020
"""The mean time of a plain search at its usual speed. Times are log-normal."""

SIGMA = 0.7
REWRITTEN = 1.4
END_S = 0.05

Way = Literal["plain", "uncapped", "capped", "paused"]


class Capped(Hedging):
    """Hedges within its budget, and never stops."""

    def _pause(self, why: str, now_s: float) -> None:
        del why, now_s


class Uncapped(Capped):
    """Hedges whatever is late."""

    def hedge(self, now_s: float) -> bool:
        super().hedge(now_s)
        return True


WAYS: dict[Way, type[Hedging]] = {"plain": Hedging, "uncapped": Uncapped, "capped": Capped, "paused": Hedging}


@dataclass(slots=True)
class Search:
    """One search, and its legs: the rewritten one, the caller's own, or both."""

    arrived_s: float
    rewritten: bool
    legs: list[Leg] = field(default_factory=list)
    late: bool = False
    took_s: float | None = None


@dataclass(slots=True)
class Leg:
    search: Search
    work_s: float
    state: Literal["waits", "served", "ended", "answered"] = "waits"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What callers got; times in ms, shares of all searches. A search without an answer took as long as the simulation."""

    p50_ms: float
    p99_ms: float
    hedged: float
    plain: float
    pauses: int


@dataclass(frozen=True, slots=True)
class Load:
    """What comes at the server, and what befalls it.

    busy:    the share of the workers' time that plain searches take at their usual speed.
    slow:    by how much every search takes longer, from `slow_from_s` on.
    stall_s: for how long no worker goes on, every `stall_every_s`.
    """

    busy: float = 0.45
    slow: float = 1.0
    slow_from_s: float = 0.0
    stall_s: float = 0.0
    stall_every_s: float = 10.0
    seconds: float = 120.0
    seed: int = 1


class Simulation:
    """One run. Events are calls at a time; the number between the two keeps their order."""

    def __init__(self, way: Way, load: Load) -> None:
        self.load = load
        self.plain = way == "plain"
        self.hedging = WAYS[way]()
        self.chance = random.Random(load.seed)
        self.rate = load.busy * WORKERS / PLAIN_S
        self.median_s = PLAIN_S / exp(SIGMA**2 / 2.0)
        self.now_s = self.stalled_until_s = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = count()
        self.ends: dict[int, Leg] = {}
        self.queue: deque[Leg] = deque()
        self.free = WORKERS
        self.searches: list[Search] = []
        self.hedges = 0

    def run(self) -> Outcome:
        """Return what comes of it."""
        self.at(self.chance.expovariate(self.rate), self.arrive)
        if self.load.stall_s:
            self.at(self.load.stall_every_s, self.stall)
        while self.events and self.now_s < self.load.seconds * 1.5:
            self.now_s, _, what = heappop(self.events)
            what()
            self.serve()
        took = sorted((self.load.seconds if one.took_s is None else one.took_s) * 1000.0 for one in self.searches)
        plain = sum(not one.rewritten for one in self.searches)
        pauses = self.hedging.status(self.now_s).pauses
        return Outcome(
            took[len(took) // 2], took[int(len(took) * 0.99)], self.hedges / len(took), plain / len(took), pauses
        )

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        heappush(self.events, (when_s, next(self.numbers), what))

    def arrive(self) -> None:
        if self.now_s > self.load.seconds:
            return
        self.at(self.now_s + self.chance.expovariate(self.rate), self.arrive)
        rewritten = not self.plain and self.hedging.known and not self.hedging.paused(self.now_s)
        search = Search(self.now_s, rewritten)
        self.searches.append(search)
        self.submit(search, REWRITTEN if rewritten else 1.0)
        if rewritten:
            self.hedging.sent()
            self.at(self.now_s + self.hedging.delay_s(), lambda: self.check(search))

    def check(self, search: Search) -> None:
        if search.took_s is None:
            search.late = True
            if self.hedging.hedge(self.now_s):
                self.hedges += 1
                self.submit(search, 1.0)

    def submit(self, search: Search, factor: float) -> None:
        slow = self.load.slow if self.now_s >= self.load.slow_from_s else 1.0
        leg = Leg(search, self.median_s * self.chance.lognormvariate(0.0, SIGMA) * factor * slow)
        search.legs.append(leg)
        self.queue.append(leg)

    def serve(self) -> None:
        while self.free and self.queue:
            leg = self.queue.popleft()
            if leg.state == "waits":
                leg.state = "served"
                self.free -= 1
                self.at(max(self.now_s, self.stalled_until_s) + leg.work_s, partial(self.answer, leg))

    def stall(self) -> None:
        self.stalled_until_s = self.now_s + self.load.stall_s
        self.at(self.now_s + self.load.stall_every_s, self.stall)
        late_s = self.load.stall_s  # whatever is being served is not served meanwhile
        self.events = [
            (when_s + late_s if isinstance(what, partial) else when_s, number, what)
            for when_s, number, what in self.events
        ]
        heapify(self.events)

    def answer(self, leg: Leg) -> None:
        if leg.state != "served":
            return
        leg.state = "answered"
        self.free += 1
        search = leg.search
        search.took_s = self.now_s - search.arrived_s
        for other in search.legs:
            if other.state == "served":
                self.at(self.now_s + END_S, self.released)
            if other.state in ("waits", "served"):
                other.state = "ended"
        if not self.plain:
            in_time = search.rewritten and not search.late
            self.hedging.took(search.took_s, self.now_s, boosted=search.rewritten, in_time=in_time)

    def released(self) -> None:
        self.free += 1


def simulated(way: Way, load: Load) -> Outcome:
    """Return what comes of searches that are sent one way."""
    return Simulation(way, load).run()
