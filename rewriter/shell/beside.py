"""The parts that either runtime begins for searches: beside a caller's own search, beside a batch, and of a search sent once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any

from rewriter.flow.batch import together
from rewriter.flow.steps import Baseline, SendOnce
from rewriter.plural import count_of
from rewriter.shell.bulkhead import Bulkhead


class Beside(ABC):
    """Begins parts of searches, or notes why a part could not be begun. Each shell says on what a part runs.

    in_flight: permits of the parts beside a search; rewritten: of searches sent once.
    """

    in_flight: Bulkhead
    rewritten: Bulkhead

    @property
    def refused(self) -> str:
        """Why no part of any policy can be begun, or ""."""
        return ""

    @abstractmethod
    def begin(self, part: Generator[Any, Any, Any], job: Any) -> Any:
        """Start a part beside the caller's own search. Returns its future, or None if it could not be begun."""

    @abstractmethod
    def begin_once(self, part: Generator[Any, Any, Any], job: Any) -> Any:
        """Start the part of a search that is sent once. Returns its future, or None if it could not be begun."""

    def beside(self, step: Baseline, job: Any) -> None:
        """Start the personal part beside the caller's own search. If that is impossible, `job.refused` says why."""
        if step.beside is None:
            return
        job.policy = step.policy
        job.personal = self.begin(step.beside, job)
        if job.personal is None:
            job.refused = self._refusal(step.policy)

    def beside_batch(self, steps: Sequence[Baseline], jobs: Sequence[Any]) -> None:
        """Start the parts beside a batch of searches as one part. If that is impossible, each job's `refused` holds the reason."""
        own = [(step.policy, job) for step, job in zip(steps, jobs, strict=True) if step.beside is not None]
        if not own:
            return
        policy, first = own[0]
        first.policy = policy
        batch = self.begin(together([step.beside for step in steps]), first)
        for number, (step, job) in enumerate(zip(steps, jobs, strict=True)):
            if step.beside is None:
                continue
            job.batch, job.number = batch, number
            if batch is None:
                step.beside.close()
                job.refused = self._refusal(policy)

    def send_once(self, step: SendOnce, job: Any) -> str:
        """Start the part of a search that is sent once; return why it cannot be, or ""."""
        job.policy = step.policy
        job.personal = self.begin_once(step.part, job)
        if job.personal is not None:
            return ""
        full = f"{count_of(self.rewritten.cap, 'rewritten search')} in flight"
        return self.refused or self.rewritten.kept(step.policy) or full

    def _refusal(self, policy: str) -> str:
        """Return why a part of a policy's search could not be begun."""
        return self.refused or self.in_flight.kept(policy) or f"{count_of(self.in_flight.cap, 'leg')} in flight"
