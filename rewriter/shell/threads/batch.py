"""One batch of searches (`msearch`) on threads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from rewriter.client.seam import SearchClient
from rewriter.flow.steps import Sent
from rewriter.observe.hooks import Hooks
from rewriter.report import Reason, Report, internal_fault
from rewriter.shell.batch import Batch, items_of, reports_after, response_with
from rewriter.shell.threads.job import ThreadJob
from rewriter.shell.threads.runtimes import ThreadRuntimes
from rewriter.shell.threads.search import ThreadSearches
from rewriter.shell.wrap import Unset, given_or_current
from rewriter.subject import Subject


class ThreadBatches:
    """The batches of one Rewriter. searches: finishes each search of them."""

    def __init__(self, runtimes: ThreadRuntimes, hooks: Hooks, searches: ThreadSearches) -> None:
        self._runtimes = runtimes
        self._hooks = hooks
        self._searches = searches

    def search(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, list[Report]]:
        """Search a batch by `client`, the caller's or the same with other options. Raises what it raises."""
        batch = self._begun(client, subject, arguments)
        started_s = time.monotonic()
        try:
            response = client.raw.msearch(**arguments)
        except BaseException as error:
            batch.abandon()
            self._hooks.failed(arguments, error, (time.monotonic() - started_s) * 1000.0)
            raise
        reports: list[Report] = []
        try:
            arrived_s = time.monotonic()
            if (items := items_of(client.body_of(response))) is None:
                return response, batch.reports_without_answers
            shown = []
            for number, item in enumerate(items):
                page, report = self._answered(batch, number, item, started_s, arrived_s)
                shown.append(page)
                reports.append(report)
            return response_with(client, response, shown), reports
        except Exception as error:  # noqa: BLE001  the caller's answers are here: a fault of ours must not take them away
            return response, reports_after(error, client, response, reports)
        finally:
            batch.abandon()

    def _begun(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> Batch[ThreadJob]:
        """Decide on each search of a batch, and start what runs beside it. Never raises, waits or connects."""
        batch: Batch[ThreadJob] = Batch()
        try:
            runtime = self._runtimes.started()
            if runtime is None:
                batch.refused = self._runtimes.refusal
                return batch
            batch.subject = given_or_current(subject)
            steps = batch.begin(runtime.core, client.read_batch(arguments), partial(ThreadJob, runtime))
            runtime.beside_batch(steps, batch.jobs)
        except Exception as error:  # noqa: BLE001  whatever fails here, the caller's own searches are sent
            batch.abandon()
            batch.refused = internal_fault(error)
        except BaseException:
            batch.abandon()
            raise
        return batch

    def _answered(
        self, batch: Batch[ThreadJob], number: int, item: Any, started_s: float, arrived_s: float
    ) -> tuple[Any, Report]:
        """Return the page of one search of a batch, and its report. Never raises: the caller's own answer is here."""
        try:
            report = batch.report_as_sent(number, item, self._hooks, (arrived_s - started_s) * 1000.0)
            if report is not None:
                return item, report
            job = batch.jobs[number]
            job.arrived_s = arrived_s
            sent = Sent(item, started_s, job.refused or batch.refused)
            return self._searches.finished(job, batch.arguments(number), sent)
        except Exception as error:  # noqa: BLE001  as above
            return item, Report(Reason.SEARCH_FAILED, internal_fault(error))
