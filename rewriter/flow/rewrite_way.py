"""Choice between a search that is sent once and one that goes parallel, for policies whose mode is "rewrite"."""

from __future__ import annotations

from typing import Any

from rewriter.explore.slots import uniform
from rewriter.expression import parsed_indices
from rewriter.flow.exploration import pool_of
from rewriter.flow.rewrite_failures import remembered
from rewriter.flow.steps import Pool, SearchContext
from rewriter.parsed_search import search_key, sent_key
from rewriter.report import Reason
from rewriter.settings import Settings

MEASURED = -1
"""Stands for a position in the draw that has a search go parallel to be measured."""


def may_be_sent_once(settings: Settings, index: Any) -> bool:
    """Whether a search of `index` may be sent once: its shell then decides before it sends anything. Never raises."""
    name = settings.policy_for(tuple(one for one in parsed_indices(index) if not one.startswith("-")))
    return name is not None and settings.policies[name].mode == "rewrite"


def goes_plain(context: SearchContext) -> tuple[Reason, str] | None:
    """Return why a search is the caller's own without a look at signals, or None: what the last one of its kind has shown."""
    core, now_s = context.core, context.clock_s()
    if core.unrewritten.any_search:
        for key in (search_key(context.search), sent_key(context.search)):
            if known := core.unrewritten.search(key, now_s):
                return known
    if context.policy.flat == "baseline" and _is_flat(context):
        return Reason.FLAT_SCORES, "all scores are equal"
    return None


def goes_parallel(context: SearchContext, *, shadow: bool) -> str:
    """Return in words why a search of a policy whose mode is "rewrite" goes parallel, or ""."""
    core, search, policy = context.core, context.search, context.policy
    if shadow:
        return "shadow mode compares both rankings"
    if context.batched:
        return "one of a batch, whose searches go out together"
    if context.trial:
        return "a draft on trial stands in nobody's way"
    if context.exposure is not None and context.exposure.arm == "interleaved":
        return "an interleaved page is made of both rankings"
    if search.difference:
        return search.difference
    if not core.hedging[context.name].known:
        return "too few searches of this policy are known to tell when one is late"
    if why := remembered(context) or _limited(context):
        return why
    if policy.flat == "baseline" and _is_flat(context) is None:
        return "only the caller's own scores show whether all are equal"
    if uniform(context.seed, MEASURED) < policy.parallel_share:
        return "one of the share that is measured"
    return ""


def _is_flat(context: SearchContext) -> bool | None:
    """Whether the caller's own scores are all equal, as far as the shared pool shows it; None where there is none."""
    _, found = pool_of(context, stale_too=True)
    return None if found is None else all_equal(found.hits, found.top_score)


def all_equal(pool: Pool, top_score: float | None) -> bool | None:
    """Whether all scores of a search are equal, by its pool and its highest score; None where these are not known."""
    return None if top_score is None or not pool else all(one.score == top_score for one in pool)


def _limited(context: SearchContext) -> str:
    """Return in words why a search goes parallel whose caller gives it less time than rewritten ones may take, or ""."""
    given = context.search.own_params.get("request_timeout")
    takes_s = context.core.hedging[context.name].takes_s()
    if given is None or takes_s is None or given > takes_s:
        return ""
    return "its `request_timeout` is shorter than some searches of this policy take"
