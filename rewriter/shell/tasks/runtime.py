"""The runtime of one event loop: its stores, its background tasks, and the tasks that run parts of searches.

A read that outlives its budget is not cancelled, which would cost its connection. It finishes, its answer goes to memory, and it
keeps its permit until then.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, assert_never

from rewriter.client.seam import SearchClient
from rewriter.core import Core
from rewriter.flow.steps import (
    FetchSignals,
    Launch,
    PartStep,
    ReadSignals,
    SearchLeg,
    SearchLegs,
    SendRewritten,
)
from rewriter.observe.tally import Tally
from rewriter.shell.background.population import Bridge, PopulationReader, engine_on_threads
from rewriter.shell.background.refresh import LOCAL_PERIOD_S, SWITCHES_PERIOD_S, Refresh
from rewriter.shell.background.sources import Announce, BackgroundStep, GetMapping, GetSettings, ReadTexts
from rewriter.shell.background.store_texts import read_texts_async
from rewriter.shell.background.switch_sources import SwitchSources
from rewriter.shell.beside import Beside
from rewriter.shell.bulkhead import Bulkhead
from rewriter.shell.drive import drive_async
from rewriter.shell.fleet import fleet_key
from rewriter.shell.plans import AsyncPlanSaver
from rewriter.shell.status import STATUS_S, store_state
from rewriter.shell.tasks.job import TaskJob, in_time
from rewriter.shell.tasks.legs import TaskLegs
from rewriter.shell.tasks.part import AsyncReading, Part
from rewriter.shell.tasks.underway import awaiting
from rewriter.shell.track import AsyncTracker
from rewriter.shell.workers import CLOSE_S, RETRY_S, Workers
from rewriter.signals.redis_store import AsyncRedisStore
from rewriter.signals.store import AsyncStore, StoreName

T = TypeVar("T")

CANCEL_AGAIN_S = 0.1


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Mark the error of a task as retrieved: no caller awaits an abandoned one."""
    if not task.cancelled():
        task.exception()


class NoThreadError(Exception):
    """No thread is free, and none can be started."""


class TaskRuntime(Beside):
    """The runtime of one event loop. It is made on its loop and works on no other.

    switches: the sources of switches, which all loops of a process share.
    client:   the caller's client, from which that of the legs is cloned.
    leg_client: the caller's own client for legs, or None.
    own_stores: those of `stores` that end with this.
    When the loop's tasks are cancelled, as asyncio.run does at its end, the runtime closes by itself.
    """

    def __init__(
        self,
        core: Core,
        switches: SwitchSources,
        stores: Mapping[StoreName, AsyncStore],
        client: SearchClient,
        leg_client: SearchClient | None,
        *,
        own_stores: Sequence[AsyncStore],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.core = core
        self.stores = stores
        self._own_stores = own_stores
        self.legs = TaskLegs(client, leg_client, core.settings, on_a_thread=self._on_a_thread, keep=self._kept)
        policies = len(core.settings.policies)
        reads = {name: Bulkhead(core.settings.store_reads) for name in stores}
        self.in_flight = Bulkhead(core.settings.budget.max_in_flight, policies, reads.values())
        self.rewritten = Bulkhead(core.settings.budget.max_rewritten, policies)
        self.tally = Tally()
        self.refresh = Refresh(
            core, time.monotonic, time.time, has_store="store" in stores, in_flight=self.in_flight, tally=self.tally,
            switches=switches,
        )  # fmt: skip
        store = stores.get("store")
        self.tracker = AsyncTracker(store, core.settings) if isinstance(store, AsyncRedisStore) else None
        self.plans = AsyncPlanSaver(core, store, self._kept)
        self._reading = AsyncReading(core, stores, reads)
        self.closed = False
        self._ending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        # Not the loop's own executor, which other work can fill. Four threads, so that the kill switch waits for nothing else.
        self._files = Workers(4, "rewriter-local")
        self.refresh.local()
        if (engine := engine_on_threads(stores, self.loop)) is not None:
            held, loop = weakref.ref(self), self.loop
            self.refresh.population = PopulationReader(
                core, engine, self.refresh.errors, lambda: held() is not None and not loop.is_closed(),
                ends_first_look=not isinstance(engine, Bridge),
            )  # fmt: skip
        self._facts_due = asyncio.Event()
        core.searched.wakes(self)
        self._background = [
            self._kept(self._repeat(name, wait, work))
            for name, wait, work in (
                ("local", partial(asyncio.sleep, LOCAL_PERIOD_S), self._local),
                (
                    "templates",
                    partial(asyncio.sleep, SWITCHES_PERIOD_S),
                    lambda: self._on_a_thread(self.refresh.templates),
                ),
                (
                    "store values",
                    partial(asyncio.sleep, SWITCHES_PERIOD_S),
                    lambda: drive_async(self.refresh.store_values(), self._perform_read),
                ),
                ("facts", self._wait_for_facts, lambda: drive_async(self.refresh.facts(), self._perform_read)),
                ("population", partial(asyncio.sleep, RETRY_S), self._population),
            )
        ]
        self._ended = self._kept(self._until_cancelled())

    def send_own(self, search: Awaitable[Any]) -> asyncio.Task[Any]:
        """Send the caller's own search beside a rewritten one. `close` does not end it: its caller waits for its answer."""
        task = asyncio.Task(awaiting(search), loop=self.loop)
        task.add_done_callback(_retrieved)
        return task

    def begin(self, part: Generator[Any, Any, T], job: TaskJob) -> asyncio.Future[T] | None:
        """Start a part beside the caller's own search on a task. Returns None if no permit is left."""
        return self._begin(part, job, self.in_flight)

    def begin_once(self, part: Generator[Any, Any, T], job: TaskJob) -> asyncio.Future[T] | None:
        """Start the part of a search that is sent once, on a task. Returns None if no permit is left."""
        return self._begin(part, job, self.rewritten)

    def _begin(self, part: Generator[Any, Any, T], job: TaskJob, bulkhead: Bulkhead) -> asyncio.Future[T] | None:
        if self.closed or not bulkhead.try_acquire(job.policy):
            part.close()
            return None
        started = Part(part, lambda step: self._perform(job, step), self._reading, self._kept, self.loop).start()
        policy = job.policy
        started.add_done_callback(lambda _: bulkhead.give_back(policy))
        return started

    async def looked(self) -> tuple[str | None, dict[str, str]]:
        """Return the store's state ("ok", or why it does not answer; None without a store) and the fleet's reports, as texts."""
        store = self.stores.get("store")
        if store is None:
            return None, {}

        async def look() -> dict[str, str]:
            await store.ping()
            return await store.announced(fleet_key(self.core.keys.prefix))

        return store_state(await in_time(self._kept(look()), time.monotonic() + STATUS_S))

    def end(self) -> asyncio.Task[None]:
        """Begin to end tasks and connections, which takes a few seconds, unless that was begun. Returns the task that does so."""
        if self._ending is None:
            self._ending = asyncio.Task(self._close(), loop=self.loop)
            self._ending.add_done_callback(_retrieved)
        return self._ending

    async def close(self) -> None:
        """End tasks and connections within a few seconds. It continues if the caller is cancelled."""
        await asyncio.shield(self.end())

    async def _close(self) -> None:
        if self.tracker is not None and not self.closed:
            await self.tracker.close()
        if not self.closed:
            await self.plans.close(CLOSE_S)
        await self._end()

    async def _until_cancelled(self) -> None:
        """Wait for a cancellation of the loop's tasks, which marks the loop's end, and close then."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._end()

    async def _end(self) -> None:
        """Cancel all tasks and disconnect. A task that loses its cancellation (redis-py can, while connecting) gets another."""
        if self.closed:
            return
        self.closed = True
        if self.refresh.population is not None:
            self.refresh.population.stop()
        try:
            await self._cancelled(asyncio.current_task())
        finally:  # the loop may end meanwhile, and cancel this
            self._files.close(0.0)
            await self.legs.close()
            for store in self._own_stores:
                with suppress(Exception):
                    await asyncio.wait_for(store.close(), CLOSE_S)

    async def _cancelled(self, this: asyncio.Task[Any] | None) -> None:
        """Cancel all tasks but this one. A task that cannot be cancelled must not keep the loop from ending."""
        until_s = time.monotonic() + CLOSE_S
        while left := {task for task in self._tasks if task is not this and not task.done()}:
            if time.monotonic() >= until_s:
                break
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=CANCEL_AGAIN_S)

    def drop(self) -> None:
        """End the threads of a loop that is closed already. Its tasks have ended, and its sockets close with it."""
        self.closed = True
        self._files.close(0.0)

    async def _perform(self, job: TaskJob, step: PartStep) -> Any:
        """Perform a step of a part, on its task."""
        match step:
            case FetchSignals(reads, budget_s):
                until_s = time.monotonic() + budget_s
                under_way = [self._kept(self._reading.read(one)) for one in reads]
                return [await in_time(one, until_s) for one in under_way]
            case Launch(part):
                job.explored = self.begin(part, job)
                return None
            case SearchLeg():
                return await self.legs.search(step)
            case SearchLegs(steps):
                return await self.legs.search_together(steps)
            case SendRewritten():
                return await self.legs.search_rewritten(job, step)
            case ReadSignals():
                raise TypeError("the signals of a batch are read by `flow.batch.together`")
        assert_never(step)

    def _kept(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task, and hold it so that it is not garbage-collected before its end."""
        task = asyncio.Task(work, loop=self.loop)  # not with the loop's task factory, which may run it at once
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        _retrieved(task)

    def wake(self) -> None:
        """Read the facts of a new index expression now. Never waits, never raises."""
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._facts_due.set)

    async def _wait_for_facts(self) -> None:
        """Wait until facts are due to be read."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._facts_due.wait(), self.refresh.indices.wait_s)
        self._facts_due.clear()

    async def _repeat(
        self, name: str, wait: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[None]]
    ) -> None:
        """Repeat a background round until the runtime is closed. After an error of a round, the next one follows.

        The check of `closed` is needed: redis-py 8.1 can lose a cancellation while it connects, and continue.
        """
        while not self.closed:
            try:
                await work()
                self.refresh.failed(name, None)
            except Exception as error:  # noqa: BLE001  if this task ended, the kill switch would not work any more
                self.refresh.failed(name, error)
            await wait()

    async def _local(self) -> None:
        """Read the kill switch on a thread, since a file can be slow; without a thread, on the loop."""
        try:
            await self._on_a_thread(self.refresh.local)
        except NoThreadError:
            self.refresh.local()

    async def _population(self) -> None:
        """Start the population's thread, unless it was started."""
        if self.refresh.population is not None and not self.refresh.population.started:
            await self._on_a_thread(self.refresh.population.start)

    async def _on_a_thread(self, work: Callable[[], T]) -> T:
        try:
            self._files.start()
        except RuntimeError as error:
            raise NoThreadError(str(error)) from None
        future = self._files.submit(work)
        if future is None:
            raise NoThreadError("no thread is free")
        return await asyncio.wrap_future(future)

    async def _perform_read(self, step: BackgroundStep) -> Any:
        """Perform one step of the background."""
        store = self.stores.get("store")
        match step:
            case ReadTexts(keys):
                return await read_texts_async(store, keys) if store else [None] * len(keys)
            case Announce(key, name, text, now_s):
                return await store.announce(key, name, text, now_s) if store else None
            case GetMapping() | GetSettings():
                return await self.legs.read_facts(step)
        assert_never(step)
