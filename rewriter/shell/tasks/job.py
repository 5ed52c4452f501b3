"""One search on an event loop: its parts in tasks, and the caller's waits for them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from rewriter.decide.switches import Switches
from rewriter.flow.part_results import collected_in, explored_of, personal_of
from rewriter.flow.steps import Baseline, Collected, Explored, Personal
from rewriter.report import Reason
from rewriter.shell.job import Job

if TYPE_CHECKING:
    from rewriter.shell.tasks.runtime import TaskRuntime

T = TypeVar("T")


class TaskJob(Job):
    """One search, with its parts. runtime: of its loop, None if that has none yet, or never gets one.

    begun: whether its flow was made. first: of the first search of a loop, its step, with the switches that it was decided by.
    batch: of a search of a batch, the part of all of them.
    own:   the caller's own search, where it runs beside one that is sent once.
    """

    __slots__ = ("batch", "begun", "explored", "first", "own", "personal", "runtime")

    def __init__(self) -> None:
        super().__init__()
        self.begun = False
        self.runtime: TaskRuntime | None = None
        self.first: tuple[Baseline, Switches] | None = None
        self.personal: asyncio.Future[Personal] | None = None
        self.explored: asyncio.Future[Explored] | None = None
        self.batch: asyncio.Future[list[Collected]] | None = None
        self.own: asyncio.Task[Any] | None = None

    def abandon(self) -> None:
        """Close the flow. The search's parts end by themselves; the loser of a race is cancelled."""
        self.first = None
        for loser in (self.own, self.personal if self.once is not None else None):
            if loser is not None and not loser.done():
                loser.cancel()  # which closes its connection
        super().abandon()


async def ended_part(job: TaskJob, until_s: float) -> Personal | None:
    """Wait for the part of a search that is sent once."""
    part = await in_time(job.personal, until_s)
    return personal_of(part)


async def ended_pool(job: TaskJob, until_s: float) -> Explored | None:
    """Wait for the exploration leg of a search."""
    explored = await in_time(job.explored, until_s)
    return explored_of(explored)


async def collected(job: TaskJob, until_s: float) -> Collected:
    """Wait for the parts of a search until the cut-off."""
    if job.batch is not None:
        together = await in_time(job.batch, until_s)
        return collected_in(together, job.number)
    part = await ended_part(job, until_s)
    if part is None or part.reason is not Reason.PERSONALIZED:
        return Collected(part, None)
    return Collected(part, await ended_pool(job, until_s))


async def in_time(task: asyncio.Future[T] | None, until_s: float) -> T | BaseException | None:
    """Return a future's result or error, or None if it has not ended at `until_s` (monotonic). It is not cancelled."""
    if task is None:
        return None
    if not task.done():
        await asyncio.wait({task}, timeout=max(0.0, until_s - time.monotonic()))
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
