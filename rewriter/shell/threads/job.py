"""One search on threads: its parts on workers, and the caller's waits for them."""

from __future__ import annotations

import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, TypeVar

from rewriter.client.limits import LegLimits
from rewriter.flow.part_results import collected_in, explored_of, personal_of
from rewriter.flow.steps import Collected, Explored, Personal
from rewriter.report import Reason
from rewriter.shell.job import Job

if TYPE_CHECKING:
    from rewriter.shell.threads.runtime import ThreadRuntime

T = TypeVar("T")


class ThreadJob(Job):
    """One search, with its parts. runtime: of its process, None if there is none.

    batch:  of a search of a batch, the part of all of them.
    limits: of the search that is sent once, while it is in flight; over: its search has ended.
    """

    __slots__ = ("batch", "explored", "limits", "over", "personal", "runtime")

    def __init__(self, runtime: ThreadRuntime | None = None) -> None:
        super().__init__()
        self.runtime = runtime
        self.personal: Future[Personal] | None = None
        self.explored: Future[Explored] | None = None
        self.batch: Future[list[Collected]] | None = None
        self.limits: LegLimits | None = None
        self.over = False

    def abandon(self) -> None:
        """Close the flow. The search's parts end by themselves; a rewritten search is ended."""
        self.over = True  # before `limits` is read: the worker writes it, and then reads this
        if self.once is not None and self.limits is not None and self.personal is not None and not self.personal.done():
            self.limits.end()
        super().abandon()


def ended_part(job: ThreadJob, until_s: float) -> Personal | None:
    """Wait for the part of a search that is sent once."""
    part = in_time(job.personal, until_s)
    return personal_of(part)


def ended_pool(job: ThreadJob, until_s: float) -> Explored | None:
    """Wait for the exploration leg of a search."""
    explored = in_time(job.explored, until_s)
    return explored_of(explored)


def collected(job: ThreadJob, until_s: float) -> Collected:
    """Wait for the parts of a search until the cut-off."""
    if job.batch is not None:
        together = in_time(job.batch, until_s)
        return collected_in(together, job.number)
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
