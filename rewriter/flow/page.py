"""The merged page, and the checks that it must pass: the optional legs' answers are compared with the baseline's.

A leg's answer is not trusted. If its scores or its number of hits disagree with the baseline's, the page is the baseline. That is
no failure of the leg: another copy of the index, a refresh in between or random scores can explain it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewriter.client.batch import error_of
from rewriter.client.faults import of_a_shard
from rewriter.explore.merge import Page, hit_key, merged_page
from rewriter.explore.plan import PagePlan, as_text, shown_by
from rewriter.explore.scores import disagreement, score_of
from rewriter.explore.shown import HASH_BYTES, elsewhere, hit_hash, whole_before, with_page
from rewriter.explore.slots import Key
from rewriter.explore.team_draft import NO_TEAM, Draft, team_draft
from rewriter.flow.steps import Explored, Hits, Personal, Pool, Progress, SearchContext
from rewriter.parsed_search import search_key
from rewriter.plural import count_of
from rewriter.report import Reason
from rewriter.settings import PolicySettings


def unfit(response: Any, policy: PolicySettings) -> tuple[Reason, str] | None:
    """Return the reason and detail for which boosts cannot act on the baseline's answer, or None."""
    if isinstance(response, Mapping) and (kind := error_of(response)):  # a client may ignore a status
        return Reason.BASELINE_PARTIAL, f"the caller's own search failed: {kind}"
    hits = (
        response["hits"]["hits"]
        if isinstance(response, Mapping) and isinstance(response.get("hits"), Mapping)
        else None
    )
    if hits is not None and (lost := partial(response)):  # first: it may have no hits because of that
        return Reason.BASELINE_PARTIAL, f"the caller's own search {lost}"
    if not hits:
        return Reason.NO_HITS, ""
    scores = [score_of(hit) for hit in hits]
    if any(score is None or score <= 0.0 for score in scores):
        return Reason.NO_RELEVANCE, "a score of the caller's own search is not above 0"
    if policy.flat == "baseline" and len(set(scores)) == 1:
        return Reason.FLAT_SCORES, "all scores are equal"
    return None


def partial(response: Mapping[str, Any]) -> str:
    """Return a text on why an answer covers only a part of the matches, or ""."""
    if response.get("timed_out"):
        return "timed out"
    if response.get("terminated_early"):
        return "was terminated early"
    if failed := _count(response.get("_shards"), "failed"):
        return f"lost {count_of(failed, 'shard')}"
    if skipped := _count(response.get("_clusters"), "skipped"):
        return f"skipped {count_of(skipped, 'cluster')}"
    return ""


def _count(part: Any, key: str) -> int:
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, int) else 0


def pool(progress: Progress, explored: Explored | None) -> Pool:
    """Return the hits that slots may draw from: the shared pool's or the leg's own. A failed leg is noted in `progress.errors`."""
    if not progress.launched:
        return progress.pool
    error = "late" if explored is None else explored.error
    if error:
        progress.errors.append(f"exploration: {error}")
    return explored.hits if explored else ()


def merged(
    context: SearchContext, part: Personal, pool: Pool, response: Mapping[str, Any]
) -> tuple[Personal, Page | None]:
    """Return the part and the merged page, or the part with the reason why there is none. The baseline is complete: see `unfit`."""
    if lost := partial(part.response):
        return lost_part(context, part, f"the personalized leg {lost}"), None
    hits = response["hits"]["hits"]
    if (again := repeated(part.hits)) and again > repeated(hits):
        return replace(part, reason=Reason.SEARCH_FAILED, detail="the personalized leg repeats a hit"), None
    if differs := disagreement(hits, part.hits, part.max_boost, drift=_may_drift(context, part.response, response)):
        return replace(part, reason=Reason.ANSWERS_DIFFER, detail=differs), None
    plan = part.plan
    draft = _drafted(context, part, hits)
    ranked, others = draft.hits if draft else part.hits, shown_elsewhere(context, plan) if plan else None
    if others and plan and _replaced(context, plan, part.hits):
        others = None
    # After a jump, more hits were not shown yet than the list has positions from here on.
    page = cut(context, plan, ranked, pool, others, size=len(hits))
    if len(page.hits) < len(hits):
        detail = "the personalized page was shorter than the baseline's"
        return replace(part, reason=Reason.ANSWERS_DIFFER, detail=detail), None
    return part, _with_teams(context, page, draft) if draft else page


def cut(
    context: SearchContext,
    plan: PagePlan | None,
    personalized: Hits,
    pool: Pool,
    others: frozenset[bytes] | None,
    size: int | None = None,
) -> Page:
    """Return the search's page, cut from its list.

    personalized: the personalized hits in order.
    others:       as `shown_elsewhere` of `merged_page`.
    size:         how many hits it has; by default as many as were asked for.
    """
    search = context.search
    return merged_page(
        personalized=personalized,
        pool=pool,
        decided=plan.slots if plan else (),
        from_=search.from_,
        size=search.size if size is None else size,
        block=plan.block if plan else context.block,
        seed=plan.seed if plan else context.seed,
        collapse_field=search.collapse_field,
        category_field=context.policy.category_field,
        shown_elsewhere=others,
    )


def _interleaves(context: SearchContext) -> bool:
    return context.exposure is not None and context.exposure.arm == "interleaved"


def _drafted(context: SearchContext, part: Personal, baseline: Hits) -> Draft | None:
    """Return the draft of an interleaved list's first page. Later pages continue with the personalized hits that were not shown."""
    if not _interleaves(context) or context.search.from_:
        return None
    seed = part.plan.seed if part.plan else context.seed
    return team_draft(part.hits, baseline, hit_key(context.search.collapse_field), context.search.size, seed)


def _with_teams(context: SearchContext, page: Page, draft: Draft) -> Page:
    """Return the page with the team of each hit; a hit in a slot is of none."""
    key_of, slots = hit_key(context.search.collapse_field), {at for at, _ in page.shown}
    teams = (NO_TEAM if at in slots else draft.teams.get(key_of(hit), NO_TEAM) for at, hit in enumerate(page.hits))
    return replace(page, teams="".join(teams))


def cut_short(context: SearchContext, part: Personal) -> bool:
    """Whether the search's own `timeout` ended it on the server."""
    return bool(part.response.get("timed_out")) and own_timeout(context) is not None


def own_timeout(context: SearchContext) -> Any:
    """Return the server's time limit that the caller gives a search, in the body or the URL; None without one."""
    found = context.search.body.get("timeout")
    return context.search.own_params.get("timeout") if found is None else found


def lost_part(context: SearchContext, part: Personal, lost: str) -> Personal:
    """Return the result of a search that covers only a part: rejected if its failed shards rejected its body, otherwise failed.

    A `timeout` of the search's own that ends one of two searches is no failure of the server.
    lost: in words, which search lost what.
    """
    if cut_short(context, part):
        return replace(part, reason=Reason.ANSWERS_DIFFER, detail=f"{lost}: its own `timeout` cut it short")
    rejecting, kind, reason = of_a_shard(part.response)
    return replace(
        part,
        reason=Reason.SEARCH_REJECTED if rejecting else Reason.SEARCH_FAILED,
        detail=lost + (f": {kind}" if kind else ""),
        cause=f"{kind}: {reason}" if kind else "",
    )


def repeated(hits: Hits) -> int:
    """Return how many hits of an answer are repetitions. The same id under two routings is two hits."""
    keys = [(hit.get("_index"), hit.get("_id"), hit.get("_routing")) for hit in hits]
    return len(keys) - len(set(keys))


def _may_drift(context: SearchContext, leg: Mapping[str, Any], baseline: Mapping[str, Any]) -> bool:
    """Whether two legs may have seen different states of an index: other copies, or a refresh that shows in the totals.

    With the caller's own `preference`, which every leg carries, all legs search the same copies.
    """
    if "preference" not in context.search.params and context.facts.replicas:
        return True
    totals = [answer["hits"].get("total") for answer in (leg, baseline)]
    return all(_exact(total) for total in totals) and totals[0]["value"] != totals[1]["value"]


def _exact(total: Any) -> bool:
    return isinstance(total, Mapping) and total.get("relation") == "eq"


def plan_after(context: SearchContext, part: Personal, page: Page, rank: int = 0) -> Callable[[], PagePlan]:
    """Return what makes the plan for the next page: the slots that this page decided and the hits that it showed, added to
    earlier ones.

    The caller gets copies of the hits, and may change what is inside of them meanwhile. So the keys of groups, which are made of
    that, are taken now; those of single hits are made with the plan.

    rank: the personalized rank of the part's first hit.
    """
    one = hit_key(context.search.collapse_field)

    def keys() -> tuple[list[Key], list[Key]]:
        return [one(hit) for hit in page.hits], [one(hit) for hit in part.hits]

    taken = keys() if context.search.collapse_field is not None else None
    return lambda: _plan_after(context, part, page, rank, *(taken or keys()))


def _plan_after(
    context: SearchContext, part: Personal, page: Page, rank: int, keys: Sequence[Key], ranked: Sequence[Key]
) -> PagePlan:
    """keys: of the page's hits. ranked: of the part's."""
    search = context.search
    before = shown_by(part.plan) if part.plan else b""
    after = with_page(before, search.from_, search.size, keys)
    ranks, detour = _ranks_after(context, part, page, rank, keys, ranked, before, is_same=after == before)
    shown = as_text(after)
    if part.plan is not None:
        return replace(
            part.plan, slots=page.slots, shown=shown, ranks=ranks, detour=part.plan.detour or detour, at_s=context.now_s
        )
    return PagePlan(
        search_key(search), part.boosts, part.max_boost, part.strategy or "rescore", part.version or "", part.source or "profile",
        context.seed, context.block, part.preference, page.slots, shown, forgotten_s=part.forgotten_s,
        ranks=ranks, detour=_interleaves(context), gated=part.gated,
        at_s=context.now_s,
    )  # fmt: skip


def _replaced(context: SearchContext, plan: PagePlan, hits: Hits) -> bool:
    """Whether another index stands behind the list's alias by now: the list has none of the hits that its first page showed.

    What was shown then tells nothing of the list, and its pages go by positions, as those of the caller's own search do.
    hits: the list from its top.
    """
    search = context.search
    first = elsewhere(shown_by(plan)[: search.size * HASH_BYTES], search.size, 0)
    one = hit_key(search.collapse_field)
    return bool(search.from_ and first) and first.isdisjoint(hit_hash(one(hit)) for hit in hits)


def _ranks_after(
    context: SearchContext, part: Personal, page: Page, rank: int, keys: Sequence[Key], ranked: Sequence[Key], shown: bytes,
    *, is_same: bool,
) -> tuple[tuple[tuple[int, int], ...], bool]:  # fmt: skip
    """Return the ranks at which pages begin, with that of the page after this one, and whether this page makes a detour.

    The next page begins after this one's last personalized hit, if every better hit was shown by then. If this page left out a hit
    that stands on a later page, which was shown before, that rank is not known: such a page is computed from the hits that were
    shown. Nor are the ranks of later pages known once this page shows other hits than before.

    shown: the list's record before this page. is_same: whether this page leaves it as it was.
    """
    search = context.search
    from_, end = search.from_, search.from_ + search.size
    drawn = {at for at, _ in page.shown}
    used = {key for at, key in enumerate(keys) if at not in drawn}
    last = max((at for at, key in enumerate(ranked) if key in used), default=-1)
    known = dict(part.plan.ranks) if part.plan else {}
    if not is_same:
        known = {at: one for at, one in known.items() if at <= from_}
    earlier, here = elsewhere(shown[: from_ * HASH_BYTES], from_, 0), set(keys)
    skipped = [one for key in ranked[: last + 1] if key not in here and (one := hit_hash(key)) not in earlier]
    if skipped:
        known.pop(end, None)
    else:
        known[end] = rank + last + 1
    return tuple(sorted(known.items())), not elsewhere(shown, 0, end).isdisjoint(skipped)


def shown_elsewhere(context: SearchContext, plan: PagePlan) -> frozenset[bytes] | None:
    """Return the hashes of the hits that the list has shown on its other pages; None if this page is cut out by positions.

    The record is more exact than positions: a drawn hit whose pool has expired, a page of another size or a page of the baseline
    shift positions, and a hit would show twice. After a jump the record lacks the pages in between, so positions serve.
    """
    shown, from_ = shown_by(plan), context.search.from_
    return elsewhere(shown, from_, context.search.size) if plan.detour or whole_before(shown, from_) else None
