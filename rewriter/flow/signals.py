"""Signals of the subject: read from the stores in time, otherwise taken from this process's memory.

A search can do without a store, so each store has a breaker of its own. While that breaker is open, the store is not read: the
other store serves alone, or with `on_late = "stale"` the values that this process read last, without a wait. The page is the
baseline only if no signals are left.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import replace
from typing import Any

from rewriter.decide.breaker import Outcome
from rewriter.errors import AnswerTooLargeError
from rewriter.flow.steps import FetchSignals, PartStep, Progress, Read, ReadResult, SearchContext
from rewriter.record import record
from rewriter.report import Reason
from rewriter.signals.store import Signals, SignalsQuery, StoreName, joined, separated


@record(frozen=True, slots=True)
class SignalsRead:
    """The result of reading a subject's signals; `signals.failed` are the scopes that no store could answer.

    missing: why a scope could not be read; None if all were read. `detail` is the same as a text.
    nothing: whether no scope could be read and memory holds none either.
    stale:   whether memory replaces a scope.
    """

    signals: Signals = Signals()
    missing: Reason | None = None
    detail: str = ""
    nothing: bool = False
    stale: bool = False


def read_signals(
    context: SearchContext, query: SignalsQuery, progress: Progress
) -> Generator[PartStep, Any, SignalsRead]:
    """Read each store whose breaker is not open. With `on_late = "stale"`, memory replaces the scopes that could not be read."""
    core = context.core
    wanted = _wanted(core.store_breakers, query)
    if not wanted:
        return SignalsRead()
    started_s = context.clock_s()
    found = yield from _read(context, wanted)
    progress.timings_ms["signals"] = (context.clock_s() - started_s) * 1000.0
    signals, missing, detail = _joined_signals(context, wanted, found)
    if detail:
        progress.errors.append(f"signals: {detail}")
    read = query.scopes - signals.failed
    if missing is None or core.settings.signals.on_late == "skip":
        return SignalsRead(signals, missing, detail, nothing=not read)
    last = core.last_known.get(query, context.clock_s()) or Signals()
    session = last.session if "session" in signals.failed else None
    profile = last.profile if "profile" in signals.failed else None
    stale = session is not None or profile is not None
    classes = last.classes if "profile" in signals.failed else signals.classes
    signals = replace(signals, session=signals.session or session, profile=signals.profile or profile, classes=classes)
    return SignalsRead(signals, missing, detail, nothing=not read and not stale, stale=stale)


def _wanted(stores: Collection[StoreName], query: SignalsQuery) -> list[tuple[StoreName, SignalsQuery]]:
    """Return the part of a query that each store answers."""
    parts: list[tuple[StoreName, SignalsQuery]] = [("store", query)]
    if "profile_store" in stores:
        session, profile = separated(query)
        parts = [("store", session), ("profile_store", profile)]
    return [(name, part) for name, part in parts if name in stores and part.scopes]


def _read(
    context: SearchContext, wanted: list[tuple[StoreName, SignalsQuery]]
) -> Generator[PartStep, Any, dict[StoreName, ReadResult]]:
    """Return the result of each read. A store whose breaker is open is not among them."""
    breakers, now_s = context.core.store_breakers, context.clock_s()
    permits = {name: permit for name, _ in wanted if (permit := breakers[name].permit(now_s))}
    reads = tuple(Read(name, part) for name, part in wanted if name in permits)
    outcomes: dict[StoreName, Outcome] = {}
    found: dict[StoreName, ReadResult] = {}
    try:
        answers = (yield FetchSignals(reads, context.core.settings.budget.signals_ms / 1000.0)) if reads else ()
        found = {read.store: answer for read, answer in zip(reads, answers, strict=True)}
        outcomes = {read.store: _outcome(read, found[read.store]) for read in reads}
        return found
    finally:
        for name, permit in permits.items():
            cause = type(error).__name__ if isinstance(error := found.get(name), BaseException) else ""
            breakers[name].give_back(permit, outcomes.get(name, "unused"), context.clock_s(), cause)


def _outcome(read: Read, found: ReadResult) -> Outcome:
    """Return a read's outcome for the breaker. A store that answers one scope serves, even if another key has a wrong type or an
    answer that is too large.
    """
    if found is None:
        return "slow"
    if isinstance(found, AnswerTooLargeError):
        return "success"
    return "failure" if isinstance(found, BaseException) or read.query.scopes <= found.failed else "success"


def _joined_signals(
    context: SearchContext, wanted: list[tuple[StoreName, SignalsQuery]], found: dict[StoreName, ReadResult]
) -> tuple[Signals, Reason | None, str]:
    """Return the signals of all stores as one, with the reason and detail of the first scope that is missing."""
    parts: list[Signals] = []
    missing: Reason | None = None
    detail = ""
    for name, query in wanted:
        answer = found.get(name)
        part = answer if isinstance(answer, Signals) else Signals(failed=query.scopes)
        parts.append(part)
        if missing is None and part.failed:
            missing, detail = _why(context, name, part, answer, is_open=name not in found)
    whole = parts[0]
    for part in parts[1:]:
        whole = joined(whole, part)
    return whole, missing, detail


def _why(
    context: SearchContext, name: StoreName, part: Signals, answer: ReadResult, *, is_open: bool
) -> tuple[Reason, str]:
    if is_open:
        cause = context.core.store_breakers[name].why
        return Reason.BREAKER_OPEN, f"the breaker of the {name.replace('_', ' ')} is open: {cause}"
    if answer is None:
        return Reason.SIGNALS_LATE, "late"
    if isinstance(answer, BaseException):
        return Reason.SIGNALS_FAILED, type(answer).__name__
    return Reason.SIGNALS_FAILED, f"could not read {', '.join(sorted(part.failed))}"
