"""The batch of searches (`msearch`) in both shells: its jobs, its answers, and the reports of searches without a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from rewriter.alike import alike
from rewriter.client.batch import error_of
from rewriter.client.seam import SearchArguments, SearchClient
from rewriter.core import Core
from rewriter.flow.batch import BEYOND, MAX_SEARCHES
from rewriter.flow.steps import Baseline, first_of_batch
from rewriter.observe.hooks import Hooks
from rewriter.report import Reason, Report, internal_fault
from rewriter.shell.job import Job
from rewriter.subject import Subject

J = TypeVar("J", bound=Job)


class Batch(Generic[J]):
    """One `msearch`: its parsed searches, and the jobs of those that may be personalized.

    unread: why the lines cannot be read as searches. refused: why no optional part runs. first: the steps that the asyncio
            shell starts at the loop's next turn, with the switches of the batch.
    """

    def __init__(self) -> None:
        self.given: Sequence[SearchArguments] = ()
        self.jobs: list[J] = []
        self.unread = ""
        self.refused = ""
        self.subject: Subject | None = None
        self.first: Any = None

    def begin(self, core: Core, given: Sequence[SearchArguments] | str, new_job: Callable[[], J]) -> list[Baseline]:
        """Make the jobs and begin their flows. Returns the first step of each.

        given: the searches, or why the lines cannot be read as searches.
        """
        if isinstance(given, str):
            self.unread = given
            return []
        self.given = given
        steps = []
        for one in given[:MAX_SEARCHES]:
            job = new_job()
            self.jobs.append(job)
            job.subject = self.subject
            steps.append(first_of_batch(job.begin(core, one, batched=True)))
        return steps

    def report_as_sent(self, number: int, item: Any, hooks: Hooks, after_ms: float) -> Report | None:
        """Return the report of a search that is shown as the server answered it, after the hooks were called with it.

        None if its job makes its page.
        """
        kind = error_of(item)
        if number >= len(self.jobs):
            report = self._without_job(number)
        elif kind:
            report = Report(Reason.BASELINE_PARTIAL, f"the caller's own search failed: {kind}")
        else:
            return None
        hooks.of_batch(self.arguments(number), self.subject, item, report, kind, after_ms)
        return report

    def arguments(self, number: int) -> dict[str, Any]:
        """Return the index and body of a search, as arguments of `search`, for hooks."""
        if number >= len(self.given):
            return {}
        return {"index": self.given[number].index, "body": self.given[number].body}

    @property
    def reports_without_answers(self) -> list[Report]:
        """The reports of all searches, if the batch's answer has no `responses` (`filter_path` can leave them out)."""
        return [Report(Reason.UNSUPPORTED, "the answer to the batch has no `responses`") for _ in self.given]

    def abandon(self) -> None:
        """Release the permits that the searches hold. Their part ends without a signal."""
        self.first = None
        for job in self.jobs:
            job.abandon()

    def _without_job(self, number: int) -> Report:
        if self.unread:
            return Report(Reason.UNSUPPORTED, self.unread)
        if self.refused or number >= len(self.given):
            return Report(Reason.SWITCHED_OFF, self.refused)
        return Report(Reason.UNSUPPORTED, BEYOND)


def items_of(body: Any) -> list[Any] | None:
    """Return the answers of a batch in their order, None if its body has another form."""
    items = body.get("responses") if isinstance(body, Mapping) else None
    return items if isinstance(items, list) else None


def response_with(client: SearchClient, response: Any, shown: Sequence[Any]) -> Any:
    """Return the response to a batch with these answers, in its own class; the response itself if they are its own."""
    body = client.body_of(response)
    if all(one is item for one, item in zip(shown, body["responses"], strict=True)):
        return response
    return client.with_body(response, alike(body, {**body, "responses": list(shown)}))


def reports_after(error: Exception, client: SearchClient, response: Any, reports: Sequence[Report]) -> list[Report]:
    """Return a report for each answer of a batch, after a fault of the rewriter beyond these reports."""
    count = len(items_of(client.body_of(response)) or ())
    return [*reports, *[Report(Reason.SEARCH_FAILED, internal_fault(error))] * (count - len(reports))]
