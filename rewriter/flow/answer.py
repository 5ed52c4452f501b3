"""The search as its caller sees it: decide, send the baseline, wait for the optional legs until the cut-off, merge."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from rewriter.boost.body import without_own_names
from rewriter.boost.templates import TemplateSet
from rewriter.client.seam import SearchArguments
from rewriter.core import Core, Snapshot
from rewriter.decide.decision import BREAKER_TABLE, Decision, DecisionContext, decide
from rewriter.explore.merge import Page, with_hits
from rewriter.explore.slots import block_size
from rewriter.expression import ANOTHER_CLUSTER
from rewriter.flow.drafts import draft_for
from rewriter.flow.evidence import held_by, judge
from rewriter.flow.fallback import baseline_page, more_pages, saving
from rewriter.flow.held import Held
from rewriter.flow.page import merged, plan_after, pool, unfit
from rewriter.flow.personal import personal
from rewriter.flow.report_details import shadowed, with_details, would_show
from rewriter.flow.rewrite import rewritten
from rewriter.flow.rewrite_way import goes_parallel, goes_plain
from rewriter.flow.steps import (
    Baseline,
    CallContext,
    CallerStep,
    Clock,
    Collect,
    Collected,
    Personal,
    Progress,
    SearchContext,
    Sent,
)
from rewriter.flow.unread import READING_FACTS
from rewriter.parsed_search import ParsedSearch, parse_search
from rewriter.report import Reason, Report, Variant, internal_fault
from rewriter.subject import Subject

WAKING_S = 0.002
"""The part of the cut-off that is kept for waking up, merging and the report.

The cut-off promises when the answer is there, not when a wait ends. Without this reserve, searches whose legs never answered took
30.3 to 32.3 ms with a cut-off of 30 ms. The row `never answered` of docs/safety.md was measured with it."""


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

    Returns the response and its report. The first step is Baseline, or SendOnce for a search that is sent once (`flow/rewrite`). If
    this raises before or after that step, the shell still serves the caller's own search.
    """
    held = Held()
    try:
        decision, context = _decided(core, arguments, subject, held, seed, now_s, clock_s, batched=batched)
        if isinstance(context, SearchContext):
            response, report = yield from _in_its_mode(decision, context, held)
        else:
            held.give_back(clock_s())
            response, report = yield from _plain(decision, context, clock_s)
        if context is not None and context.search.policy is not None:  # the server has answered, so the indices exist
            core.searched.note(context.search.expression, clock_s())
        return response, shadowed(report) if decision.shadow else report
    finally:
        held.give_back(clock_s())


def _in_its_mode(
    decision: Decision, context: SearchContext, held: Held
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Send a search once where its policy's mode and its form allow it, else with legs beside it."""
    why = ""
    if context.policy.mode == "rewrite":
        why = goes_parallel(context, shadow=decision.shadow)
        if not why:
            found = yield from rewritten(context, decision, held)
            if found is not None:
                return found
            why = "its plan does not show where the page begins"
    response, report = yield from _personalized(decision, context, held)
    if why and report.reason is Reason.PERSONALIZED:
        detail = "; ".join(filter(None, (report.detail, f"sent in parallel: {why}")))
        report = replace(report, detail=detail)
    return response, report


def _plain(
    decision: Decision, context: CallContext | None, clock_s: Clock
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Send the caller's own search alone."""
    sent: Sent = yield Baseline()
    took_s = clock_s() - sent.started_s
    reason = decision.reason or Reason.UNSUPPORTED
    variant: Variant = "holdout" if reason is Reason.HOLDOUT else "baseline"
    policy = context.search.policy if context is not None else None
    timings_ms = {"baseline": took_s * 1000.0}
    report = Report(reason, decision.detail, variant, policy, decision.exposure, timings_ms=timings_ms)
    if context is None:
        return sent.response, report
    hedging = context.core.hedging.get(policy or "")
    if hedging is not None and context.search.passed is None:
        hedging.took(took_s, clock_s())
    if context.subject is None:
        return sent.response, report
    try:
        return (yield from baseline_page(context, decision, report, Progress(), sent.response))
    except Exception:  # noqa: BLE001  the caller's answer has arrived and must be served, whatever its form
        return sent.response, report


def _personalized(
    decision: Decision, context: SearchContext, held: Held
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Run the personal part beside the caller's own search, and make the page of both."""
    progress, clock_s = Progress(), context.clock_s
    sent: Sent = yield Baseline(personal(context, progress), context.name)
    arrived_s, response = clock_s(), sent.response
    progress.timings_ms["baseline"] = (arrived_s - sent.started_s) * 1000.0
    try:
        return (yield from _page(decision, context, held, progress, sent, arrived_s))
    except Exception as error:  # noqa: BLE001  the caller's answer has arrived: a fault of ours must not lose it
        held.outcome, held.cause = "unused" if context.trial else "failure", internal_fault(error)
        return response, with_details(context, progress, Reason.SEARCH_FAILED, held.cause)


def _page(
    decision: Decision, context: SearchContext, held: Held, progress: Progress, sent: Sent, arrived_s: float
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    search, response = context.search, sent.response
    part: Personal | None = None
    page: Page | None = None
    if sent.refused:
        wrong: tuple[Reason, str] | None = Reason.BUSY, sent.refused
    else:
        wrong = unfit(response, context.policy)
    if wrong is None:
        part, page = yield from _beside(context, progress, response, arrived_s)
        held.outcome = "unused" if context.trial else BREAKER_TABLE.get(part.reason, "unused")
        held.cause = part.detail
        wrong = part.reason, part.detail
    report = with_details(context, progress, *wrong, part, page, response)
    if page is None or part is None:
        return (yield from baseline_page(context, decision, report, progress, response))
    if decision.shadow:
        return response, replace(report, shadow=would_show(context, page, response), teams="")
    if search.from_ or more_pages(response, search.size):
        base = progress.plan_raw if part.plan else None
        yield saving(context.core, context.plan_key, plan_after(context, part, page), part.forgotten_s, base)
    hits = [without_own_names(hit) for hit in page.hits]
    return with_hits(response, hits, part.response["hits"].get("max_score")), report


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
    if progress.at == "search" and not context.trial:
        baseline_s = progress.timings_ms["baseline"] / 1000.0
        core.late_legs[context.name].record(
            late=part.reason is Reason.SEARCH_LATE, baseline_s=baseline_s, now_s=arrived_s
        )
    hedging = core.hedging.get(context.name)
    if hedging is not None and not context.trial:
        baseline_ms, leg_ms = progress.timings_ms["baseline"], progress.timings_ms.get("personalized")
        took_ms = baseline_ms if leg_ms is None else max(leg_ms, baseline_ms)  # of the search that it would be
        hedging.took(took_ms / 1000.0, arrived_s, boosted=leg_ms is not None)
    page: Page | None = None
    if part.reason is Reason.PERSONALIZED:
        merging_s = clock_s()
        part, page = merged(context, part, pool(progress, collected.explored), response)
        progress.timings_ms["merge"] = (clock_s() - merging_s) * 1000.0
    judge(context, part, collected.explored)
    progress.timings_ms["added"] = (clock_s() - arrived_s) * 1000.0
    return part, page


def _decided(
    core: Core,
    arguments: SearchArguments,
    subject: Subject | None,
    held: Held,
    seed: int,
    now_s: float,
    clock_s: Clock,
    *,
    batched: bool,
) -> tuple[Decision, CallContext | None]:
    """Return the decision, and the context: a SearchContext to personalize, None if a fault of ours prevented the decision.

    Does not raise for any arguments: the caller's own search is sent in any case.
    """
    snapshot, settings = core.snapshot, core.settings
    try:
        search = _with_facts(parse_search(arguments, settings, snapshot.facts, core.write), snapshot)
        call = CallContext(core, snapshot, search, subject, seed, now_s, clock_s)
        draft = draft_for(call)
        trial = draft is not None
        decision = decide(DecisionContext(search, subject, settings, snapshot.switches, core.guards, clock_s(), trial))
    except Exception as error:  # noqa: BLE001  a fault of ours must not cost the caller a search
        return Decision(Reason.UNSUPPORTED, internal_fault(error)), None
    if decision.permit is not None and search.policy is not None:
        held.take(core.breakers[search.policy], decision.permit)
    if decision.reason is not None or subject is None or search.policy is None:
        return decision, call
    found = _prepared(call, subject, search.policy, decision, draft, batched=batched)
    if isinstance(found, SearchContext):
        return decision, found
    reason, detail = found
    return replace(decision, reason=reason, detail=detail), call


def _prepared(
    call: CallContext, subject: Subject, name: str, decision: Decision, draft: TemplateSet | None, *, batched: bool
) -> SearchContext | tuple[Reason, str]:
    """Return the context of a search that is to be personalized, or the reason why it cannot be, and the detail."""
    snapshot, settings = call.snapshot, call.core.settings
    policy, switches = settings.policies[name], snapshot.switches
    templates = draft or snapshot.templates.get(name)
    if templates is None:
        return Reason.TEMPLATE_FAILED, "no version of this policy's templates ever loaded"
    if settings.signals.on_lag == "disable" and (lag := snapshot.lag.of(subject.unit))[1]:
        return Reason.LAGGING, f"the pipeline lags {lag[0]:.0f} s"
    limit = min(policy.max_boost, float(switches.of("max_boost", name, policy.max_boost)))
    share = float(switches.of("exploration_share", name, policy.exploration_share))
    explores = bool(switches.of("exploration", name, settings.switches.exploration))
    context = SearchContext(
        call.core, snapshot, call.search, subject, call.seed, call.now_s, call.clock_s, policy, templates, limit,
        block_size(share if explores else 0.0), decision.exposure, batched,
    )  # fmt: skip
    if draft is None and (rejected_before := held_by(context, "personalized", templates.version)):
        return rejected_before
    if policy.mode == "rewrite" and (plain := goes_plain(context)):
        return plain
    return context


def _with_facts(search: ParsedSearch, snapshot: Snapshot) -> ParsedSearch:
    """Return the search unchanged, or marked as passed through if the facts of its indices are not known."""
    expression = search.expression
    if search.passed is not None or expression.key in snapshot.facts:
        return search
    if expression.exact is not None and expression.exact.key in snapshot.facts:
        return replace(search, expression=expression.exact)  # the index exists, so the parameters change nothing
    why = ANOTHER_CLUSTER if expression.remote else snapshot.unreadable.get(expression.key, READING_FACTS)
    return replace(search, passed=Reason.NO_FACTS, strategy=None, detail=why)


def _late(progress: Progress, core: Core) -> Personal:
    if progress.at == "signals":
        return Personal(Reason.SIGNALS_LATE, "the read had not returned at the cut-off")
    return Personal(Reason.SEARCH_LATE, f"{core.settings.budget.cutoff_ms:g} ms after the baseline")
