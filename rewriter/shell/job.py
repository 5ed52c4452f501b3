"""One search in either shell: its flow, and the reason why nothing of the rewriter's runs beside it, if nothing does.

This is the only place where a search gets the time and its seed.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from secrets import randbits
from typing import Any

from rewriter.client.seam import SearchArguments
from rewriter.core import Core
from rewriter.flow.answer import answer
from rewriter.flow.steps import CallerStep, SendOnce
from rewriter.report import Report
from rewriter.subject import Subject


class Job:
    """One search: its flow, where it has one, and why nothing runs beside it, where nothing does.

    number, arrived_s: of a search of a batch, its number among them, and when the batch was answered (monotonic).
    policy:    whose permits its parts take.
    once:      the step of a search that is sent once.
    rewritten: the response to that search, as its client gave it.
    """

    __slots__ = ("arrived_s", "flow", "number", "once", "policy", "refused", "rewritten", "subject")

    def __init__(self) -> None:
        self.flow: Generator[CallerStep, Any, tuple[Any, Report]] | None = None
        self.number = 0
        self.arrived_s: float | None = None
        self.once: SendOnce | None = None
        self.rewritten: Any = None
        self.policy = ""
        self.refused = ""
        self.subject: Subject | None = None

    def begin(
        self, core: Core, arguments: SearchArguments, *, batched: bool = False
    ) -> Generator[CallerStep, Any, tuple[Any, Report]]:
        """Make the flow of the search, whose subject is known. batched: see `answer`."""
        self.flow = flow = answer(
            core, arguments, self.subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic, batched=batched
        )
        return flow

    def abandon(self) -> None:
        """Close the flow, which releases the search's permit. Each shell also ends its abandoned parts."""
        if self.flow is not None:
            self.flow.close()
            self.flow = None
