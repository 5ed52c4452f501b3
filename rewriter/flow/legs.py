"""Both optional legs: the step that sends one, the facts that its template may read, and the boosts that its indices can bear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter.boost.functions import Boost
from rewriter.client.seam import Search
from rewriter.flow.steps import SearchContext, SearchLeg
from rewriter.parsed_search import ParsedSearch


def borne(context: SearchContext, boosts: tuple[Boost, ...]) -> tuple[Boost, ...]:
    """Return the boosts, without decay functions on the policy's date field if an index lacks it: they would fail its shards."""
    date = context.policy.date_field
    if date is None or date in context.facts.fields:
        return boosts
    return tuple(boost for boost in boosts if not _decays_on(boost, date))


def _decays_on(boost: Boost, field: str) -> bool:
    return boost.decay is not None and any(field in spec for spec in boost.decay.values())


def leg(context: SearchContext, body: Mapping[str, Any], preference: str | None, shape: str) -> SearchLeg:
    """Return the step that sends an optional leg with the caller's parameters.

    shape: the shape of its hits (`decide/leg_sizes.hit_shape`), under which the size of the answer is noted.
    """
    cutoff_s = context.core.settings.budget.cutoff_ms / 1000.0
    timeout_s = context.core.late_legs[context.name].leg_timeout_s(cutoff_s)
    if hedging := context.core.hedging.get(context.name):  # this policy has seen few baselines, or none
        timeout_s = max(timeout_s, hedging.delay_s() + cutoff_s)
    search = context.search
    params = {**search.params, "preference": preference} if preference else search.params
    sent = Search(",".join(search.indices), body, params, search.headers)
    sizes = context.core.leg_sizes[context.name]
    return SearchLeg(sent, timeout_s, lambda size, hits: sizes.note(shape, hits or body["size"], size))


def request_facts(search: ParsedSearch) -> dict[str, Any]:
    """Return the facts of a search that a template may read."""
    return {"indices": list(search.indices), "from": search.from_, "size": search.size, "body": search.body}
