"""Leg 3: the same query's next ranks, not personalised, shaped by their template, shared and cached for seconds."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from rewriter.boost.body import bounded_body, capped, highlighted_by, optional_leg, without_own_names
from rewriter.boost.functions import Boost
from rewriter.boost.templates import Exploration, render_exploration
from rewriter.flow.evidence import accepted, held_by, template_failed
from rewriter.flow.steps import Ask, Explored, Hits, LegFault, Progress, SearchLeg
from rewriter.request import Request, key_of


def pool_of(ask: Ask) -> tuple[str, Hits | None]:
    """Return the key of all that leg 3 is made of, and the pool that somebody with the same search has just paid for, if any."""
    request = ask.request
    end = request.from_ + request.size
    key = key_of(
        ask.name, ask.templates.version, ask.max_boost, request.indices, request.body, end, request.params, request.varies,
        _sharers(ask),
    )  # fmt: skip
    return key, ask.core.pools.get(key, ask.clock_s())


def _sharers(ask: Ask) -> list[Any]:
    """Return what tells those who share a pool from others: nothing, segments or the subject, as the policy says."""
    subject = ask.subject
    shared_by = ask.policy.exploration_shared_by
    if shared_by == "everyone":
        return []
    return [subject.segments] if shared_by == "segments" else [subject.segments, subject.user_id, subject.session_id]


def exploration(ask: Ask, key: str, progress: Progress) -> Generator[Any, Any, Explored]:
    """Send the same query's next ranks, not personalised, as its template shapes them; or take them from the shared cache."""
    core, request = ask.core, ask.request
    version = ask.templates.version
    if held := held_by(ask, "exploration", version):
        return Explored(error=held[1])
    end = request.from_ + request.size
    size = _pool_size(ask, end, progress.shape)
    if size < 1:
        return Explored(error="the next ranks lie beyond `max_result_window`")
    try:
        shaped = render_exploration(ask.templates, request_facts(request), ask.policy)
    except Exception as error:  # noqa: BLE001  whatever a template raises, the search goes on
        template_failed(ask, "exploration", version, f"{type(error).__name__}: {error}")
        return Explored(error=f"template: {type(error).__name__}")
    if shaped.filters and request.own_rescore_window is not None:
        return Explored(error="under the template's filter the caller's own `rescore` would act on other hits")
    body = _shaped(ask, shaped, end, size)
    started_s = ask.clock_s()
    try:
        response = yield leg(ask, body, None, progress.shape)
    except LegFault as fault:
        if fault.kind == "rejected":
            # Going deeper can break a search that is fine by itself (an over-long field to highlight at rank 11), so this
            # search alone goes without for a while.
            core.pools.put(key, (), ask.clock_s())
            return Explored(error=fault.detail, rejected=fault.cause or fault.detail)
        return Explored(error=fault.detail)
    progress.timings_ms["exploration"] = (ask.clock_s() - started_s) * 1000.0
    accepted(ask, "exploration", version)
    if response.get("timed_out") or (response.get("_shards") or {}).get("failed"):
        return Explored(error="leg 3 timed out or lost shards")
    hits = [without_own_names(hit) for hit in response["hits"]["hits"]]
    core.pools.put(key, hits, ask.clock_s())
    return Explored(hits)


def _pool_size(ask: Ask, end: int, shape: str) -> int:
    """Return how many hits leg 3 asks for: as many as the policy says, fewer where hits are large, and no deeper than each index
    allows.
    """
    sizes, least = ask.core.leg_sizes[ask.name], 2 + 3 * (end // max(1, ask.block))
    wanted = sizes.pool(shape, ask.policy.exploration_pool, least)
    return min(wanted, ask.facts.max_result_window - end)


def _shaped(ask: Ask, shaped: Exploration, end: int, size: int) -> dict[str, Any]:
    """Return leg 3's body: the next ranks of the caller's search, with what its template changes."""
    request, policy = ask.request, ask.policy
    body = optional_leg(request.body, end, size)
    if shaped.filters:
        body = highlighted_by(body, body["query"])
        body["query"] = {"bool": {"must": [body["query"]], "filter": list(shaped.filters)}}
    functions = borne(ask, shaped.functions)
    if functions and request.strategy:
        window = min(policy.window_size, request.own_rescore_window or policy.window_size)
        functions = capped(functions, ask.max_boost)  # the switch may have lowered the policy's
        body = bounded_body(body, functions, ask.max_boost, request.strategy, window)
    return body


def borne(ask: Ask, boosts: tuple[Boost, ...]) -> tuple[Boost, ...]:
    """Return the boosts without decay functions on the policy's date field where an index lacks it: it would fail its shards."""
    date = ask.policy.date_field
    if date is None or date in ask.facts.fields:
        return boosts
    return tuple(boost for boost in boosts if not _decays_on(boost, date))


def _decays_on(boost: Boost, field: str) -> bool:
    return boost.decay is not None and any(field in spec for spec in boost.decay.values())


def leg(ask: Ask, body: Mapping[str, Any], preference: str | None, shape: str) -> SearchLeg:
    """Return an optional leg: the caller's parameters, and what makes it harmless to abandon. `shape` is that of its hits."""
    timeout_s = ask.core.paces[ask.name].leg_timeout_s(ask.core.settings.budget.cutoff_ms / 1000.0)
    request = ask.request
    params = dict(request.params) | {
        "cancel_after_time_interval": f"{max(1, round(timeout_s * 1000))}ms",
        "request_cache": "false",
    }
    if preference:
        params["preference"] = preference
    arguments: dict[str, Any] = {"index": ",".join(request.indices) or None, "body": body, "params": params}
    if request.headers:
        arguments["headers"] = dict(request.headers)
    sizes = ask.core.leg_sizes[ask.name]
    return SearchLeg(arguments, timeout_s, lambda size, hits: sizes.note(shape, hits or body["size"], size))


def request_facts(request: Request) -> dict[str, Any]:
    """Return what a template may know of a search."""
    return {"indices": list(request.indices), "from": request.from_, "size": request.size, "body": request.body}
