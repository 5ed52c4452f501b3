"""One search on an event loop: its flow, its parts in tasks, and the caller's waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from rewriter.decide.switches import Switches
from rewriter.flow.steps import Baseline, Collected, Explored, Personal, SendOnce
from rewriter.report import Reason
from rewriter.subject import Subject

if TYPE_CHECKING:
    from rewriter.shell.tasks import TaskRuntime

T = TypeVar("T")


class Job:
    """One search: its flow, where it has one, its parts, and why nothing runs beside it, where nothing does.

    policy: whose permits its parts take.
    batch, number: of a search among several, the part of all of them and its place. arrived_s: when the batch was answered.
    once: the step of a search that is sent once; own: the caller's own search, where it runs beside that one.
    rewritten: the response to the former, as its client gave it.
    """

    __slots__ = (
        "arrived_s",
        "batch",
        "begun",
        "explored",
        "first",
        "flow",
        "here",
        "number",
        "once",
        "own",
        "personal",
        "policy",
        "refused",
        "rewritten",
        "subject",
    )

    def __init__(self) -> None:
        self.begun = False
        self.here: TaskRuntime | None = None
        self.first: tuple[Baseline, Switches] | None = None
        self.flow: Generator[Any, Any, Any] | None = None
        self.personal: asyncio.Future[Personal] | None = None
        self.explored: asyncio.Future[Explored] | None = None
        self.batch: asyncio.Future[list[Collected]] | None = None
        self.number = 0
        self.arrived_s: float | None = None
        self.once: SendOnce | None = None
        self.own: asyncio.Task[Any] | None = None
        self.rewritten: Any = None
        self.policy = ""
        self.refused = ""
        self.subject: Subject | None = None

    def abandon(self) -> None:
        """Close the flow, which gives the search's permit back. Its parts end by themselves; the loser of a race is cancelled."""
        self.first = None
        for loser in (self.own, self.personal if self.once is not None else None):
            if loser is not None and not loser.done():
                loser.cancel()  # which closes its connection
        if self.flow is not None:
            self.flow.close()
            self.flow = None


async def ended_part(job: Job, until_s: float) -> Personal | None:
    """Wait for the part of a search that is sent once."""
    part = await in_time(job.personal, until_s)
    return (
        Personal(Reason.SEARCH_FAILED, f"internal: {type(part).__name__}") if isinstance(part, BaseException) else part
    )


async def ended_pool(job: Job, until_s: float) -> Explored | None:
    """Wait for the exploration leg of a search."""
    explored = await in_time(job.explored, until_s)
    return Explored(error=f"internal: {type(explored).__name__}") if isinstance(explored, BaseException) else explored


async def collected(job: Job, until_s: float) -> Collected:
    """Wait for the parts of a search until the cut-off."""
    if job.batch is not None:
        together = await in_time(job.batch, until_s)
        if isinstance(together, BaseException):
            return Collected(Personal(Reason.SEARCH_FAILED, f"internal: {type(together).__name__}"), None)
        return Collected(None, None) if together is None else together[job.number]
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
