"""One part of a search on an event loop. Its task reads the store itself; where that is late, another task continues the part.

The task whose read is late stays with it until it is answered, and so does the task of a part that is cancelled meanwhile: to
cancel the read would cost its connection. The answer goes to memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any, Generic, TypeVar

from rewriter.core import Core
from rewriter.flow.steps import FetchSignals, PartStep, Read, ReadResult
from rewriter.shell.bulkhead import Bulkhead
from rewriter.shell.drive import ELSEWHERE, drive_async
from rewriter.signals.store import AsyncStore, StoreName

T = TypeVar("T")


class AsyncReading:
    """The reads of stores by tasks. See `threads.part.Reading`."""

    def __init__(self, core: Core, stores: Mapping[StoreName, AsyncStore], reads: Mapping[StoreName, Bulkhead]) -> None:
        self._core = core
        self._stores = stores
        self._reads = reads

    async def read(self, read: Read) -> ReadResult:
        """Read a store, however long that takes; see `threads.part.Reading.read`."""
        if not self._reads[read.store].try_acquire():
            return None
        try:
            found = await self._stores[read.store].read(read.query)
            self._core.last_known.put(read.query, found, time.monotonic())
        except Exception as error:  # noqa: BLE001  whatever a store raises is a result
            return error
        finally:
            self._reads[read.store].give_back()
        return found


class Part(Generic[T]):
    """One part, and the task that runs it.

    perform: performs all steps but the reading of one store.
    keep:    starts a task.
    """

    __slots__ = ("_flow", "_future", "_keep", "_loop", "_perform", "_reading", "_task", "_timer")

    def __init__(
        self,
        flow: Generator[Any, Any, T],
        perform: Callable[[PartStep], Awaitable[Any]],
        reading: AsyncReading,
        keep: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._flow = flow
        self._perform = perform
        self._reading = reading
        self._keep = keep
        self._loop = loop
        self._future: asyncio.Future[T] = loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> asyncio.Future[T]:
        """Start it. Its future is cancelled with it, and its task with the future."""
        self._future.add_done_callback(self._ended)
        self._go()
        return self._future

    def _go(self, first: Any = None) -> None:
        self._task = self._keep(self._run(first))
        self._task.add_done_callback(self._gone)

    async def _run(self, first: Any) -> None:
        try:
            result = await drive_async(self._flow, self._step, first)
        except Exception as error:  # noqa: BLE001  the caller reports it
            if not self._future.done():
                self._future.set_exception(error)
        else:
            if result is not ELSEWHERE and not self._future.done():
                self._future.set_result(result)

    async def _step(self, step: PartStep) -> Any:
        if isinstance(step, FetchSignals) and len(step.reads) == 1:
            timer = self._timer = self._loop.call_later(step.budget_s, self._late)
            try:
                found = await self._reading.read(step.reads[0])
            except asyncio.CancelledError:  # the loop ends
                if self._taken(timer):
                    raise
                return ELSEWHERE
            return [found] if self._taken(timer) else ELSEWHERE
        return await self._perform(step)

    def _taken(self, timer: asyncio.TimerHandle) -> bool:
        """Stop a read's timer. Returns whether the part is still this task's: its read is neither late nor the part cancelled."""
        if self._timer is not timer:
            return False
        timer.cancel()
        self._timer = None
        return True

    def _late(self) -> None:
        """Go on without the read, in another task."""
        self._timer = None
        self._go([None])

    def _gone(self, task: asyncio.Task[None]) -> None:
        """End with a task that was cancelled, as all tasks are when the loop ends."""
        if task is self._task and task.cancelled():
            self._flow.close()
            self._future.cancel()

    def _ended(self, future: asyncio.Future[T]) -> None:
        if not future.cancelled():
            future.exception()  # marks the error as retrieved: nobody waits for an abandoned part
        elif self._timer is not None:  # its read goes on by itself
            self._timer.cancel()
            self._timer = None
            self._flow.close()
        elif self._task is not None:
            self._task.cancel()
