"""One search on threads: the caller's own on the caller's thread, its parts on workers.

`search` keeps promise P1: the code before the caller's own search raises nothing, waits for nothing and connects to nothing, and
the code after it cannot lose the answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, assert_never

from rewriter.client.seam import SearchClient
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
from rewriter.shell.drive import drive
from rewriter.shell.threads.job import ThreadJob, collected, ended_part, ended_pool
from rewriter.shell.threads.own_search import OwnSearch
from rewriter.shell.threads.runtime import ThreadRuntime
from rewriter.shell.threads.runtimes import ThreadRuntimes
from rewriter.shell.wrap import Unset, given_or_current
from rewriter.subject import Subject


class ThreadSearches:
    """The searches of one Rewriter."""

    def __init__(self, runtimes: ThreadRuntimes, hooks: Hooks) -> None:
        self._runtimes = runtimes
        self._hooks = hooks

    def search(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Search by `client`, the caller's or the same with other options. Raises what it raises."""
        job = self._begun(client, subject, arguments)
        if job.once is not None:
            return self._sent_once(client, job, job.once, arguments)
        started_s = time.monotonic()
        try:
            response = client.raw.search(**arguments)
        except BaseException as error:
            job.abandon()
            self._hooks.failed(arguments, error, (time.monotonic() - started_s) * 1000.0)
            raise
        try:
            body = client.body_of(response)
            shown, report = self.finished(job, arguments, Sent(body, started_s, job.refused))
            return response if shown is body else client.with_body(response, shown), report
        except Exception as error:  # noqa: BLE001  the caller's answer has arrived: a fault of ours must not lose it
            return response, Report(Reason.SEARCH_FAILED, internal_fault(error))
        finally:
            job.abandon()

    def finished(self, job: ThreadJob, arguments: Mapping[str, Any], sent: Sent) -> tuple[Any, Report]:
        """Return the page and its report, once the caller's own search was answered."""
        runtime = job.runtime
        response, report = sent.response, Report(Reason.SWITCHED_OFF, job.refused)
        if runtime is not None and job.flow is not None:
            response, report = drive(job.flow, lambda step: _perform(runtime, job, step), first=sent)
        if runtime is not None:
            runtime.tally.note(report.reason, time.monotonic())
        self._hooks.finished(arguments, job.subject, response, report)
        return response, report

    def _begun(self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]) -> ThreadJob:
        """Decide, and start the parts beside the caller's own search. Never raises an Exception, waits or connects."""
        job = ThreadJob()
        try:
            job.runtime = self._runtimes.started()
            if job.runtime is None:
                job.refused = self._runtimes.refusal
                return job
            job.subject = given_or_current(subject)
            step = first_step(job.begin(job.runtime.core, client.read(arguments)))
            if isinstance(step, SendOnce):
                job.once = step
            else:
                job.runtime.beside(step, job)
        except Exception as error:  # noqa: BLE001  the caller's own search is sent in any case
            job.abandon()
            job.refused = internal_fault(error)
        except BaseException:
            job.abandon()
            raise
        return job

    def _sent_once(
        self, client: SearchClient, job: ThreadJob, first: SendOnce, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Answer a search that is sent once, with boosts in it; the caller's own is sent where that does not serve."""
        own, runtime, flow = OwnSearch(client, arguments), job.runtime, job.flow
        assert runtime is not None
        assert flow is not None
        try:
            refused = runtime.send_once(first, job)
            shown, report = drive(flow, lambda step: _perform(runtime, job, step, own), first=refused)
            response = own.response_with(shown, job.rewritten, report)
        except Exception as error:  # noqa: BLE001  a fault of ours must not cost the caller a search
            try:
                response = own.whatever_happened()
            except Exception as own_error:
                self._hooks.failed(arguments, own_error, (time.monotonic() - own.started_s) * 1000.0)
                raise
            shown, report = client.body_of(response), Report(Reason.SEARCH_FAILED, internal_fault(error))
        finally:
            job.abandon()
        with suppress(Exception):  # the answer is here
            runtime.tally.note(report.reason, time.monotonic())
            self._hooks.finished(arguments, job.subject, shown, report)
        return response, report


def _perform(runtime: ThreadRuntime, job: ThreadJob, step: CallerStep, own: OwnSearch | None = None) -> Any:
    """Perform a step of `answer` on the caller's thread. Without `own`, the caller's own search was answered before."""
    match step:
        case AwaitPart(until_s):
            return ended_part(job, until_s)
        case AwaitPool(wait_s):
            return ended_pool(job, time.monotonic() + wait_s)
        case SendOwn() if own is not None:
            return own.sent()
        case Baseline() if own is not None:
            job.once = job.personal = None
            runtime.beside(step, job)
            return replace(own.sent(), refused=job.refused)
        case Collect(cutoff_s):
            arrived_s = time.monotonic() if job.arrived_s is None else job.arrived_s
            return collected(job, arrived_s + cutoff_s)
        case SavePlan():
            runtime.plans.save(step)
            return None
        case Baseline() | SendOwn() | SendOnce() | AwaitOwn():
            raise TypeError(f"{type(step).__name__} is no step of a search whose baseline was sent")
    assert_never(step)
