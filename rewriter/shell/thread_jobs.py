"""One search on threads: its flow, its parts on workers, and the caller's waits for them."""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Any, TypeVar

from rewriter.client.limits import LegLimits
from rewriter.flow.steps import Collected, Explored, Personal, SendOnce
from rewriter.report import Reason
from rewriter.subject import Subject

if TYPE_CHECKING:
    from rewriter.shell.threads import ThreadRuntime

T = TypeVar("T")


class Job:
    """One search: its flow, where it has one, its parts, and why nothing runs beside it, where nothing does.

    policy:    whose permits its parts take.
    batch, number: of a search among several, the part of all of them and its place. arrived_s: when the batch was answered.
    once:      the step of a search that is sent once; limits: of that search, once it is sent; over: nobody waits for it any more.
    rewritten: the response to that search, as its client gave it.
    """

    __slots__ = (
        "arrived_s", "batch", "explored", "flow", "limits", "number", "once", "over", "personal", "policy", "process", "refused",
        "rewritten", "subject",
    )  # fmt: skip

    def __init__(self) -> None:
        self.process: ThreadRuntime | None = None
        self.flow: Generator[Any, Any, Any] | None = None
        self.personal: Future[Personal] | None = None
        self.explored: Future[Explored] | None = None
        self.batch: Future[list[Collected]] | None = None
        self.number = 0
        self.arrived_s: float | None = None
        self.once: SendOnce | None = None
        self.limits: LegLimits | None = None
        self.over = False
        self.rewritten: Any = None
        self.policy = ""
        self.refused = ""
        self.subject: Subject | None = None

    def abandon(self) -> None:
        """Close the flow, which gives the search's permit back. Its parts end by themselves; a rewritten search is ended."""
        self.over = True  # before `limits` is read: the worker writes it, and then reads this
        if self.once is not None and self.limits is not None and self.personal is not None and not self.personal.done():
            self.limits.end()
        if self.flow is not None:
            self.flow.close()
            self.flow = None


def ended_part(job: Job, until_s: float) -> Personal | None:
    """Wait for the part of a search that is sent once."""
    part = in_time(job.personal, until_s)
    return Personal(Reason.SEARCH_FAILED, f"internal: {type(part).__name__}") if isinstance(part, Exception) else part


def ended_pool(job: Job, until_s: float) -> Explored | None:
    """Wait for the exploration leg of a search."""
    explored = in_time(job.explored, until_s)
    return Explored(error=f"internal: {type(explored).__name__}") if isinstance(explored, Exception) else explored


def collected(job: Job, until_s: float) -> Collected:
    """Wait for the parts of a search until the cut-off."""
    if job.batch is not None:
        together = in_time(job.batch, until_s)
        if isinstance(together, Exception):
            return Collected(Personal(Reason.SEARCH_FAILED, f"internal: {type(together).__name__}"), None)
        return Collected(None, None) if together is None else together[job.number]
    part = ended_part(job, until_s)
    if part is None or part.reason is not Reason.PERSONALIZED:
        return Collected(part, None)
    return Collected(part, ended_pool(job, until_s))


def in_time(future: Future[T] | None, until_s: float) -> T | Exception | None:
    """Return a future's result or error, or None if it has not ended at `until_s` (monotonic)."""
    if future is None:
        return None
    try:
        return future.result(max(0.0, until_s - time.monotonic()))
    except NotYet:
        return None
    except Exception as error:  # noqa: BLE001  the caller reports it; a search must not raise it
        return error
