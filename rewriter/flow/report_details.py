"""The details of a report: boosts, slots, and the reason for the position of each hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from rewriter.boost.body import own_names
from rewriter.explore.merge import Page, category, hit_key
from rewriter.explore.scores import Hit, all_equal, score_of
from rewriter.flow.steps import Personal, Progress, SearchContext
from rewriter.measures.diversity import coverage_at
from rewriter.report import BoostUsed, Mode, Move, PageFacts, Reason, Report, Shown, Slot


def with_details(
    context: SearchContext,
    progress: Progress,
    reason: Reason,
    detail: str,
    part: Personal | None = None,
    page: Page | None = None,
    baseline: Mapping[str, Any] | None = None,
    *,
    mode: Mode = "parallel",
) -> Report:
    """Return the report of a search that was to be personalized. Boosts and slots are in it if there is a page.

    baseline: its answer, None where none was sent.
    """
    timings_ms = progress.timings_ms.copy()  # a late leg still writes into the original
    errors = tuple(progress.errors)
    if part is None or page is None:
        return Report(
            reason, detail, "baseline", context.name, context.exposure, context.templates.version, context.trial,
            mode=mode, hedged=progress.hedged, timings_ms=timings_ms, errors=errors,
        )  # fmt: skip
    if baseline is not None and reason is Reason.PERSONALIZED and all_equal(baseline["hits"]["hits"]):
        detail = "; ".join(filter(None, (detail, "all scores of the caller's own search are equal")))
    return Report(
        reason,
        detail,
        "personalized",
        context.name,
        context.exposure,
        part.version,
        context.is_draft(part.version),
        part.strategy,
        part.source,
        boosts=tuple([BoostUsed(boost.field, boost.value, boost.weight, boost.source) for boost in part.boosts]),
        factor_limit_used=part.max_boost,
        slots=tuple([Slot(slot.position, str(page.hits[at].get("_id")), slot.propensity) for at, slot in page.shown]),
        teams=page.teams,
        seed=part.plan.seed if part.plan else context.seed,
        mode=mode,
        hedged=progress.hedged,
        timings_ms=timings_ms,
        errors=errors,
        explain=lambda: _moves(context, part, page, baseline),
        weigh_page=lambda: _page_facts(context, part, page, baseline),
    )


def shadowed(report: Report) -> Report:
    """Return the report of a search in shadow mode: its detail holds the reason that it would have had."""
    would = f"would be {report.reason}" + (f": {report.detail}" if report.detail else "")
    return replace(report, reason=Reason.SHADOW, variant="shadow", detail=would)


def would_show(context: SearchContext, page: Page, baseline: Mapping[str, Any]) -> Shown:
    """Return how the personalized page, which shadow mode does not serve, differs from the baseline."""
    key_of = hit_key(context.search.collapse_field)
    before = {key_of(hit): at for at, hit in enumerate(baseline["hits"]["hits"])}
    stays = [abs(at - before[key]) for at, hit in enumerate(page.hits) if (key := key_of(hit)) in before]
    size = max(1, len(page.hits))
    ids = tuple(str(hit.get("_id")) for hit in page.hits)
    return Shown(len(stays) / size, sum(stays) / max(1, len(stays)), ids)


def _moves(context: SearchContext, part: Personal, page: Page, baseline: Mapping[str, Any] | None) -> tuple[Move, ...]:
    if baseline is None:
        return _boosted_hits(part, page)
    key_of = hit_key(context.search.collapse_field)
    before = {key_of(hit): (at, score_of(hit)) for at, hit in enumerate(baseline["hits"]["hits"])}
    explored = {at for at, _ in page.shown}
    moves = []
    for at, hit in enumerate(page.hits):
        was, base_score = before.get(key_of(hit), (None, None))
        if was == at or at in explored:
            continue
        score = score_of(hit)
        factor = score / base_score if score is not None and base_score else None
        boosts, how = _matched(hit, part, factor)
        if factor is None and how == "names":
            factor = factor_by_weights(part, boosts)
        moves.append(Move(str(hit.get("_id")), was, at, factor, boosts, how))
    return tuple(moves)


COVERAGE_HITS = 10
AT_LIMIT = 1.0 - 1e-4
"""Of the limit, from which on a factor counts as reaching it: scores are 32-bit numbers."""


def _page_facts(context: SearchContext, part: Personal, page: Page, baseline: Mapping[str, Any] | None) -> PageFacts:
    """Count what of a page personalization made. Where the server names no boosts, a hit is boosted if its factor is above 1."""
    key_of = hit_key(context.search.collapse_field)
    before = {key_of(hit): score_of(hit) for hit in baseline["hits"]["hits"]} if baseline is not None else {}
    explored = {at for at, _ in page.shown}
    matched: set[int] = set()
    kept = boosted = at_limit = 0
    for at, hit in enumerate(page.hits):
        key = key_of(hit)
        kept += key in before
        if at in explored or not part.named:
            continue
        boosts, _ = _matched(hit, part)
        matched.update(boosts)
        score, base_score = score_of(hit), before.get(key)
        factor = score / base_score if score is not None and base_score else None
        boosted += bool(boosts) or (factor is not None and factor > 2.0 - AT_LIMIT)
        limited = factor if factor is not None else 1.0 + sum(part.boosts[one].weight for one in boosts)
        at_limit += bool(boosts) and limited >= part.max_boost * AT_LIMIT
    named = context.policy.category_field
    categories = (
        coverage_at([category(hit, named) for hit in page.hits[:COVERAGE_HITS]], COVERAGE_HITS) if named else None
    )
    kept_hits = kept if baseline is not None else None
    if not part.named:
        return PageFacts(len(page.hits), kept_hits, None, None, len(explored), None, categories)
    return PageFacts(len(page.hits), kept_hits, boosted, at_limit, len(explored), len(matched), categories)


def _boosted_hits(part: Personal, page: Page) -> tuple[Move, ...]:
    """Return the hits that match a boost, where no baseline tells how far they moved. The names that the server gives tell the
    factor.
    """
    explored, moves = {at for at, _ in page.shown}, []
    for at, hit in enumerate(page.hits):
        boosts, how = _matched(hit, part)
        if at in explored or not boosts:
            continue
        factor = factor_by_weights(part, boosts) if how == "names" else None
        moves.append(Move(str(hit.get("_id")), None, at, factor, boosts, how))
    return tuple(moves)


def factor_by_weights(part: Personal, boosts: Sequence[int]) -> float | None:
    """Return the factor of a hit that matches exactly these boosts; None if one of them depends on the document by its decay."""
    acting = [part.boosts[at] for at in boosts]
    if any(one.decay is not None for one in acting):
        return None
    return min(part.max_boost, 1.0 + sum(one.weight for one in acting))


def _matched(
    hit: Hit, part: Personal, factor: float | None = None
) -> tuple[tuple[int, ...], Literal["names", "source", "unknown"]]:
    """Return the positions of the boosts that acted on a hit, and their origin: the server's names, its `_source`, or unknown.

    factor: of the hit's score, where it is known: it shows whether a gate kept all boosts from the hit.
    """
    if own_names(hit):
        named = own_names(hit, gated=part.gated and part.strategy != "wrap")
        return tuple(
            at for at in named if at < len(part.boosts)
        ), "names"  # a caller's own name may look like one of ours
    if not hit.get("_source") or (part.gated and not part.named and factor is None):
        return (), "unknown"
    if part.gated and not part.named and factor is not None and factor <= 2.0 - AT_LIMIT:
        return (), "source"
    return tuple(at for at, boost in enumerate(part.boosts) if _shows(hit, boost.filter)), "source"


def _shows(hit: Hit, clause: Mapping[str, Any] | None) -> bool:
    """Whether a hit's `_source` matches an affinity's clause. Other clauses, which a template wrote itself, never match."""
    if not clause:
        return False
    for kind in ("term", "terms"):
        if kind in clause and len(clause[kind]) == 1:
            ((field, wanted),) = clause[kind].items()
            values = wanted if isinstance(wanted, list) else [wanted]
            shown = hit.get("_id") if field == "_id" else category(hit, field)
            return shown is not None and str(shown) in map(str, values)
    parts = (
        clause["bool"].get("filter") if isinstance(clause.get("bool"), Mapping) and len(clause["bool"]) == 1 else None
    )
    return isinstance(parts, list) and all(_shows(hit, part) for part in parts)
