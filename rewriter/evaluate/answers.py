"""A shell without deadlines that runs many searches in step: their legs are sent together, in one `_msearch`.

It runs the flow that serves (`flow.answer`): same shapes, templates, clamp, gate, exploration and merge. Nothing is ever late,
no guard is open, and signals come from a replay instead of a store. It measures no speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from rewriter.client.batch import answers_of
from rewriter.client.seam import LegFault, Search, SearchArguments, SearchClient, leg_fault
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
from rewriter.signals.affinities import Population
from rewriter.signals.counters import Counters
from rewriter.signals.store import Signals, SignalsQuery
from rewriter.subject import Subject

AT_ONCE = 64
"""Number of searches that run in step, and the most that one `_msearch` holds."""
TIMEOUT_S = 120.0
REJECTED = 400
Answered = Mapping[str, Any] | LegFault
Send = Callable[[Sequence[Search]], Sequence[Answered]]
Begin = Callable[[Sequence[Search]], Callable[[], Sequence[Answered]]]
"""Begins to send searches, and returns the function that waits for their answers."""


@dataclass(frozen=True, slots=True)
class Job:
    """One search to answer.

    baseline: the answer to the caller's own search, from an earlier round.
    signals:  the function that answers the read of its signals. population: the population as of its time.
    segments: the counters of its subject's segments as of that time.
    """

    arguments: SearchArguments
    subject: Subject
    baseline: Mapping[str, Any]
    signals: Callable[[SignalsQuery], Signals]
    population: Population
    seed: int
    now_s: float
    segments: Mapping[str, Counters] = field(default_factory=dict)


def at_once(send: Send) -> Begin:
    """Return the function that sends searches before it returns."""

    def begin(searches: Sequence[Search]) -> Callable[[], Sequence[Answered]]:
        found = send(searches)
        return lambda: found

    return begin


def answered(core: Core, jobs: Sequence[Job], begin: Begin, ahead: int = 1) -> list[tuple[Any, Report]]:
    """Return the response and the report of each job, in their order. Raises what sending raises.

    ahead: groups of AT_ONCE jobs that are begun before the first of them is finished: while a server answers one, the next is
    computed. The order of all steps does not depend on how fast the server is.
    """
    found: list[tuple[Any, Report] | None] = [None] * len(jobs)
    waiting: deque[_Group] = deque()
    for start in range(0, len(jobs), AT_ONCE):
        group = _Group(core, jobs, range(start, min(start + AT_ONCE, len(jobs))), found)
        group.send(begin)
        waiting.append(group)
        if len(waiting) == ahead:
            waiting.popleft().finish(begin)
    while waiting:
        waiting.popleft().finish(begin)
    return [one for one in found if one is not None]


class _Group:
    """Some jobs that run in step: their legs are sent together."""

    def __init__(
        self, core: Core, jobs: Sequence[Job], numbers: Sequence[int], found: list[tuple[Any, Report] | None]
    ) -> None:
        self._found = found
        self._running: dict[int, Generator[SearchLeg, Answered, tuple[Any, Report]]] = {}
        self._wanted: dict[int, SearchLeg] = {}
        self._answers: Callable[[], Sequence[Answered]] = tuple
        for number in numbers:
            self._running[number] = _run(core, jobs[number])
            # The flow reads the snapshot at its start.
            core.swap(population=jobs[number].population, segments=jobs[number].segments)
            self._advance(number, None)

    def send(self, begin: Begin) -> None:
        """Begin to send the wanted legs."""
        searches = [leg.search for leg in self._wanted.values()]
        self._answers = begin(searches) if searches else tuple

    def finish(self, begin: Begin) -> None:
        """Wait for the answers to the legs, and continue the jobs until they want no more."""
        while self._wanted:
            answers = self._answers()
            legs, self._wanted = self._wanted, {}
            for number, one in zip(legs, answers, strict=True):
                self._advance(number, one)
            self.send(begin)

    def _advance(self, number: int, answer_: Answered | None) -> None:
        try:
            self._wanted[number] = self._running[number].send(answer_)  # type: ignore[arg-type]
        except StopIteration as end:
            self._found[number] = end.value


def _run(core: Core, job: Job) -> Generator[SearchLeg, Answered, tuple[Any, Report]]:
    """Run the whole flow of one search; yield the legs that it sends."""
    flow = answer(core, job.arguments, job.subject, seed=job.seed, now_s=job.now_s, clock_s=lambda: 0.0)
    parts = _Parts()
    result: Any = None
    while True:
        try:
            step = flow.send(result)
        except StopIteration as end:
            answered_: tuple[Any, Report] = end.value
            return answered_
        match step:
            case Baseline(beside):
                parts.personal = (yield from _part(beside, job, parts)) if beside else None
                result = Sent(job.baseline, 0.0)
            case Collect():
                result = Collected(parts.personal, parts.explored)
            case SavePlan():  # no search here is for a later page
                result = None
            case _:
                raise AssertionError(f"a step that this shell does not know: {type(step).__name__}")


@dataclass(slots=True)
class _Parts:
    personal: Personal | None = None
    explored: Explored | None = None


def _part(steps: Generator[Any, Any, Any], job: Job, parts: _Parts) -> Generator[SearchLeg, Answered, Any]:
    result: Any = None
    while True:
        try:
            step = steps.throw(result) if isinstance(result, LegFault) else steps.send(result)
        except StopIteration as end:
            return end.value
        match step:
            case FetchSignals(reads):
                result = [job.signals(read.query) for read in reads]
            case Launch(part):
                parts.explored = yield from _part(part, job, parts)
                result = True
            case SearchLeg():
                result = yield step
            case _:
                raise AssertionError(f"a step that this shell does not know: {type(step).__name__}")


class OnceEach:
    """Sends each different search once until it forgets: variants of one policy send many of the same legs."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._answers: dict[bytes, Answered] = {}

    def __call__(self, searches: Sequence[Search]) -> list[Answered]:
        """Answer searches, as Send."""
        keys = [_key(one) for one in searches]
        unknown = {key: one for key, one in zip(keys, searches, strict=True) if key not in self._answers}
        if unknown:
            self._answers |= zip(unknown, self._send(list(unknown.values())), strict=True)
        return [self._answers[key] for key in keys]

    def forget(self) -> None:
        """Forget the answers."""
        self._answers.clear()


def sender(client: SearchClient) -> Send:
    """Return the function that sends searches by `_msearch`, each different search once. A failed search gives a LegFault."""

    def sent(searches: Sequence[Search]) -> list[Answered]:
        starts = range(0, len(searches), AT_ONCE)
        return [one for start in starts for one in _sent(client, searches[start : start + AT_ONCE])]

    def send(searches: Sequence[Search]) -> list[Answered]:
        return OnceEach(sent)(searches)

    return send


def _key(search: Search) -> bytes:
    parts = [search.index, search.params, search.headers, search.body]
    try:
        return to_json(parts)
    except ValueError:  # a lone surrogate in the words
        return repr(parts).encode("utf-8", "surrogatepass")


def _sent(client: SearchClient, searches: Sequence[Search]) -> Sequence[Answered]:
    """Send searches in one request; if the server cannot parse one of them, and so answers none, send each in its own request."""
    try:
        return answers_of(client.multi_search(searches, TIMEOUT_S), len(searches))
    except client.errors as error:
        fault = client.fault_of(error)
        if fault.status != REJECTED:
            raise
        if len(searches) > 1:
            return [answer_ for one in searches for answer_ in _sent(client, [one])]
        return [leg_fault(fault)]
