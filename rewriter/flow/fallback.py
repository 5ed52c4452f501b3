"""Fallback to the baseline in the middle of a list: the baseline's page without the hits that the list has shown already.

It needs a plan that holds what was shown. It is done only if something of ours failed: after personalization is switched off, the
page is the plain search. Hits of the exploration pool fill the page up if the pool arrived in time; otherwise the page is shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from rewriter.alike import alike
from rewriter.core import Core
from rewriter.decide.decision import Decision
from rewriter.explore.merge import hit_key
from rewriter.explore.plan import PagePlan, as_text, decode, encode, shown_by
from rewriter.explore.plan_memory import PlanKey
from rewriter.explore.shown import elsewhere, hit_hash, with_page
from rewriter.flow.steps import CallContext, CallerStep, Progress, SavePlan
from rewriter.plural import agreeing, count_of
from rewriter.report import Reason, Report

UNWANTED = frozenset(
    {
        Reason.BREAKER_OPEN, Reason.BUSY, Reason.NO_RELEVANCE, Reason.FLAT_SCORES, Reason.SIGNALS_LATE, Reason.SIGNALS_FAILED,
        Reason.LAGGING, Reason.NO_SIGNALS, Reason.TEMPLATE_FAILED, Reason.QUARANTINED, Reason.SEARCH_REJECTED, Reason.SEARCH_FAILED,
        Reason.SEARCH_LATE, Reason.ANSWERS_DIFFER, Reason.UNSUPPORTED,
    }
)  # fmt: skip
"""The reasons for which a page of a personalized list becomes the baseline's against everybody's wish. UNSUPPORTED is among them
for legs whose answers are too large; a body of an unsupported form is another list and has no plan, and to hash one of 5 MB for a
plan's key would take 15 ms."""


def fallen_back(
    context: CallContext, reason: Reason, progress: Progress, response: Any
) -> tuple[Any, SavePlan | None, str]:
    """Return the page to serve, the step that saves the list's plan (or None), and a detail on the hits left out (or "").

    progress: with the plan that the search has read; if None, the one that this process kept. Without either, the baseline's answer
              is returned unchanged. Its pool has the exploration hits that may fill the page up.
    `response` is not modified.
    """
    core, search = context.core, context.search
    if reason not in UNWANTED or search.passed is not None or not _has_hits(response):
        return response, None, ""
    key, plan, raw = context.plan_key, progress.plan, progress.plan_raw
    if plan is None and key is not None:
        raw = core.plans.get(key, context.clock_s())
        plan = decode(raw)
    if plan is None or key is None:
        return response, None, ""
    found = response["hits"]["hits"]
    one = hit_key(search.collapse_field)
    shown = shown_by(plan)
    taken = elsewhere(shown, search.from_, search.size) if search.from_ else frozenset()
    hits = [hit for hit in found if hit_hash(one(hit)) not in taken]
    left_out = len(found) - len(hits)
    if left_out:
        seen = taken | {hit_hash(one(hit)) for hit in hits}
        fitting = [other for other in progress.pool if hit_hash(other.key) not in seen]
        hits += [other.hit() for other in fitting[:left_out]]
        response = alike(response, {**response, "hits": alike(response["hits"], {**response["hits"], "hits": hits})})
    kept = shown if search.from_ else b""  # a first page starts a new record
    page = with_page(kept, search.from_, search.size, map(one, hits))
    after = replace(plan, shown=as_text(page), detour=True, at_s=context.now_s)
    detail = (
        f"{count_of(left_out, 'hit')} that the list has shown already {agreeing(left_out, 'are')} left out"
        if left_out
        else ""
    )
    return response, saving(core, key, lambda: after, after.forgotten_s, raw if search.from_ else None), detail


def baseline_page(
    context: CallContext, decision: Decision, report: Report, progress: Progress, response: Any
) -> Generator[CallerStep, Any, tuple[Any, Report]]:
    """Return the baseline's page; in the middle of a list, without what the list has shown already."""
    if decision.shadow:
        return response, report
    shown, save, left_out = fallen_back(context, report.reason, progress, response)
    if save is not None:
        yield save
    detail = "; ".join(filter(None, (report.detail, left_out)))
    return shown, replace(report, detail=detail) if left_out else report


def _has_hits(response: Any) -> bool:
    hits = response.get("hits") if isinstance(response, Mapping) else None
    return isinstance(hits, Mapping) and bool(hits.get("hits"))


def saving(
    core: Core, key: PlanKey | None, plan: Callable[[], PagePlan], forgotten_s: float, base: bytes | None
) -> SavePlan:
    """Return the step that saves a plan. It is made and encoded when the step is performed, off the caller's path.

    forgotten_s: the plan's own.
    base: see SavePlan.
    """
    in_store = "store" in core.store_breakers and core.store_breakers["store"].closed
    return SavePlan(key, lambda: encode(plan()), in_store, forgotten_s, base)


def more_pages(response: Mapping[str, Any], end: int) -> bool:
    """Whether the list may continue after rank `end`, judged by its total. Without a next page it needs no plan."""
    total = response["hits"].get("total")
    exact = isinstance(total, Mapping) and total.get("relation") == "eq" and isinstance(total.get("value"), int)
    return not exact or total["value"] > end
