"""A shell without deadlines: it performs the steps of the library's flow one after the other, so nothing is ever late.

Its rankings equal those of the rewriter, from the check of the search's shape to the merged page. It measures no speed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewriter.client.seam import SearchArguments
from rewriter.core import Core
from rewriter.flow.answer import answer
from rewriter.flow.steps import (
    Baseline,
    Collect,
    Collected,
    Explored,
    FetchSignals,
    Launch,
    Personal,
    SavePlan,
    SearchLeg,
    Sent,
)
from rewriter.report import Report
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_layout import packed_classes
from rewriter.signals.commands import members_of
from rewriter.signals.counters import Counters
from rewriter.signals.store import Signals, SignalsQuery
from rewriter.subject import Subject

Search = Callable[[Mapping[str, Any]], Any]


@dataclass(slots=True)
class Straight:
    """One search; `profile` returns the counters of a read, `baseline` sends the baseline, and `search` sends the other legs.

    Any error ends the benchmark. session: the counters of the visit so far, if the search has a session.
    """

    arguments: Mapping[str, Any]
    profile: Callable[[SignalsQuery], Counters]
    classes: Callable[[tuple[str, ...]], Mapping[str, ClassCounters]]
    baseline: Search
    search: Search
    session: Counters | None = None
    personal: Personal | None = None
    explored: Explored | None = None
    counters: Counters | None = None
    sent: list[Mapping[str, Any]] = field(default_factory=list)
    bytes_read: int = 0
    read: Mapping[str, ClassCounters] = field(default_factory=dict)

    def run(self, core: Core, user_id: str, *, seed: int, now_s: float) -> tuple[Any, Report]:
        """Return the response and the report of `user_id`'s search at `now_s`."""
        given = SearchArguments(self.arguments["index"], self.arguments["body"])
        subject = Subject(user_id, None if self.session is None else "visit")
        flow = answer(core, given, subject, seed=seed, now_s=now_s, clock_s=lambda: 0.0)
        answered: tuple[Any, Report] = self._drive(flow)
        return answered

    def _drive(self, steps: Generator[Any, Any, Any]) -> Any:
        result = None
        try:
            while True:
                result = self._perform(steps.send(result))
        except StopIteration as end:
            return end.value

    def _perform(self, step: object) -> Any:
        result: Any = None
        match step:
            case Baseline(beside):
                self.personal = self._drive(beside) if beside else None
                result = Sent(self.baseline(self.arguments), 0.0)
            case Launch(part):
                self.explored = self._drive(part)
                result = True
            case FetchSignals(reads):
                query = reads[0].query
                self.read = self.classes(query.classes)
                self.counters = self.profile(query)
                self.bytes_read = bytes_of(self.counters, self.read)
                result = [Signals(session=self.session, profile=self.counters, classes=self.read)]
            case SearchLeg(sent):
                self.sent.append({"index": sent.index, "body": sent.body, "params": sent.params})
                result = self.search(self.sent[-1])
            case Collect():
                result = Collected(self.personal, self.explored)
            case SavePlan():  # no search here is for a later page
                pass
            case _:
                raise AssertionError(f"a step that this shell does not know: {type(step).__name__}")
        return result


def bytes_of(counters: Counters, classes: Mapping[str, ClassCounters]) -> int:
    """Return the bytes of members, scores and packed values that a store's replies hold."""
    members = members_of(counters)
    listed = sum(len(one) for one in members)
    return listed + sum(len(name) + len(raw) for name, raw in packed_classes(classes).items())
