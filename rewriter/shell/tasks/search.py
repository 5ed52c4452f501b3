"""One search on an event loop: the caller's own on the caller's task, its parts on other tasks.

The caller's own search goes first: the rewriter's work begins once that search waits for the server (`underway`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, assert_never

from rewriter.client.seam import SearchClient
from rewriter.flow.rewrite_way import may_be_sent_once
from rewriter.flow.steps import (
    AwaitOwn,
    AwaitPart,
    AwaitPool,
    Baseline,
    CallerStep,
    Collect,
    SavePlan,
    SendOnce,
    SendOwn,
    Sent,
    first_step,
)
from rewriter.observe.hooks import Hooks
from rewriter.report import Reason, Report, internal_fault
from rewriter.settings import Settings
from rewriter.shell.drive import drive_async
from rewriter.shell.tasks.job import TaskJob, collected, ended_part, ended_pool
from rewriter.shell.tasks.own_search import OwnSearch
from rewriter.shell.tasks.runtimes import TaskRuntimes
from rewriter.shell.tasks.underway import Underway
from rewriter.shell.wrap import Unset, given_or_current
from rewriter.subject import Subject


class TaskSearches:
    """The searches of one AsyncRewriter."""

    def __init__(self, runtimes: TaskRuntimes, hooks: Hooks, settings: Settings) -> None:
        self._runtimes = runtimes
        self._hooks = hooks
        self._settings = settings

    async def search(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Search by `client`, the caller's or the same with other options. Raises what it raises."""
        job = TaskJob()
        if may_be_sent_once(self._settings, arguments.get("index")):
            self._begin(job, client, subject, arguments)
            if job.once is not None:
                return await self._sent_once(client, job, job.once, arguments)
        started_s = time.monotonic()

        def begin() -> None:
            if job.begun:
                self._begin_first(job)
            else:
                self._begin(job, client, subject, arguments)

        try:
            response = await Underway(client.raw.search(**arguments), begin)
        except BaseException as error:
            job.abandon()
            self._hooks.failed(arguments, error, (time.monotonic() - started_s) * 1000.0)
            raise
        try:
            if not job.begun:  # the search had nothing to wait for
                begin()
            self._begin_first(job)
            body = client.body_of(response)
            shown, report = await self.finished(job, arguments, Sent(body, started_s, job.refused))
            return response if shown is body else client.with_body(response, shown), report
        except Exception as error:  # noqa: BLE001  the caller's answer has arrived: a fault of ours must not lose it
            return response, Report(Reason.SEARCH_FAILED, internal_fault(error))
        finally:
            job.abandon()

    async def finished(self, job: TaskJob, arguments: Mapping[str, Any], sent: Sent) -> tuple[Any, Report]:
        """Return the page and its report, once the caller's own search was answered."""
        response, report = sent.response, Report(Reason.SWITCHED_OFF, job.refused)
        if job.flow is not None:
            response, report = await drive_async(job.flow, lambda step: _perform(job, step), first=sent)
        if job.runtime is not None:
            job.runtime.tally.note(report.reason, time.monotonic())
        self._hooks.finished(arguments, job.subject, response, report)
        return response, report

    def _begin(
        self, job: TaskJob, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> None:
        """Decide, and start the parts beside the caller's own search, which is under way. Never raises, waits or connects.

        On a loop's first search, the loop's runtime is made one turn of the loop later, after the caller's own search was sent.
        """
        job.begun = True
        try:
            if self._runtimes.closed:
                job.refused = self._runtimes.refusal
                return
            job.subject = given_or_current(subject)
            core = self._runtimes.core
            step = first_step(job.begin(core, client.read(arguments)))
            if isinstance(step, SendOnce):
                job.once, job.runtime = step, self._runtimes.present
                return
            if may_be_sent_once(self._settings, arguments.get("index")):  # it is not under way yet
                job.first = step, core.snapshot.switches
                return
            job.runtime = self._runtimes.present
            if job.runtime is not None:
                job.runtime.beside(step, job)
            else:
                job.first = step, core.snapshot.switches
                asyncio.get_running_loop().call_soon(self._begin_first, job)
        except Exception as error:  # noqa: BLE001  the caller's own search is under way and must not fail with it
            job.abandon()
            job.refused = internal_fault(error)

    def _begin_first(self, job: TaskJob) -> None:
        """Start the parts beside the first search of a loop, unless they were started."""
        if job.first is None:
            return
        (step, switches), job.first = job.first, None
        try:
            runtime = self._runtimes.started_with(switches)
            if isinstance(runtime, str):
                job.refused = runtime
            else:
                job.runtime = runtime
                runtime.beside(step, job)
        except Exception as error:  # noqa: BLE001  as in `_begin`
            job.refused = internal_fault(error)

    async def _sent_once(
        self, client: SearchClient, job: TaskJob, first: SendOnce, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Answer a search that is sent once, with boosts in it; the caller's own is sent where that does not serve."""
        own, flow = OwnSearch(client, arguments, job), job.flow
        assert flow is not None
        try:
            if job.runtime is not None:
                refused = job.runtime.send_once(first, job)
            else:  # what the loop needs is made once the caller's own search is under way
                first.part.close()
                refused = "nothing is known on this event loop yet"
                asyncio.get_running_loop().call_soon(self._runtimes.started)
            shown, report = await drive_async(flow, lambda step: _perform(job, step, own), first=refused)
            response = own.response_with(shown, job.rewritten, report)
        except Exception as error:  # noqa: BLE001  a fault of ours must not cost the caller a search
            try:
                response = await own.whatever_happened()
            except Exception as own_error:
                self._hooks.failed(arguments, own_error, (time.monotonic() - own.started_s) * 1000.0)
                raise
            shown, report = client.body_of(response), Report(Reason.SEARCH_FAILED, internal_fault(error))
        finally:
            job.abandon()
        with suppress(Exception):  # the answer is here
            if job.runtime is not None:
                job.runtime.tally.note(report.reason, time.monotonic())
            self._hooks.finished(arguments, job.subject, shown, report)
        return response, report


async def _perform(job: TaskJob, step: CallerStep, own: OwnSearch | None = None) -> Any:
    """Perform a step of `answer` on the caller's task. Without `own`, the caller's own search was answered before."""
    runtime = job.runtime
    match step:
        case AwaitPart(until_s):
            return await ended_part(job, until_s)
        case AwaitPool(wait_s):
            return await ended_pool(job, time.monotonic() + wait_s)
        case SendOwn(racing) if own is not None:
            return await (own.raced() if racing else own.sent())
        case AwaitOwn() if own is not None:
            return await own.awaited()
        case Baseline() if own is not None:
            job.once = job.personal = None
            sent = await own.sent(lambda: runtime.beside(step, job) if runtime is not None else None)
            return replace(sent, refused=job.refused)
        case Collect(cutoff_s):
            arrived_s = time.monotonic() if job.arrived_s is None else job.arrived_s
            return await collected(job, arrived_s + cutoff_s)
        case SavePlan():
            if runtime is not None:
                runtime.plans.save(step)
            return None
        case Baseline() | SendOwn() | SendOnce() | AwaitOwn():
            raise TypeError(f"{type(step).__name__} is no step of a search whose baseline was sent")
    assert_never(step)
