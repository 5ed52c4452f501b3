"""What runs beside the caller's own search: signals, affinities, template, leg 2."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from rewriter.boost.body import bounded_body, capped, optional_leg
from rewriter.boost.templates import render_boosts
from rewriter.decide.leg_sizes import hit_shape
from rewriter.explore.plan import Plan, decode, shown_by
from rewriter.explore.plan_memory import PlanKey
from rewriter.explore.shown import goes_beyond
from rewriter.flow.evidence import held_by
from rewriter.flow.exploration import borne, exploration, leg, pool_of, request_facts
from rewriter.flow.page import shown_elsewhere
from rewriter.flow.signals import Known, known
from rewriter.flow.steps import Ask, Launch, LegFault, Personal, Progress
from rewriter.flow.unread import unread
from rewriter.report import Reason, Source
from rewriter.request import search_key
from rewriter.signals.affinities import Affinity, blended, preferences, session_part, strongest
from rewriter.signals.counters import Counters, Value
from rewriter.signals.store import Query

REASONS = {
    "rejected": Reason.SEARCH_REJECTED,
    "failed": Reason.SEARCH_FAILED,
    "late": Reason.SEARCH_LATE,
    "too_large": Reason.UNSUPPORTED,
}
"""What a leg's fault means for the search."""


def personal(ask: Ask, progress: Progress) -> Generator[Any, Any, Personal]:
    """Read signals, make boosts of them, send leg 2; leg 3 is launched once it is known that there is something to merge with."""
    core, request, subject = ask.core, ask.request, ask.subject
    sizes, end = core.leg_sizes[ask.name], request.from_ + request.size
    progress.shape = hit_shape(request.indices, request.body)
    if why := sizes.too_large(progress.shape, end, core.settings.budget.max_leg_bytes, ask.clock_s()):
        return Personal(Reason.UNSUPPORTED, why)
    plan_key = core.plans.key(core.keys, subject, search_key(request))
    query = Query(
        core.keys.session(subject.session_id) if subject.session_id else None,
        core.keys.profile(subject.user_id) if subject.user_id else None,
        plan_key.store if plan_key else None,
        core.field_names,
        core.settings.signals.max_counters,
    )
    found = yield from known(ask, query, progress)
    plan = progress.plan = _plan(ask, plan_key, found)
    if request.from_ > 0 or (plan is not None and _goes_back(ask, plan)):
        part = _continued(ask, plan, found)
    else:
        started_s = ask.clock_s()
        part = replace(_boosted(ask, found), forgotten_s=found.signals.forgotten_s)
        progress.timings_ms["render"] = (ask.clock_s() - started_s) * 1000.0
    if part.reason is not Reason.PERSONALIZED:
        return part
    progress.at = "search"
    if progress.over:
        return Personal(Reason.SEARCH_LATE, "nobody waits for the leg any more; it was not sent")
    block = part.plan.block if part.plan else ask.block
    if block and end > block - 1:
        key, pool = pool_of(ask)
        if pool is None:
            progress.launched = True
            yield Launch(exploration(ask, key, progress))
        else:
            progress.pool = pool
    body = bounded_body(
        optional_leg(request.body, 0, _depth(ask, part, end)), part.boosts, part.max_boost, part.strategy or "rescore",
        min(ask.policy.window_size, request.own_rescore_window or ask.policy.window_size),
    )  # fmt: skip
    started_s = ask.clock_s()
    try:
        response = yield leg(ask, body, part.preference, progress.shape)
    except LegFault as fault:
        return replace(part, reason=REASONS[fault.kind], detail=fault.detail, cause=fault.cause)
    progress.timings_ms["personalised"] = (ask.clock_s() - started_s) * 1000.0
    return replace(part, hits=response["hits"]["hits"], response=response)


def _boosted(ask: Ask, found: Known) -> Personal:
    """Turn what is known into boosts for the first page, or say what is missing (the table of docs/cold-start.md)."""
    core, snapshot, signals = ask.core, ask.snapshot, found.signals
    nothing = Personal(found.missing or Reason.NO_SIGNALS, found.detail)
    if found.nothing and core.settings.signals.on_late == "skip":
        return nothing
    session, lagging = signals.session, ""
    lag_s, lags = snapshot.lag.of(ask.subject.unit)
    if lags:
        lagging = f"the pipeline lags {lag_s:.0f} s"
    elif session is not None and session.lag_s > core.settings.signals.max_lag_s:
        lagging = f"the session's latest event took {session.lag_s:.0f} s to become visible"
    if lagging and session is not None:
        if core.settings.signals.on_lag == "disable":
            return Personal(Reason.LAGGING, lagging)
        session, nothing = None, Personal(Reason.LAGGING, lagging)
    affinities, source = _affinities(ask, session, signals.profile)
    if found.stale and source:
        source = "stale"
    if not affinities:
        affinities, source = _segment(ask)
    why = unread(ask, known=session is not None or signals.profile is not None)
    if not affinities or source is None:
        return replace(nothing, detail=nothing.detail or why)
    try:
        boosts = render_boosts(
            ask.templates, affinities, _session_facts(session), request_facts(ask.request), ask.policy
        )
    except Exception as error:  # noqa: BLE001  whatever a template raises, the search goes on
        failed = f"{type(error).__name__}: {error}"[:300]
        return Personal(Reason.TEMPLATE_FAILED, failed, cause=failed)
    boosts = capped(borne(ask, boosts), ask.max_boost)
    if not any(boost.weight > 0.0 for boost in boosts):
        return replace(nothing, detail=nothing.detail or "the template listed no boost")
    return Personal(
        Reason.PERSONALIZED, lagging or why, (), boosts, ask.max_boost, source, ask.request.strategy, ask.templates.version,
        _preference(ask),
    )  # fmt: skip


def _affinities(
    ask: Ask, session: Counters | None, profile: Counters | None
) -> tuple[tuple[Affinity, ...], Source | None]:
    core, policy = ask.core, ask.policy
    fields, population = ask.fields, ask.snapshot.population
    liked: dict[str, dict[Value, float]] = {"session": {}, "profile": {}}
    for scope, counters, half_lives in (
        ("session", session, core.session_half_lives),
        ("profile", profile, core.profile_half_lives),
    ):
        if counters is not None:
            liked[scope] = preferences(counters, half_lives, fields, population, policy.saturation, ask.now_s)
    alpha = session_part(session.events, core.settings.signals) if session is not None and liked["session"] else 0.0
    source: Source | None = (
        "blend" if alpha and liked["profile"] else "session" if alpha else "profile" if liked["profile"] else None
    )
    return strongest(blended(liked["session"], liked["profile"], alpha), fields, policy.max_functions), source


def _segment(ask: Ask) -> tuple[tuple[Affinity, ...], Source | None]:
    """Return the affinities of the first of the subject's segments that prefers anything."""
    fields = ask.fields
    for name in ask.subject.segments:
        counters = ask.snapshot.segments.get(name)
        if counters is not None:
            liked = preferences(
                counters, ask.core.profile_half_lives, fields, ask.snapshot.population, ask.policy.saturation, ask.now_s
            )
            if liked:
                tagged: dict[Value, tuple[float, Source]] = {
                    value: (weight, "segment") for value, weight in liked.items()
                }
                return strongest(tagged, fields, ask.policy.max_functions), "segment"
    return (), None


def _plan(ask: Ask, key: PlanKey | None, found: Known) -> Plan | None:
    """Return the list's plan: the store's, else the one that this process kept when it answered a page of it itself.

    A plan from before the subject was forgotten is none.
    """
    if key is None:
        return None
    plans = (decode(raw) for raw in (found.signals.plan, ask.core.plans.get(key, ask.clock_s())) if raw)
    forgotten_s = found.signals.forgotten_s
    return next((one for one in plans if one and one.search == key.search and one.forgotten_s >= forgotten_s), None)


def _goes_back(ask: Ask, plan: Plan) -> bool:
    """Whether a first page is one that its reader comes back to: a later page of the list was shown.

    A first page that is asked for again without that is a new search, and is weighed anew.
    """
    another = plan.template_version != ask.templates.version  # that of the version in use was judged before
    rejected = another and held_by(ask, "personalized", plan.template_version) is not None
    return not rejected and goes_beyond(shown_by(plan), ask.request.size)


def _depth(ask: Ask, part: Personal, end: int) -> int:
    """Return how many hits leg 2 asks for: the page's end, or more where what other pages show has to be left out."""
    others = shown_elsewhere(ask, part.plan) if part.plan is not None else None
    if not others:
        return end
    wanted = ask.request.size + len(others)
    return max(end, min(wanted, ask.policy.window_size, ask.facts.max_result_window))


def _continued(ask: Ask, plan: Plan | None, found: Known) -> Personal:
    """Go on with the list that the first page began: its plan stands in for signals and template."""
    if plan is None:
        return Personal(Reason.NO_PLAN, found.detail or "the first page left no plan, or it has expired")
    if plan.template_version != ask.templates.version:  # that of the version in use was judged before
        held = held_by(ask, "personalized", plan.template_version)
        if held is not None:
            return Personal(*held)
    if not ask.block:  # exploration was switched off since the first page
        plan = replace(plan, block=0)
    limit = min(plan.max_boost, ask.max_boost)
    boosts = capped(plan.boosts, limit)
    return Personal(
        Reason.PERSONALIZED, "", (), boosts, limit, plan.source, plan.strategy, plan.template_version, plan.preference, plan,
    )  # fmt: skip


def _session_facts(session: Counters | None) -> dict[str, float]:
    return {"events": session.events if session else 0.0}


def _preference(ask: Ask) -> str | None:
    """One token per list, and only where replicas could order ties differently and the caller set none."""
    if "preference" in ask.request.params:
        return None
    return f"rewriter{ask.seed:x}" if ask.facts.replicas else None
