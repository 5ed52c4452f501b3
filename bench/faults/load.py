"""The load: searches at a steady rate through one of the shells, each checked and timed; every fifth is the plain search alone.

Times are measured outside the library: the start of the caller's search, the answer of its own client (on the caller's thread or
task, through a context variable), and the return of the personalized search. At the same time a sampler sleeps for 2 ms again and
again, on a thread or on the loop, and notes the excess: the delay that the machine causes for everything.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

from bench.faults.engine import EngineName, async_client, client, is_search
from bench.faults.scene import BODIES, SUBJECTS, Judge, subject
from rewriter import AsyncRewriter, Report, Rewriter, SearchDetails, Settings
from rewriter.shell.status import Status

CALLERS = 8
LEG_CONNECTIONS = 16
ALONE_EVERY = 5
SAMPLE_S = 0.002
EVERYBODY = 2 * SUBJECTS
"""The number of first searches in which each subject searches once."""


@dataclass(slots=True)
class Own:
    """The caller's own search of one search, if it was sent: begin and end. Tasks share it with the search that began them."""

    started_s: float | None = None
    arrived_s: float | None = None


_own: ContextVar[Own | None] = ContextVar("own", default=None)


@dataclass(frozen=True, slots=True)
class Stall:
    """One sleep of the sampler: its end, and its delay."""

    until_s: float
    ms: float


def stall_since(before_s: float) -> Stall:
    """Return the delay of a sleep of `SAMPLE_S` that began at `before_s`."""
    now_s = time.monotonic()
    return Stall(now_s, (now_s - before_s - SAMPLE_S) * 1e3)


@dataclass(frozen=True, slots=True)
class Seen:
    """One search: its start, the time of the caller's own search, the time added to it, and the outcome.

    In `rewrite`, the caller's own search may not be sent, or late: its time is its own then, 0 without one, and all else is added.
    own_sent: whether it was. hedged: whether it was sent beside a rewritten search that was late.
    """

    at_s: float
    alone: bool
    baseline_ms: float
    added_ms: float = 0.0
    reason: str = ""
    fault: str = ""
    own_sent: bool = True
    hedged: bool = False


@dataclass(slots=True)
class ReportCount:
    """A hook that counts reports by the thread or task of the search."""

    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, details: SearchDetails) -> None:
        """Count one."""
        with self.lock:
            self.count += isinstance(details.report, Report)


class _Timed:
    """The caller's client; notes when it has answered."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.transport = client.transport

    def search(self, **arguments: Any) -> Any:
        own = _own.get() or Own()
        own.started_s = time.monotonic()
        try:
            return self._client.search(**arguments)
        finally:
            own.arrived_s = time.monotonic()


class Sends:
    """Searches that the legs' client sends."""

    def __init__(self) -> None:
        self.count = 0

    def counted(self, client: Any) -> Any:
        """Have a client's searches counted, in its transport; several threads do."""
        send = client.transport.perform_request

        def counting(method: str, target: str, *arguments: Any, **named: Any) -> Any:
            self.count += is_search(target)
            return send(method, target, *arguments, **named)

        client.transport.perform_request = counting
        return client


class _AsyncTimed(_Timed):
    async def search(self, **arguments: Any) -> Any:
        own = _own.get() or Own()
        own.started_s = time.monotonic()
        try:
            return await self._client.search(**arguments)
        finally:
            own.arrived_s = time.monotonic()


class Load(ABC):
    """The common part of both shells' loads: the order of the searches, and the check of an answer."""

    def __init__(
        self,
        url: str,
        leg_url: str,
        store_urls: tuple[str, str | None],
        settings: Settings,
        index: str,
        judge: Judge,
        rate: float,
        engine: EngineName = "opensearch",
    ) -> None:
        self.engine = engine
        self.urls = url, leg_url
        self.store_url, self.profile_url = store_urls
        self.settings = settings
        self.index = index
        self.judge = judge
        self.rate = rate
        self.reports = ReportCount()
        self.sends = Sends()
        self.cancelled_share = 0.0
        self.cancelled = 0
        self.jitter: list[Stall] = []
        self._numbers = 0
        self._random = random.Random(7)

    @property
    def mode(self) -> str:
        """The mode of the policy."""
        return self.settings.policies["shop"].mode

    @abstractmethod
    def __enter__(self) -> Self:
        """Make clients and rewriter."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Close them."""

    @abstractmethod
    def batch(self, count: int) -> list[Seen]:
        """Send `count` searches at the rate, and return them all; those that were cancelled are counted, not returned."""

    @abstractmethod
    def status(self) -> Status:
        """Return the rewriter's status."""

    @abstractmethod
    def idle(self) -> None:
        """Let what is under way go on for 10 ms."""

    @abstractmethod
    def tasks(self) -> int:
        """Return the number of tasks on the loop; 0 without a loop."""

    def _await_facts(self) -> None:
        """Wait until the facts of the index were read, five seconds at most, so that every search can be personalized."""
        until_s = time.monotonic() + 5.0
        while self.index not in self.status().indices and time.monotonic() < until_s:
            self.idle()

    def _next(self) -> tuple[int, int, bool]:
        """Return the next search: body, subject, and whether it is sent alone. First each subject has a turn, then draws follow."""
        self._numbers = number = self._numbers + 1
        who = (number + number // SUBJECTS) % SUBJECTS if number <= EVERYBODY else self._random.randrange(SUBJECTS)
        return self._random.randrange(len(BODIES)), who, number % ALONE_EVERY == 0

    def _seen(self, at_s: float, own: Own, body: int, who: int, answer: Any, report: Report) -> Seen:
        now_s = time.monotonic()
        fault = self.judge.fault(body, who, answer, report)
        sent_s, arrived_s = own.started_s, own.arrived_s
        if self.mode == "parallel" and arrived_s is not None:
            return Seen(at_s, False, (arrived_s - at_s) * 1e3, (now_s - arrived_s) * 1e3, str(report.reason), fault)
        own_s = 0.0 if sent_s is None else (now_s if arrived_s is None else arrived_s) - sent_s
        added_ms = (now_s - at_s - own_s) * 1e3
        sent, reason = sent_s is not None, str(report.reason)
        return Seen(at_s, False, own_s * 1e3, added_ms, reason, fault, sent, report.hedged)


class SyncLoad(Load):
    """Searches from `CALLERS` threads."""

    def __enter__(self) -> Self:
        self.client = client(self.engine, self.urls[0], CALLERS)
        self.legs = self.sends.counted(client(self.engine, self.urls[1], LEG_CONNECTIONS, max_retries=0))
        self.rewriter = Rewriter(
            _Timed(self.client),
            self.store_url,
            self.settings,
            profile_store=self.profile_url,
            leg_client=self.legs,
            hooks=[self.reports],
        )
        self._await_facts()
        self._callers = ThreadPoolExecutor(CALLERS, "caller")
        return self

    def __exit__(self, *_: object) -> None:
        self._callers.shutdown()
        self.rewriter.close()
        self.legs.close()
        self.client.close()

    def status(self) -> Status:
        """Return the rewriter's status."""
        return self.rewriter.status()

    def idle(self) -> None:
        """Let what is under way go on for 10 ms."""
        time.sleep(0.01)

    def tasks(self) -> int:
        """There is no loop."""
        return 0

    def batch(self, count: int) -> list[Seen]:
        """Send `count` searches at the rate, and return them all."""
        start_s = time.monotonic()
        with self._sampled():
            sent = [self._callers.submit(self._one, start_s + n / self.rate, *self._next()) for n in range(count)]
            return [one.result() for one in sent]

    def _one(self, at_s: float, body: int, who: int, alone: bool) -> Seen:
        time.sleep(max(0.0, at_s - time.monotonic()))
        arguments = {"index": self.index, "body": BODIES[body]}
        own, at_s = Own(), time.monotonic()
        _own.set(own)
        try:
            if alone:
                self.client.search(**arguments)
                return Seen(at_s, True, (time.monotonic() - at_s) * 1e3)
            answer, report = self.rewriter.search_details(**arguments, subject=subject(who))
        except Exception as error:  # noqa: BLE001  that is what is looked for
            return Seen(at_s, alone, 0.0, fault=f"raised {type(error).__name__}: {error}")
        return self._seen(at_s, own, body, who, answer, report)

    @contextmanager
    def _sampled(self) -> Iterator[None]:
        stop = threading.Event()

        def sample() -> None:
            while not stop.is_set():
                before_s = time.monotonic()
                time.sleep(SAMPLE_S)
                self.jitter.append(stall_since(before_s))

        sampler = threading.Thread(target=sample, name="sampler")
        sampler.start()
        try:
            yield
        finally:
            stop.set()
            sampler.join()


class AsyncLoad(Load):
    """Searches from as many tasks as there are searches under way, on a loop that runs while there are any."""

    def __enter__(self) -> Self:
        self.runner = asyncio.Runner()
        self.runner.run(self._open())
        self._await_facts()
        return self

    async def _open(self) -> None:
        self.client = async_client(self.engine, self.urls[0], 64)
        self.legs = self.sends.counted(async_client(self.engine, self.urls[1], LEG_CONNECTIONS, max_retries=0))
        self.rewriter = AsyncRewriter(
            _AsyncTimed(self.client),
            self.store_url,
            self.settings,
            profile_store=self.profile_url,
            leg_client=self.legs,
            hooks=[self.reports],
        )
        await self.rewriter.status()

    def __exit__(self, *_: object) -> None:
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        await self.rewriter.close()
        await self.legs.close()
        await self.client.close()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            raise RuntimeError(f"tasks left over: {left}")

    def status(self) -> Status:
        """Return the rewriter's status."""
        return self.runner.run(self.rewriter.status())

    def idle(self) -> None:
        """Let what is under way go on for 10 ms."""
        self.runner.run(asyncio.sleep(0.01))

    def tasks(self) -> int:
        """Return how many tasks there are on the loop."""
        return len(asyncio.all_tasks(self.runner.get_loop()))

    def batch(self, count: int) -> list[Seen]:
        """Send `count` searches at the rate, and return them all; those that were cancelled are counted, not returned."""
        return self.runner.run(self._batch(count))

    async def _batch(self, count: int) -> list[Seen]:
        sampler = asyncio.create_task(self._sample())
        start_s = time.monotonic()
        tasks = []
        for n in range(count):
            await asyncio.sleep(max(0.0, start_s + n / self.rate - time.monotonic()))
            tasks.append(asyncio.create_task(self._one(*self._next())))
            if self._random.random() < self.cancelled_share:
                asyncio.get_running_loop().call_later(self._random.uniform(0.0, 0.02), tasks[-1].cancel)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        sampler.cancel()
        self.cancelled += sum(isinstance(one, asyncio.CancelledError) for one in found)
        return [one for one in found if isinstance(one, Seen)]

    async def _one(self, body: int, who: int, alone: bool) -> Seen:
        arguments = {"index": self.index, "body": BODIES[body]}
        own, at_s = Own(), time.monotonic()
        _own.set(own)
        try:
            if alone:
                await self.client.search(**arguments)
                return Seen(at_s, True, (time.monotonic() - at_s) * 1e3)
            answer, report = await self.rewriter.search_details(**arguments, subject=subject(who))
        except Exception as error:  # noqa: BLE001  that is what is looked for
            return Seen(at_s, alone, 0.0, fault=f"raised {type(error).__name__}: {error}")
        return self._seen(at_s, own, body, who, answer, report)

    async def _sample(self) -> None:
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(SAMPLE_S)
            self.jitter.append(stall_since(before_s))
