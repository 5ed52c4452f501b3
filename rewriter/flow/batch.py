"""The personal parts of a batch of searches (`msearch`), run as one: one read of the subject's signals, one request for all legs.

What no page waits for, the searches for the classes of queries, goes out beside them in one request more.
Each part is the generator of its own search, independent of the others. If the server refuses the one request, because the body of
one leg does not parse or the answers are too large together, each leg is sent alone, so that no leg costs another its answer.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from rewriter.client.seam import LegFault
from rewriter.flow.part_results import explored_of, personal_of
from rewriter.flow.signals import read_signals
from rewriter.flow.steps import Collected, Explored, Launch, PartStep, ReadSignals, SearchLeg, SearchLegs
from rewriter.report import Reason

MAX_SEARCHES = 12
"""Most personalized searches of a batch. The caller's own thread or loop decides them: 12 take 0.8 ms."""

BEYOND = f"beyond the first {MAX_SEARCHES} searches of a batch"

Part = Generator[PartStep, Any, Any]


class _Member:
    """One part: its generator, the step that it waits for, and its result."""

    def __init__(self, part: Part | None) -> None:
        self._part = part
        self.step: PartStep | None = None
        self.result: Any = None
        self.launched: _Member | None = None

    def advance(self, value: Any = None) -> None:
        """Send its step's result into the part, or throw it if it is a LegFault, and run the part to its next step."""
        if self._part is None:
            return
        try:
            step = self._part.throw(value) if isinstance(value, LegFault) else self._part.send(value)
            while isinstance(step, Launch):
                self.launched = _Member(step.part)
                self.launched.advance()
                step = self._part.send(None)
            self.step = step
        except StopIteration as stop:
            self.step, self.result = None, stop.value
        except Exception as error:  # noqa: BLE001  one search's fault must not fail the others
            self.step, self.result = None, error

    def unneeded(self) -> _Member | None:
        """Return what the part launched, and give it up, if the part has ended: its page does not wait for it."""
        found = self.launched
        if found is None or self.step is not None or not isinstance(found.step, SearchLeg):
            return None
        self.launched = None
        return found

    def close(self) -> None:
        """Close its generators."""
        for one in (self.launched, self._part):
            if one is not None:
                one.close()

    @property
    def collected(self) -> Collected:
        """The results of the part and of its exploration leg."""
        if self._part is None:
            return Collected(None, None)
        part = personal_of(self.result)
        if self.launched is None or part is None or part.reason is not Reason.PERSONALIZED:
            return Collected(part, None)
        return Collected(part, explored_of(self.launched.result))


def together(parts: Sequence[Part | None]) -> Generator[PartStep, Any, list[Collected]]:
    """Run parts as one; None stands for a search without a part. Returns their results in order."""
    members = [_Member(part) for part in parts]
    try:
        for member in members:
            member.advance()
        yield from _read(members)
        if left := [one for member in members if (one := member.unneeded()) is not None]:
            yield Launch(_beside(left))
        while legs := [one for one in _with_launched(members) if isinstance(one.step, SearchLeg)]:
            answers = yield from _answers([one.step for one in legs if isinstance(one.step, SearchLeg)])
            for member, answer in zip(legs, answers, strict=True):
                member.advance(answer)
        return [member.collected for member in members]
    finally:
        for member in members:
            member.close()


def _beside(members: Sequence[_Member]) -> Generator[PartStep, Any, Explored]:
    """Run what parts without a personalized leg launched: the searches for the classes of their queries, in one request."""
    try:
        answers = yield from _answers([one.step for one in members if isinstance(one.step, SearchLeg)])
        for member, answer in zip(members, answers, strict=True):
            member.advance(answer)
    finally:
        for member in members:
            member.close()
    return Explored()


def _with_launched(members: Sequence[_Member]) -> list[_Member]:
    return [one for member in members for one in (member, member.launched) if one is not None]


def _read(members: Sequence[_Member]) -> Generator[PartStep, Any, None]:
    """Read the subject's signals once, with the plans of all lists, and send each part its share."""
    steps = [(member, member.step) for member in members if isinstance(member.step, ReadSignals)]
    if not steps:
        return
    _, first = steps[0]
    plans = list(dict.fromkeys(step.query.plan for _, step in steps if step.query.plan))
    query = replace(first.query, plan=plans[0] if plans else None, more_plans=tuple(plans[1:]))
    found = yield from read_signals(first.context, query, first.progress)
    timing, errors = first.progress.timings_ms.get("signals"), list(first.progress.errors)
    for member, step in steps:
        own = (
            found.signals.plan if step.query.plan == query.plan else found.signals.more_plans.get(step.query.plan or "")
        )
        if step is not first:
            step.progress.errors.extend(errors)
            if timing is not None:
                step.progress.timings_ms["signals"] = timing
        member.advance(replace(found, signals=replace(found.signals, plan=own, more_plans={})))


def _answers(legs: Sequence[SearchLeg]) -> Generator[PartStep, Any, list[Any]]:
    """Return the response of each leg, or its LegFault."""
    try:
        answers: list[Any] = yield SearchLegs(tuple(legs))
    except LegFault as fault:
        if len(legs) == 1 or fault.kind not in ("rejected", "too_large"):
            return [LegFault(fault.kind, fault.detail, fault.cause, fault.status) for _ in legs]
    else:
        return answers
    alone: list[Any] = []
    for leg in legs:
        try:
            alone.append((yield leg))
        except LegFault as fault:
            alone.append(fault)
    return alone
