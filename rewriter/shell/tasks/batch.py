"""One batch of searches (`msearch`) on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rewriter.client.seam import SearchClient
from rewriter.flow.steps import Baseline, Sent
from rewriter.observe.hooks import Hooks
from rewriter.report import Reason, Report, internal_fault
from rewriter.shell.batch import Batch, items_of, reports_after, response_with
from rewriter.shell.tasks.job import TaskJob
from rewriter.shell.tasks.runtime import TaskRuntime
from rewriter.shell.tasks.runtimes import TaskRuntimes
from rewriter.shell.tasks.search import TaskSearches
from rewriter.shell.tasks.underway import Underway
from rewriter.shell.wrap import Unset, given_or_current
from rewriter.subject import Subject


class TaskBatches:
    """The batches of one AsyncRewriter. searches: finishes each search of them."""

    def __init__(self, runtimes: TaskRuntimes, hooks: Hooks, searches: TaskSearches) -> None:
        self._runtimes = runtimes
        self._hooks = hooks
        self._searches = searches

    async def search(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, list[Report]]:
        """Search a batch by `client`, the caller's or the same with other options. Raises what it raises."""
        batch: Batch[TaskJob] = Batch()
        begun: list[bool] = []
        started_s = time.monotonic()

        def begin() -> None:
            begun.append(True)
            self._begin(batch, client, subject, arguments)

        try:
            response = await Underway(client.raw.msearch(**arguments), begin)
        except BaseException as error:
            batch.abandon()
            self._hooks.failed(arguments, error, (time.monotonic() - started_s) * 1000.0)
            raise
        reports: list[Report] = []
        try:
            if not begun:  # the searches had nothing to wait for
                begin()
            self._begin_first(batch)
            arrived_s = time.monotonic()
            if (items := items_of(client.body_of(response))) is None:
                return response, batch.reports_without_answers
            shown = []
            for number, item in enumerate(items):
                page, report = await self._answered(batch, number, item, started_s, arrived_s)
                shown.append(page)
                reports.append(report)
            return response_with(client, response, shown), reports
        except Exception as error:  # noqa: BLE001  the caller's answers are here: a fault of ours must not take them away
            return response, reports_after(error, client, response, reports)
        finally:
            batch.abandon()

    def _begin(
        self,
        batch: Batch[TaskJob],
        client: SearchClient,
        subject: Subject | Unset | None,
        arguments: Mapping[str, Any],
    ) -> None:
        """Decide on each search of a batch that is under way, and start what runs beside it. Never raises, waits or connects."""
        try:
            if self._runtimes.closed:
                batch.refused = self._runtimes.refusal
                return
            batch.subject = given_or_current(subject)
            core = self._runtimes.core
            steps = batch.begin(core, client.read_batch(arguments), TaskJob)
            runtime = self._runtimes.present
            if runtime is not None:
                _beside(runtime, steps, batch)
            elif steps:
                batch.first = steps, core.snapshot.switches
                asyncio.get_running_loop().call_soon(self._begin_first, batch)
        except Exception as error:  # noqa: BLE001  whatever fails here, the caller's own searches are under way
            batch.abandon()
            batch.refused = internal_fault(error)

    def _begin_first(self, batch: Batch[TaskJob]) -> None:
        """Start what runs beside the first batch of a loop, unless that is done."""
        if batch.first is None:
            return
        (steps, switches), batch.first = batch.first, None
        try:
            runtime = self._runtimes.started_with(switches)
            if isinstance(runtime, str):
                batch.refused = runtime
            else:
                _beside(runtime, steps, batch)
        except Exception as error:  # noqa: BLE001  as above
            batch.refused = internal_fault(error)

    async def _answered(
        self, batch: Batch[TaskJob], number: int, item: Any, started_s: float, arrived_s: float
    ) -> tuple[Any, Report]:
        """Return the page of one search of a batch, and its report. Never raises: the caller's own answer is here."""
        try:
            report = batch.report_as_sent(number, item, self._hooks, (arrived_s - started_s) * 1000.0)
            if report is not None:
                return item, report
            job = batch.jobs[number]
            job.arrived_s = arrived_s
            sent = Sent(item, started_s, job.refused or batch.refused)
            return await self._searches.finished(job, batch.arguments(number), sent)
        except Exception as error:  # noqa: BLE001  as above
            return item, Report(Reason.SEARCH_FAILED, internal_fault(error))


def _beside(runtime: TaskRuntime, steps: Sequence[Baseline], batch: Batch[TaskJob]) -> None:
    for job in batch.jobs:
        job.runtime = runtime
    runtime.beside_batch(steps, batch.jobs)
