"""The search that is sent once (`mode = "rewrite"`): signals, then the caller's whole search with boosts in it, and no baseline.

    signals ── nothing known, late, failed ─────────────────────────▶ the caller's own search
       │
    rewritten search ── an answer ──────────────────────────────────▶ its page, with exploration in the slots
       ├── failed, partial, a score that is not above 0 ────────────▶ the caller's own search, at once
       └── late ── within the budget of hedges ─▶ the caller's own search as well, and one of the two answers

One answer is served whole, never a mixture of two. `decide/hedging` says when a search is late and what a second one may cost.
`rewrite_way` decides before what can be sent once at all; `rewrite_part` reads the signals and sends the search. What only a
list's plan shows comes back as None, and the search goes parallel.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rewriter.boost.body import without_own_names
from rewriter.client.faults import OF_THE_INDEX
from rewriter.decide.breaker import Outcome
from rewriter.decide.decision import BREAKER_TABLE, Decision
from rewriter.explore.merge import Page, hit_key, with_hits
from rewriter.explore.plan import shown_by
from rewriter.explore.scores import score_of
from rewriter.explore.shown import elsewhere
from rewriter.flow.evidence import judge
from rewriter.flow.fallback import baseline_page, more_pages, saving
from rewriter.flow.held import Held
from rewriter.flow.page import cut, lost_part, partial, plan_after, pool, repeated
from rewriter.flow.personal import NOT_SENT
from rewriter.flow.report_details import with_details
from rewriter.flow.rewrite_failures import failed, remember, shows_the_server
from rewriter.flow.rewrite_part import one_search, timeout_s
from rewriter.flow.rewrite_way import all_equal
from rewriter.flow.steps import (
    AwaitOwn,
    AwaitPart,
    AwaitPool,
    CallerStep,
    Explored,
    Personal,
    Pool,
    Progress,
    SavePlan,
    SearchContext,
    SendOnce,
    SendOwn,
    Sent,
)
from rewriter.parsed_search import search_key, sent_key
from rewriter.report import Reason, Report, internal_fault

PREPARING_S = 0.005
"""What a search may take beyond the signals' budget until it is sent: for the hand-over, and for boosts to be made of signals."""

AGAIN = (
    Reason.REJECTED_BEFORE,
    "the server refused this search with boosts and without; it is sent as it is for a minute",
)


@dataclass(slots=True)
class _Course:
    """How one search went: the part and its page, once they are there, and the answer to the caller's own where it was sent."""

    part: Personal | None = None
    page: Page | None = None
    explored: Explored | None = None
    sent: Sent | None = None

    @property
    def serves(self) -> bool:
        """Whether the rewritten answer can be served."""
        return self.part is not None and (self.page is not None or self.part.reason is Reason.NO_HITS)


def rewritten(
    context: SearchContext, decision: Decision, held: Held
) -> Generator[CallerStep, Any, tuple[Any, Report] | None]:
    """Answer a search by one that is sent once. Returns None where it has to go parallel, before anything was sent."""
    progress, course, started_s = Progress(), _Course(), context.clock_s()
    refused: str = yield SendOnce(one_search(context, progress), context.name)
    if refused:
        course.part = Personal(Reason.BUSY, refused)
    else:
        course.part = yield from _in_time(context, progress, started_s)
        if course.part is not None and course.part.parallel:
            return None
    yield from _take(context, progress, course)
    if not course.serves:
        yield from _own(context, progress, course, held)
    _finish(context, progress, course, held, own_sound=_sound(course))
    return (yield from _served(context, decision, progress, course))


def _in_time(
    context: SearchContext, progress: Progress, started_s: float
) -> Generator[CallerStep, Any, Personal | None]:
    """Return the part's end, or None where the caller's own search is to be sent: the part is late, and this search is hedged.

    The first wait ends when a search that was sent at once would be late, so that nobody has to be woken when it is sent.
    """
    hedging, clock_s = context.core.hedging[context.name], context.clock_s
    delay_s = hedging.delay_s()
    ready_s = started_s + context.core.settings.budget.signals_ms / 1000.0 + PREPARING_S
    until_s = started_s + delay_s
    while True:
        part: Personal | None = yield AwaitPart(until_s)
        if part is not None:
            return part
        now_s = clock_s()
        if progress.at == "signals":
            if now_s < ready_s:
                until_s = min(now_s + delay_s, ready_s)
                continue
            # In this order, as the part writes and reads them in the other one: it sends no search that nobody waits for.
            progress.over = True
            if progress.at == "signals":
                return None
        elif progress.late:
            hedging.failed(now_s)  # its client has not kept its time
            return None
        elif now_s < progress.sent_s + delay_s:
            until_s = progress.sent_s + delay_s
            continue
        else:
            progress.late = True
            if hedging.hedge(now_s):
                progress.hedged = True
                return None
        until_s = progress.sent_s + timeout_s(context) + PREPARING_S


def _take(context: SearchContext, progress: Progress, course: _Course) -> Generator[CallerStep, Any, None]:
    """Make the page of what the part brought, or say why it cannot be served. What the server answered is not believed."""
    part = course.part
    if part is None or part.reason is not Reason.PERSONALIZED:
        return
    try:
        yield from _made(context, progress, course, part)
    except Exception as error:  # noqa: BLE001  an answer of an odd form: the caller's own search is sent
        course.part = replace(part, reason=Reason.SEARCH_FAILED, detail=internal_fault(error))


def _made(
    context: SearchContext, progress: Progress, course: _Course, part: Personal
) -> Generator[CallerStep, Any, None]:
    search, core = context.search, context.core
    if lost := partial(part.response):
        course.part = lost_part(context, part, f"the rewritten search {lost}")
        return
    hits = part.hits
    if not hits:
        course.part = replace(part, reason=Reason.NO_HITS)
        return
    scores = [score_of(hit) for hit in hits]
    if any(score is None or score <= 0.0 for score in scores):
        detail = "a score of the rewritten search is not above 0"
        course.part = replace(part, reason=Reason.NO_RELEVANCE, detail=detail)
        core.unrewritten.put_search(search_key(search), Reason.NO_RELEVANCE, detail, context.clock_s())
        return
    groups = set(map(hit_key(search.collapse_field), hits)) if search.collapse_field is not None else hits
    if repeated(hits) or len(groups) < len(hits):
        course.part = replace(part, reason=Reason.SEARCH_FAILED, detail="the rewritten search repeats a hit")
        return
    if progress.launched:
        explored: Explored | None = yield AwaitPool(core.settings.budget.cutoff_ms / 1000.0)
        course.explored = explored
        if explored is not None:
            progress.top_score = explored.top_score
    started_s = context.clock_s()
    page = _page(context, part, pool(progress, course.explored))
    progress.timings_ms["merge"] = (context.clock_s() - started_s) * 1000.0
    # Fewer hits than asked for show where the list ends.
    if len(page.hits) < progress.rank + len(hits) - search.from_:
        course.part = replace(
            part, reason=Reason.ANSWERS_DIFFER, detail="hits that the list has shown already leave the page short"
        )
        return
    if all_equal(progress.pool or (course.explored.hits if course.explored else ()), progress.top_score):
        flat = "all scores of the caller's own search are equal"
        course.part = replace(part, detail="; ".join(filter(None, (part.detail, flat))))
    course.page = page


def _page(context: SearchContext, part: Personal, pool: Pool) -> Page:
    plan, search = part.plan, context.search
    marks = elsewhere(shown_by(plan), search.from_, search.size) if plan else frozenset()
    return cut(context, plan, part.hits, pool, marks)


def _own(context: SearchContext, progress: Progress, course: _Course, held: Held) -> Generator[CallerStep, Any, None]:
    """Send the caller's own search. Where the rewritten one ends first, or meanwhile, and can be served, it is."""
    core, part = context.core, course.part
    if part is not None and failed(part) and shows_the_server(part):
        core.hedging[context.name].failed(context.clock_s())
    racing = part is None and progress.at == "search"
    try:
        sent: Sent | None = yield SendOwn(racing)
        if sent is None:
            course.part = yield AwaitPart(context.clock_s())
            yield from _take(context, progress, course)
            if course.serves:
                return
            racing = False
            sent = yield AwaitOwn()
    except Exception:  # of the caller's own search, which is the caller's unless the rewritten one serves
        if racing:
            course.part = yield AwaitPart(context.clock_s())
            yield from _take(context, progress, course)
            if course.serves:
                return
        _finish(context, progress, course, held, own_sound=False)
        raise
    course.sent = sent
    progress.timings_ms["baseline"] = (context.clock_s() - sent.started_s) * 1000.0
    if racing:
        course.part = yield AwaitPart(context.clock_s())
        yield from _take(context, progress, course)


def _sound(course: _Course) -> bool:
    """Whether the caller's own search was answered in full, or did not have to be sent.

    A client that ignores a status returns the server's error as an answer.
    """
    if course.sent is None:
        return True
    response = course.sent.response
    return isinstance(response, Mapping) and isinstance(response.get("hits"), Mapping) and not partial(response)


def _finish(context: SearchContext, progress: Progress, course: _Course, held: Held, *, own_sound: bool) -> None:
    """Take what became of the search as evidence: for its breaker, its template, its index expression, and the delay of hedges."""
    core, part, search, now_s = context.core, course.part, context.search, context.clock_s()
    held.outcome, held.cause = _outcome(progress, part, own_sound=own_sound), part.detail if part is not None else ""
    if progress.at == "search" and (progress.late or progress.took_s is not None):
        took_s = progress.took_s if progress.took_s is not None else now_s - progress.sent_s
        core.hedging[context.name].took(took_s, now_s, boosted=True, in_time=not progress.late)
    elif course.sent is not None:
        core.hedging[context.name].took(progress.timings_ms["baseline"] / 1000.0, now_s)
    if part is None:
        return
    if failed(part) and not shows_the_server(part) and not progress.late:
        core.hedging[context.name].failed(now_s, alike=not own_sound and course.sent is None)
    remember(context, part, own_sound=own_sound, now_s=now_s)
    if own_sound:
        judge(context, part, course.explored)
    elif part.reason is Reason.SEARCH_REJECTED and part.cause.partition(":")[0] not in OF_THE_INDEX:
        core.unrewritten.put_search(sent_key(search), *AGAIN, now_s)


def _outcome(progress: Progress, part: Personal | None, *, own_sound: bool) -> Outcome:
    """Return the outcome for the breaker: a late one is slow, whichever is served; one that failed like the caller's own
    counts for nothing.
    """
    if progress.late:
        return "slow"
    if part is None or not own_sound or part.detail == NOT_SENT:
        return "unused"
    return BREAKER_TABLE.get(part.reason, "unused")


def _served(
    context: SearchContext, decision: Decision, progress: Progress, course: _Course
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Return the response and its report: the rewritten answer where it can be served, else the caller's own."""
    part, page = course.part, course.page
    if not course.serves:
        assert course.sent is not None
        reason, detail = (part.reason, part.detail) if part is not None else _late(context, progress)
        report = _reported(context, progress, reason, detail)
        return (yield from baseline_page(context, decision, report, progress, course.sent.response))
    assert part is not None
    response = part.response
    if page is None:
        return response, _reported(context, progress, part.reason, part.detail)
    report = _reported(context, progress, part.reason, part.detail, part, page)
    if context.search.from_ or more_pages(response, context.search.size):
        yield _saved(context, part, page, progress)
    hits = [without_own_names(hit) for hit in page.hits]
    return with_hits(response, hits, part.response["hits"].get("max_score")), report


def _saved(context: SearchContext, part: Personal, page: Page, progress: Progress) -> SavePlan:
    base = progress.plan_raw if part.plan else None
    plan = plan_after(context, part, page, progress.rank)
    return saving(context.core, context.plan_key, plan, part.forgotten_s, base)


def _late(context: SearchContext, progress: Progress) -> tuple[Reason, str]:
    if progress.at == "signals" or not progress.late:
        return Reason.SIGNALS_LATE, "the search was not ready to be sent within the budget of signals"
    return (
        Reason.SEARCH_LATE,
        f"not answered {context.core.hedging[context.name].delay_s() * 1000.0:.0f} ms after it was sent",
    )


def _reported(
    context: SearchContext, progress: Progress, reason: Reason, detail: str, part: Personal | None = None, page: Page | None = None
) -> Report:  # fmt: skip
    return with_details(context, progress, reason, detail, part, page, mode="rewrite")
