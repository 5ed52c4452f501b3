"""What one event loop has, and how it performs what the flow asks for: tasks, clients, background tasks.

A read that outlives its budget is not cancelled, which would cost its connection, but left to finish: its answer is remembered,
and it keeps its place among what is in flight until then. Four tasks do the background work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rewriter.core import Core
from rewriter.flow.steps import (
    Collected,
    Explored,
    FetchSignals,
    Launch,
    LegFault,
    Personal,
    Read,
    SavePlan,
    SearchLeg,
)
from rewriter.observe.tally import Tally
from rewriter.report import Reason
from rewriter.shell.legs import PLANS_SHARE, InFlight, fault_of, hits_of
from rewriter.shell.refresh import LOCAL_PERIOD_S, WORDS_PERIOD_S, Refresh, fleet_key
from rewriter.shell.sources import Call
from rewriter.shell.status import STATUS_S, store_said
from rewriter.shell.track import AsyncTracker
from rewriter.signals.redis_store import AsyncRedisStore
from rewriter.signals.store import AsyncStore, Signals, StoreName

T = TypeVar("T")


async def drive(flow: Generator[Any, Any, T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """Run a generator to its end, as its sync twin does. A cancelled search closes it, and so gives its permit back."""
    try:
        step = next(flow)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:  # noqa: BLE001  whatever it is, the generator says what it means
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()


class Job:
    """The parts of one search."""

    __slots__ = ("explored", "personal")

    def __init__(self) -> None:
        self.personal: asyncio.Task[Personal] | None = None
        self.explored: asyncio.Task[Explored] | None = None


class Loop:
    """What one event loop has. Made on it, and of no use on another."""

    def __init__(self, core: Core, stores: Mapping[StoreName, AsyncStore], legs: Any, *, owns_legs: bool) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self.core = core
        self.stores = stores
        self.legs = legs
        self._owns_legs = owns_legs
        self.in_flight = InFlight(core.settings.budget.max_in_flight)
        self.tally = Tally()
        self.refresh = Refresh(
            core, time.monotonic, time.time, has_store="store" in stores, in_flight=self.in_flight, tally=self.tally
        )
        store = stores.get("store")
        self.tracker = AsyncTracker(store, core.settings) if isinstance(store, AsyncRedisStore) else None
        self.plans_dropped = 0
        self._closing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        # Apart from the loop's own executor, which others fill; two, so that the kill switch waits for no template.
        self._files = ThreadPoolExecutor(2, "rewriter-local")
        self.refresh.local()
        self._background = [
            self._loop.create_task(self._repeat(name, period_s, work))
            for name, period_s, work in (
                ("local", LOCAL_PERIOD_S, lambda: self._loop.run_in_executor(self._files, self.refresh.local)),
                ("templates", WORDS_PERIOD_S, lambda: self._loop.run_in_executor(self._files, self.refresh.templates)),
                ("words", WORDS_PERIOD_S, lambda: drive(self.refresh.words(), self._ask)),
                ("facts", WORDS_PERIOD_S, lambda: drive(self.refresh.facts(), self._ask)),
            )
        ]

    def is_this_loop(self) -> bool:
        """Whether it was made in this process, on the loop that is running."""
        return self._pid == os.getpid() and self._loop is asyncio.get_running_loop()

    def begin(self, part: Generator[Any, Any, T], job: Job) -> asyncio.Task[T] | None:
        """Start a part on a task; None where no place is left."""
        if not self.in_flight.try_enter():
            part.close()
            return None
        return self._spawn(drive(part, lambda step: self._perform(job, step)))

    def save(self, step: SavePlan) -> None:
        """Save a plan on a task, here and in the store, or not at all: the next page then is the baseline's."""
        if not self.in_flight.try_enter(PLANS_SHARE):
            self.plans_dropped += 1
            return

        async def save() -> None:
            key, plan = step.plan()
            if key is not None:
                self.core.plans.put(key, plan, len(plan), time.monotonic())
                if step.in_store:
                    await self.stores["store"].save_plan(key, plan, step.ttl_s)

        self._spawn(save())

    async def looked(self) -> tuple[str | None, dict[str, str]]:
        """Return whether the store answers ("ok", or why not; None without one), and what the fleet's processes say."""
        store = self.stores.get("store")
        if store is None:
            return None, {}

        async def look() -> dict[str, str]:
            await store.ping()
            return await store.announced(fleet_key(self.core.keys.prefix))

        return store_said(await in_time(self._kept(look()), time.monotonic() + STATUS_S))

    async def close(self) -> None:
        """End tasks and connections."""
        if self.tracker is not None:
            await self.tracker.close()
        self._closing = True
        left = [*self._background, *self._tasks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._files.shutdown(wait=False)
        if self._owns_legs:
            await self.legs.close()
        for store in self.stores.values():
            await store.close()

    async def _perform(self, job: Job, step: Any) -> Any:
        """Do what a part asks for, on its task."""
        match step:
            case FetchSignals(reads, budget_s):
                until_s = time.monotonic() + budget_s
                return [await in_time(read, until_s) for read in [self._reading(one) for one in reads]]
            case Launch(part):
                job.explored = self.begin(part, job)
                return None
            case SearchLeg(arguments, timeout_s):
                try:
                    return hits_of(await self.legs.search(**arguments, request_timeout=timeout_s))
                except LegFault:
                    raise
                except Exception as error:  # noqa: BLE001  whatever a client raises is a fault of the leg
                    raise fault_of(error) from None
        raise TypeError(f"no such step: {step!r}")

    def _reading(self, read: Read) -> asyncio.Task[Signals]:
        """Start a read. It takes a place of its own, since it may outlive the part that waits for it; its answer is remembered."""
        self.in_flight.enter()
        task = self._spawn(self.stores[read.store].read(read.query))

        def done(answered: asyncio.Task[Signals]) -> None:
            if not answered.cancelled() and answered.exception() is None:
                self.core.last_known.put(read.query, answered.result(), time.monotonic())

        task.add_done_callback(done)
        return task

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task whose place in flight is taken already, and which gives it back."""
        task = self._kept(work)
        task.add_done_callback(self.in_flight.leave)
        return task

    def _kept(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task, and keep it from being collected half-way."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: an abandoned part's error is nobody's

    async def _repeat(self, name: str, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do background work until all of it is closed. Whatever a round raises, the next one comes.

        Being cancelled alone would not do: redis-py 8.1 can lose a cancellation while it connects, and go on.
        """
        while not self._closing:
            try:
                await work()
                self.refresh.failed(name, None)
            except Exception as error:  # noqa: BLE001  a dead task would be a dead kill switch
                self.refresh.failed(name, error)
            await asyncio.sleep(period_s)

    async def _ask(self, call: Call) -> Any:
        """Do what the background asks for."""
        store = self.stores.get("store")
        profiles = self.stores.get("profile_store") or store
        match call:
            case Call("text", (key,)):
                return await store.read_text(key) if store else None
            case Call("text", (key, "profile")):
                return await profiles.read_text(key) if profiles else None
            case Call("many", (bases, fields, limit)):
                return await profiles.read_many(bases, fields, limit) if profiles else None
            case Call("announce", (key, name, text, now_s)):
                return await store.announce(key, name, text, now_s) if store else None
            case Call("mapping", (index,)):
                return await self.legs.indices.get_mapping(index=index, request_timeout=5)
            case _:
                return await self.legs.indices.get_settings(
                    index=call.arguments[0], flat_settings=True, request_timeout=5
                )


async def collected(job: Job, until_s: float) -> Collected:
    """Wait for the parts of a search until the cut-off."""
    part = await in_time(job.personal, until_s)
    if isinstance(part, BaseException):
        part = Personal(Reason.SEARCH_FAILED, f"internal: {type(part).__name__}")
    if part is None or part.reason is not Reason.PERSONALIZED:
        return Collected(part, None)
    explored = await in_time(job.explored, until_s)
    if isinstance(explored, BaseException):
        explored = Explored(error=f"internal: {type(explored).__name__}")
    return Collected(part, explored)


async def in_time(task: asyncio.Task[T] | None, until_s: float) -> T | BaseException | None:
    """Return what came of a task until then: its result, what it raised, or None. It is not cancelled."""
    if task is None:
        return None
    if not task.done():
        await asyncio.wait({task}, timeout=max(0.0, until_s - time.monotonic()))
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
