"""The search as its caller sees it: decide, send the baseline, wait for the optional legs until the cut-off, merge."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from rewriter.boost.body import without_own_names
from rewriter.client.seam import SearchArguments
from rewriter.core import Core, Snapshot
from rewriter.decide.breaker import Outcome, Permit
from rewriter.decide.decision import BREAKER_TABLE, Decision, decide
from rewriter.explore.merge import Page, with_hits
from rewriter.explore.slots import block_size
from rewriter.flow.evidence import accepted, held_by, rejected, template_failed
from rewriter.flow.fallback import fallen_back, more_pages, saving
from rewriter.flow.page import merged, plan_after, pool, unfit
from rewriter.flow.personal import personal
from rewriter.flow.report_details import shadowed, with_details, would_show
from rewriter.flow.steps import (
    Baseline,
    CallerStep,
    Clock,
    Collect,
    Collected,
    Explored,
    Personal,
    Progress,
    SearchContext,
    Sent,
)
from rewriter.flow.unread import READING_FACTS
from rewriter.parsed_search import ParsedSearch, parse_search, search_key
from rewriter.report import Reason, Report, Variant
from rewriter.subject import Subject

WAKING_S = 0.002
"""The part of the cut-off that is kept for waking up, merging and the report.

The cut-off promises when the answer is there, not when a wait ends. Without this reserve, searches whose legs never answered took
30.3 to 32.3 ms with a cut-off of 30 ms. The row `never answered` of docs/safety.md was measured with it."""


class _Held:
    """The breaker's permit of one search, if it holds one. The permit is given back once, with the search's outcome."""

    __slots__ = ("_core", "_permit", "outcome")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._permit: Permit | None = None
        self.outcome: Outcome = "unused"

    def take(self, permit: Permit | None) -> None:
        """Hold `permit`, if there is one."""
        self._permit = permit

    def give_back(self, now_s: float) -> None:
        """Give the permit back, if one is held."""
        permit, self._permit = self._permit, None
        if permit is not None:
            self._core.breaker.give_back(permit, self.outcome, now_s)


def answer(
    core: Core,
    arguments: SearchArguments,
    subject: Subject | None,
    *,
    seed: int,
    now_s: float,
    clock_s: Clock,
    batched: bool = False,
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Answer one search. `now_s` is wall time (for decay), `clock_s` is monotonic (for deadlines), `seed` draws exploration hits.

    batched: it is one of several, whose personal parts `flow.batch.together` runs.

    Returns the response and its report. The first step is Baseline. If this raises before or after that step, the shell still
    serves the caller's own search.
    """
    held = _Held(core)
    try:
        decision, context, search = _decided(core, arguments, subject, held, seed, now_s, clock_s)
        if batched and context is not None:
            context = replace(context, batched=True)
        if decision.reason is not None or context is None:
            held.give_back(clock_s())
            response, report = yield from _plain(decision, search.policy if search else None, clock_s)
            if search is not None and subject is not None:
                response, report = yield from _beyond_decision(
                    core, search, subject, decision, report, response, clock_s()
                )
        else:
            response, report = yield from _personalized(decision, context, held)
        if search is not None and search.policy is not None:  # the server has answered, so the indices exist
            core.searched.note(search.expression, clock_s())
        return response, shadowed(report) if decision.shadow else report
    finally:
        held.give_back(clock_s())


def _beyond_decision(
    core: Core, search: ParsedSearch, subject: Subject, decision: Decision, report: Report, response: Any, now_s: float
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    try:
        return (yield from _fallen_back(core, search, subject, decision, report, Progress(), response, now_s))
    except Exception:  # noqa: BLE001  the caller's answer has arrived and must be served, whatever its form
        return response, report


def _plain(decision: Decision, policy: str | None, clock_s: Clock) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    sent: Sent = yield Baseline()
    timings_ms = {"baseline": (clock_s() - sent.started_s) * 1000.0}
    reason = decision.reason or Reason.UNSUPPORTED
    variant: Variant = "holdout" if reason is Reason.HOLDOUT else "baseline"
    return sent.response, Report(reason, decision.detail, variant, policy, decision.exposure, timings_ms=timings_ms)


def _personalized(
    decision: Decision, context: SearchContext, held: _Held
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Run the personal part beside the caller's own search, and make the page of both."""
    progress, clock_s = Progress(), context.clock_s
    sent: Sent = yield Baseline(personal(context, progress))
    arrived_s, response = clock_s(), sent.response
    progress.timings_ms["baseline"] = (arrived_s - sent.started_s) * 1000.0
    try:
        return (yield from _page(decision, context, held, progress, sent, arrived_s))
    except Exception as error:  # noqa: BLE001  the caller's answer has arrived: a fault of ours must not lose it
        held.outcome = "failure"
        return response, with_details(context, progress, Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")


def _page(
    decision: Decision, context: SearchContext, held: _Held, progress: Progress, sent: Sent, arrived_s: float
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    core, search, response = context.core, context.search, sent.response
    part: Personal | None = None
    page: Page | None = None
    if sent.refused:
        wrong: tuple[Reason, str] | None = Reason.BUSY, sent.refused
    else:
        wrong = unfit(response, context.policy)
    if wrong is None:
        part, page = yield from _beside(context, progress, response, arrived_s)
        held.outcome = BREAKER_TABLE.get(part.reason, "unused")
        wrong = part.reason, part.detail
    report = with_details(context, progress, *wrong, part, page, response)
    if page is None or part is None:
        return (
            yield from _fallen_back(
                core, search, context.subject, decision, report, progress, response, context.clock_s()
            )
        )
    if decision.shadow:
        return response, replace(report, shadow=would_show(context, page, response), teams="")
    if search.from_ or more_pages(response, search.size):
        key = core.plans.key(core.keys, context.subject, search_key(search))
        yield saving(core, key, plan_after(context, part, page))
    hits = [without_own_names(hit) for hit in page.hits]
    return with_hits(response, hits, part.response["hits"].get("max_score")), report


def _fallen_back(
    core: Core, search: ParsedSearch, subject: Subject, decision: Decision, report: Report, progress: Progress, response: Any,
    now_s: float,
) -> Generator[CallerStep, Any, tuple[Any, Report]]:  # fmt: skip
    """Return the baseline's page; in the middle of a list, without the hits that the list has shown already."""
    if decision.shadow:
        return response, report
    shown, save, left_out = fallen_back(
        core, search, subject, report.reason, progress.plan, progress.pool, response, now_s
    )
    if save is not None:
        yield save
    detail = "; ".join(filter(None, (report.detail, left_out)))
    return shown, replace(report, detail=detail) if left_out else report


def _beside(
    context: SearchContext, progress: Progress, response: Any, arrived_s: float
) -> Generator[CallerStep, Any, tuple[Personal, Page | None]]:
    """Wait for the parts beside the baseline until the cut-off, and merge a personalized page if there is one."""
    core, clock_s = context.core, context.clock_s
    cutoff_s = core.settings.budget.cutoff_ms / 1000.0
    collected: Collected = yield Collect(cutoff_s - min(WAKING_S, cutoff_s / 5.0))
    # `over` is written before `at` is read; the part writes `at` before it reads `over`. So no leg is sent that is not counted.
    progress.over = collected.personal is None
    part = collected.personal or _late(progress, core)
    if progress.at == "search":
        baseline_s = progress.timings_ms["baseline"] / 1000.0
        core.late_legs[context.name].record(
            late=part.reason is Reason.SEARCH_LATE, baseline_s=baseline_s, now_s=arrived_s
        )
    page: Page | None = None
    if part.reason is Reason.PERSONALIZED:
        merging_s = clock_s()
        part, page = merged(context, part, pool(progress, collected.explored), response)
        progress.timings_ms["merge"] = (clock_s() - merging_s) * 1000.0
    _judge(context, part, collected.explored)
    progress.timings_ms["added"] = (clock_s() - arrived_s) * 1000.0
    return part, page


def _decided(
    core: Core,
    arguments: SearchArguments,
    subject: Subject | None,
    held: _Held,
    seed: int,
    now_s: float,
    clock_s: Clock,
) -> tuple[Decision, SearchContext | None, ParsedSearch | None]:
    """Return the decision, the context (None if the search is not personalized) and the parsed search (None if that failed).

    Never raises, whatever the arguments are: the caller's own search is sent in any case.
    """
    snapshot, settings = core.snapshot, core.settings
    try:
        search = _with_facts(parse_search(arguments, settings, snapshot.facts, core.write), snapshot)
        name = search.policy
        policy = settings.policies.get(name) if name else None
        decision = decide(
            search, subject, policy, snapshot.switches, settings.switches, settings.experiment,
            core.late_legs.get(name) if name else None, core.breaker, core.arms, clock_s(),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001  a fault of ours must not cost the caller a search
        return Decision(Reason.UNSUPPORTED, f"internal: {type(error).__name__}"), None, None
    held.take(decision.permit)
    if decision.reason is not None or policy is None or subject is None or name is None:
        return decision, None, search
    templates = snapshot.templates.get(name)
    wrong: tuple[Reason, str] | None = None
    if templates is None:
        wrong = Reason.TEMPLATE_FAILED, "no version of this policy's templates ever loaded"
    elif settings.signals.on_lag == "disable" and (lag := snapshot.lag.of(subject.unit))[1]:
        wrong = Reason.LAGGING, f"the pipeline lags {lag[0]:.0f} s"
    if wrong is not None or templates is None:
        reason, detail = wrong or (Reason.TEMPLATE_FAILED, "")
        return replace(decision, reason=reason, detail=detail), None, search
    switches = snapshot.switches
    limit = min(policy.max_boost, float(switches.of("max_boost", name, policy.max_boost)))
    share = float(switches.of("exploration_share", name, policy.exploration_share))
    explores = bool(switches.of("exploration", name, settings.switches.exploration))
    block = block_size(share if explores else 0.0)
    context = SearchContext(
        core, snapshot, search, subject, policy, templates, limit, block, seed, now_s, clock_s, decision.exposure
    )
    if rejected_before := held_by(context, "personalized", templates.version):
        reason, detail = rejected_before
        return replace(decision, reason=reason, detail=detail), None, search
    return decision, context, search


def _with_facts(search: ParsedSearch, snapshot: Snapshot) -> ParsedSearch:
    """Return the search unchanged, or marked as passed through if the facts of its indices are not known."""
    expression = search.expression
    if search.passed is not None or expression.key in snapshot.facts:
        return search
    if expression.exact is not None and expression.exact.key in snapshot.facts:
        return replace(search, expression=expression.exact)  # the index exists, so the parameters change nothing
    if expression.remote:
        why = "mappings and settings of another cluster's indices cannot be read"
    else:
        why = snapshot.unreadable.get(expression.key, READING_FACTS)
    return replace(search, passed=Reason.NO_FACTS, strategy=None, detail=why)


def _judge(context: SearchContext, part: Personal, explored: Explored | None) -> None:
    """Note the legs' outcomes as evidence for or against their templates.

    This happens only after the baseline succeeded: a fault in the caller's own query would make the server reject the legs too.
    """
    version = part.version or context.templates.version
    if part.reason is Reason.TEMPLATE_FAILED:
        template_failed(context, "personalized", version, part.cause)
    elif part.reason is Reason.SEARCH_REJECTED:
        rejected(context, "personalized", version, part.cause or part.detail)
    elif part.reason in (Reason.PERSONALIZED, Reason.ANSWERS_DIFFER):
        accepted(context, "personalized", version)
    if explored is not None and explored.rejected:
        rejected(context, "exploration", context.templates.version, explored.rejected)


def _late(progress: Progress, core: Core) -> Personal:
    if progress.at == "signals":
        return Personal(Reason.SIGNALS_LATE, "the read had not returned at the cut-off")
    return Personal(Reason.SEARCH_LATE, f"{core.settings.budget.cutoff_ms:g} ms after the baseline")
