"""The part of a search that is sent once: reads signals, makes boosts of them, and sends the caller's whole search with them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from rewriter.client.seam import LegFault, Search
from rewriter.explore.plan import shown_by
from rewriter.explore.shown import goes_beyond, whole_before
from rewriter.explore.slots import slot_positions
from rewriter.flow.class_reading import class_to_request, learned, with_classes
from rewriter.flow.exploration import exploration, pool_of
from rewriter.flow.personal import NOT_SENT, REASONS, boosted_body, prepared
from rewriter.flow.steps import Launch, PartStep, Personal, Progress, SearchContext, SendRewritten
from rewriter.report import Reason


def one_search(context: SearchContext, progress: Progress) -> Generator[PartStep, Any, Personal]:
    """Read signals, make boosts of them, and send the caller's whole search with them."""
    part = yield from prepared(context, progress)
    if part.reason is not Reason.PERSONALIZED:
        return part
    search, end = context.search, context.search.from_ + context.search.size
    rank = _rank(context, part)
    if rank is None:
        return replace(part, parallel="the page's place among the personalized hits is not known")
    progress.rank = rank
    slots = slot_positions(search.from_, end, part.plan.block if part.plan else context.block)
    if slots and not (yield from _with_pool(context, part, progress)):
        return replace(part, parallel="a hit that the page has shown in a slot is not at hand")
    name = class_to_request(context)
    # Hits that earlier slots have shown may stand on these ranks, so the page is cut from as many more.
    own = {**search.body, "from": rank, "size": end - rank}
    body, gated, named = boosted_body(context, part, own, learns=name is not None)
    step = SendRewritten(
        _search(context, part, with_classes(body, name)),
        timeout_s(context),
        context.policy.rewritten_by == "caller",
    )
    progress.sent_s = context.clock_s()
    progress.at = "search"
    if progress.over:
        return Personal(Reason.SEARCH_LATE, NOT_SENT)
    context.core.hedging[context.name].sent()
    try:
        response = yield step
    except LegFault as fault:
        return replace(part, reason=REASONS[fault.kind], detail=fault.detail, cause=fault.cause, status=fault.status)
    progress.took_s = context.clock_s() - progress.sent_s
    progress.timings_ms["rewritten"] = progress.took_s * 1000.0
    hits = learned(context, response["hits"]["hits"], name, gated=gated, first=rank == 0)
    return replace(part, hits=hits, response=response, gated=gated, named=named)


def _rank(context: SearchContext, part: Personal) -> int | None:
    """Return the personalized rank at which the page begins; None where only the whole list from its top shows it."""
    plan, from_ = part.plan, context.search.from_
    if plan is None:
        return 0
    shown, end = shown_by(plan), from_ + context.search.size
    if plan.detour or not whole_before(shown, from_):
        return None
    if goes_beyond(shown, end) and not whole_before(shown, end):
        return None  # later pages were shown before this one, and may have hits that it would have had
    rank = {0: 0, **dict(plan.ranks)}.get(from_)
    return None if rank is None or rank > from_ else rank  # no page shows more hits than it has positions


def _with_pool(context: SearchContext, part: Personal, progress: Progress) -> Generator[PartStep, Any, bool]:
    """Take the shared pool, and have it fetched where it is missing or stale. Returns whether the page can be made with it."""
    core, policy = context.core, context.policy
    key, found = pool_of(context, stale_too=True)
    if found is not None:
        progress.pool, progress.top_score = found.hits, found.top_score
    if part.plan is not None:
        there, end = {one.key for one in progress.pool}, context.search.from_ + context.search.size
        decided = (slot for slot in part.plan.slots if context.search.from_ <= slot.position < end and slot.key)
        if any(slot.key not in there for slot in decided):
            return False
    if found is None or (found.stale and core.pools.claim(key, context.clock_s())):
        progress.launched = found is None and policy.exploration_wait
        yield Launch(exploration(context, key, progress))
    return True


def _search(context: SearchContext, part: Personal, body: Mapping[str, Any]) -> Search:
    """Return the caller's search with another body. What bounds one request, or hides its outcome, is not in it."""
    search = context.search
    own = {name: str(value).lower() for name, value in search.own_params.items() if name in KEPT and value is not None}
    params = {**search.params, **own}
    if part.preference:
        params["preference"] = part.preference
    return Search(",".join(search.indices), body, params, search.headers)


KEPT = ("request_cache", "cancel_after_time_interval", "timeout")
"""Of the parameters that hold for the caller's own search alone, those that a search in its stead has too."""


def timeout_s(context: SearchContext) -> float:
    """Return how long a rewritten search may take: the policy's limit, or the caller's own where that is shorter."""
    given = context.search.own_params.get("request_timeout")
    most_s = context.core.hedging[context.name].timeout_s()
    return most_s if given is None else min(most_s, float(given))
