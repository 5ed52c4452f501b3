"""The batch of searches (`msearch`) in both shells: its jobs, and the reports of searches without a job."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from rewriter.alike import alike
from rewriter.client.batch import error_of
from rewriter.client.seam import SearchArguments
from rewriter.flow.batch import BEYOND, together
from rewriter.flow.steps import Baseline
from rewriter.report import Reason, Report
from rewriter.subject import Subject

J = TypeVar("J")


class Batch(Generic[J]):
    """One `msearch`: its parsed searches, and the jobs of those that may be personalized.

    unread: why the lines cannot be read as searches. refused: why no optional part runs. first: the steps that the asyncio
            shell starts at the loop's next turn, with the switches of the batch.
    """

    def __init__(self) -> None:
        self.given: list[SearchArguments] = []
        self.jobs: list[J] = []
        self.unread = ""
        self.refused = ""
        self.subject: Subject | None = None
        self.first: Any = None

    def job(self, number: int) -> J | None:
        """Return the job of the search with this number, None if it has none."""
        return self.jobs[number] if number < len(self.jobs) else None

    def arguments(self, number: int) -> dict[str, Any]:
        """Return the index and body of a search, as arguments of `search`, for hooks."""
        if number >= len(self.given):
            return {}
        return {"index": self.given[number].index, "body": self.given[number].body}

    @property
    def reports_without_answers(self) -> list[Report]:
        """The reports of all searches, if the batch's answer has no `responses` (`filter_path` can leave them out)."""
        return [Report(Reason.UNSUPPORTED, "the answer to the batch has no `responses`") for _ in self.given]

    def report(self, number: int) -> Report:
        """Return the report of a search that has no job."""
        if self.unread:
            return Report(Reason.UNSUPPORTED, self.unread)
        if self.refused or number >= len(self.given):
            return Report(Reason.SWITCHED_OFF, self.refused)
        return Report(Reason.UNSUPPORTED, BEYOND)


class _Job(Protocol):
    """One search of a batch, in either shell: the batch's running part, the search's number and policy, and why no part runs."""

    batch: Any
    number: int
    policy: str
    refused: str


class _Runtime(Protocol):
    """The runtime of either shell, which starts a part, or has a reason why it cannot."""

    def refusal(self, policy: str) -> str: ...

    def begin(self, part: Generator[Any, Any, Any], job: Any) -> Any: ...


def start_beside(runtime: _Runtime, steps: Sequence[Baseline], jobs: Sequence[_Job]) -> None:
    """Start the parts beside a batch of searches as one part. If that is impossible, each job's `refused` holds the reason."""
    own = [(step.policy, job) for step, job in zip(steps, jobs, strict=True) if step.beside is not None]
    if not own:
        return
    policy, first = own[0]
    first.policy = policy
    batch = runtime.begin(together([step.beside for step in steps]), first)
    for number, (step, job) in enumerate(zip(steps, jobs, strict=True)):
        if step.beside is None:
            continue
        job.batch, job.number = batch, number
        if batch is None:
            step.beside.close()
            job.refused = runtime.refusal(policy)


def failed(item: Any) -> Report | None:
    """Return the report of a search that the server answered with an error, None for any other search."""
    kind = error_of(item)
    return Report(Reason.BASELINE_PARTIAL, f"the caller's own search failed: {kind}") if kind else None


def items_of(body: Any) -> list[Any] | None:
    """Return the answers of a batch in their order, None if its body has another form."""
    items = body.get("responses") if isinstance(body, Mapping) else None
    return items if isinstance(items, list) else None


def with_items(body: Mapping[str, Any], items: Sequence[Any]) -> Any:
    """Return the body of a batch with other answers, in the class of `body`, which is not modified."""
    return alike(body, {**body, "responses": list(items)})
