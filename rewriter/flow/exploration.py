"""The exploration leg: the query's next ranks without personal boosts, shaped by a template, shared and cached for seconds."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from rewriter.boost.body import bounded_body, capped, highlighted_by, optional_leg, without_own_names
from rewriter.boost.templates import Exploration, render_exploration
from rewriter.client.seam import LegFault
from rewriter.explore.merge import candidates_of
from rewriter.explore.pool_cache import Pool
from rewriter.explore.scores import number_of
from rewriter.flow.evidence import accepted, held_by, sender, template_failed
from rewriter.flow.legs import borne, leg, request_facts
from rewriter.flow.steps import Explored, PartStep, Progress, SearchContext
from rewriter.parsed_search import key_of, whole_parts


def pool_of(context: SearchContext, *, stale_too: bool = False) -> tuple[str, Pool | None]:
    """Return the key of the exploration leg, and the pool that another search with the same key has filled, if any.

    A search whose leg was rejected a moment ago is content with a stale pool, or with none.
    """
    search, policy, now_s = context.search, context.policy, context.clock_s()
    end = search.from_ + search.size
    own = context.name, context.templates.version, context.max_boost, end, sharers(context)
    key = key_of(*own, *whole_parts(search))
    stale_s = policy.exploration_stale_s if stale_too else policy.exploration_fresh_s
    found = context.core.pools.look(key, now_s, policy.exploration_fresh_s, stale_s)
    if (found is None or found.stale) and context.core.pools.refused(key, lambda: sender(search), now_s):
        found = Pool(found.hits if found else (), top_score=found.top_score if found else None)
    return key, found


def sharers(context: SearchContext) -> list[Any]:
    """Return the part of the pool's key that `exploration_shared_by` sets: nothing, the segments, or the whole subject."""
    subject = context.subject
    shared_by = context.policy.exploration_shared_by
    if shared_by == "everyone":
        return []
    return [subject.segments] if shared_by == "segments" else [subject.segments, subject.user_id, subject.session_id]


def exploration(context: SearchContext, key: str, progress: Progress) -> Generator[PartStep, Any, Explored]:
    """Render the exploration template, send the leg, and put its hits into the shared cache under `key`."""
    core, search = context.core, context.search
    version = context.templates.version
    if held := held_by(context, "exploration", version):
        return Explored(error=held[1])
    end = search.from_ + search.size
    size = _pool_size(context, end, progress.shape)
    if size < 1:
        return Explored(error="the next ranks lie beyond `max_result_window`")
    try:
        shaped = render_exploration(context.templates, request_facts(search), context.policy)
    except Exception as error:  # noqa: BLE001  whatever a template raises, the search goes on
        template_failed(context, "exploration", version, f"{type(error).__name__}: {error}")
        return Explored(error=f"template: {type(error).__name__}")
    if shaped.filters and search.own_rescore_window is not None:
        return Explored(error="under the template's filter the caller's own `rescore` would act on other hits")
    body = _shaped(context, shaped, end, size)
    started_s = context.clock_s()
    try:
        response = yield leg(context, body, None, progress.shape)
    except LegFault as fault:
        if fault.kind == "rejected":
            # Deeper ranks can break a sound search (rank 11 has a field too long to highlight), so this search of this sender
            # has no exploration hits for a while.
            core.pools.refuse(key, sender(search), context.clock_s())
            return Explored(error=fault.detail, rejected=fault.cause or fault.detail)
        return Explored(error=fault.detail)
    progress.timings_ms["exploration"] = (context.clock_s() - started_s) * 1000.0
    accepted(context, "exploration", version)
    if response.get("timed_out") or (response.get("_shards") or {}).get("failed"):
        return Explored(error="the exploration leg timed out or lost shards")
    hits = [without_own_names(hit) for hit in response["hits"]["hits"]]
    same_scores = not shaped.filters and not shaped.functions and hits
    top_score = number_of(response["hits"].get("max_score")) if same_scores else None
    pool = candidates_of(hits, search.collapse_field, context.policy.category_field)
    core.pools.put(key, pool, context.clock_s(), top_score)
    return Explored(pool, top_score=top_score)


def _pool_size(context: SearchContext, end: int, shape: str) -> int:
    """Return the leg's `size`: `exploration_pool`, fewer if hits are large, never beyond an index's `max_result_window`."""
    sizes, least = context.core.leg_sizes[context.name], 2 + 3 * (end // max(1, context.block))
    wanted = sizes.pool(shape, context.policy.exploration_pool, least)
    return min(wanted, context.facts.max_result_window - end)


def _shaped(context: SearchContext, shaped: Exploration, end: int, size: int) -> dict[str, Any]:
    """Return the exploration leg's body: the next ranks of the caller's search, with the template's filters and functions."""
    search, policy = context.search, context.policy
    body = optional_leg(search.body, end, size, search.names)
    if shaped.filters:
        body = highlighted_by(body, body["query"])
        body["query"] = {"bool": {"must": [body["query"]], "filter": list(shaped.filters)}}
    functions = borne(context, shaped.functions)
    if functions and search.strategy:
        window = search.rescore_window(policy.window_size)
        functions = capped(functions, context.max_boost)  # the switch may have lowered the policy's
        body = bounded_body(body, functions, context.max_boost, search.strategy, window)
    return body
