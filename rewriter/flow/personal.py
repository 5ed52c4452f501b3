"""The personal part, which runs beside the caller's own search: signals, affinities, template, the personalized leg."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from rewriter.boost.all_words import all_words
from rewriter.boost.body import bounded_body, capped, optional_leg
from rewriter.boost.templates import render_boosts
from rewriter.client.seam import LegFault
from rewriter.decide.leg_sizes import hit_shape
from rewriter.explore.plan import PagePlan, decode, shown_by
from rewriter.explore.plan_memory import PlanKey
from rewriter.explore.shown import goes_beyond
from rewriter.explore.slots import uniform
from rewriter.flow.class_reading import (
    claims_classes,
    class_search,
    class_to_request,
    every_class,
    known_classes,
    learned,
    most_counters,
    read_classes,
    with_classes,
)
from rewriter.flow.evidence import held_by
from rewriter.flow.exploration import exploration, pool_of
from rewriter.flow.legs import borne, leg, request_facts
from rewriter.flow.page import shown_elsewhere
from rewriter.flow.signals import SignalsRead, read_signals
from rewriter.flow.steps import Launch, PartStep, Personal, Progress, ReadSignals, SearchContext
from rewriter.flow.unread import guarded, unread
from rewriter.report import Reason, Source
from rewriter.signals.affinities import Affinity, blended, guard_of, preferences, session_part, strongest
from rewriter.signals.class_affinities import class_preferences, of_classes
from rewriter.signals.counters import Counters, Value
from rewriter.signals.item_use import acting_fields
from rewriter.signals.query_classes import FIRST_HITS
from rewriter.signals.repeats import RepeatGuard
from rewriter.signals.store import Signals, SignalsQuery

REASONS = {
    "rejected": Reason.SEARCH_REJECTED,
    "failed": Reason.SEARCH_FAILED,
    "late": Reason.SEARCH_LATE,
    "too_large": Reason.UNSUPPORTED,
}
"""The reason of a search for each kind of its leg's fault."""

NAMED = -2
"""Stands for a position in the draw of the searches whose boosts the server names."""

NOT_SENT = "the cut-off had passed before the leg was sent"


def personal(context: SearchContext, progress: Progress) -> Generator[PartStep, Any, Personal]:
    """Read signals, turn them into boosts, and send the personalized leg. The exploration leg is launched once there are boosts."""
    core, search = context.core, context.search
    sizes, end = core.leg_sizes[context.name], search.from_ + search.size
    progress.shape = hit_shape(search.indices, search.body, search.names)
    if why := sizes.too_large(progress.shape, end, core.settings.budget.max_leg_bytes, context.clock_s()):
        return Personal(Reason.UNSUPPORTED, why)
    part = yield from prepared(context, progress)
    if part.reason is not Reason.PERSONALIZED:
        return part
    progress.at = "search"
    if progress.over:
        return Personal(Reason.SEARCH_LATE, NOT_SENT)
    block = part.plan.block if part.plan else context.block
    if block and end > block - 1:
        key, pool = pool_of(context)
        if pool is None:
            progress.launched = True
            yield Launch(exploration(context, key, progress))
        else:
            progress.pool = pool.hits
    name, depth = class_to_request(context), _depth(context, part, end)
    size = depth if name is None else max(depth, min(FIRST_HITS, context.facts.max_result_window))
    own = optional_leg(search.body, 0, size, search.names)
    body, gated, named = boosted_body(context, part, own, learns=name is not None)
    started_s = context.clock_s()
    try:
        response = yield leg(context, with_classes(body, name), part.preference, progress.shape)
    except LegFault as fault:
        return replace(part, reason=REASONS[fault.kind], detail=fault.detail, cause=fault.cause)
    progress.timings_ms["personalized"] = (context.clock_s() - started_s) * 1000.0
    hits = learned(context, response["hits"]["hits"], name, gated=gated)
    return replace(part, hits=hits[:depth], response=response, gated=gated, named=named)


def prepared(context: SearchContext, progress: Progress) -> Generator[PartStep, Any, Personal]:
    """Read signals and turn them into boosts, or continue the list of a plan: PERSONALIZED, or what is missing."""
    core, search, subject = context.core, context.search, context.subject
    plan_key = context.plan_key
    query = SignalsQuery(
        core.keys.session(subject.session_id) if subject.session_id else None,
        core.keys.profile(subject.user_id) if subject.user_id else None,
        plan_key.store if plan_key else None,
        core.field_names,
        most_counters(context, classes := known_classes(context)),
        classes=read_classes(context, classes),
        every=every_class(context, classes),
    )
    unstored = core.plans.unstored(plan_key, context.clock_s()) if plan_key else None
    if context.batched:
        found: SignalsRead = yield ReadSignals(context, query, progress)
    else:
        found = yield from read_signals(context, query, progress)
    plan, raw = _plan(context, plan_key, unstored, found)
    progress.plan, progress.plan_raw = plan, raw
    if search.from_ > 0 or (plan is not None and _goes_back(context, plan)):
        part = _continued(context, plan, found)
    else:
        started_s = context.clock_s()
        part = _boosted(context, found, classes)
        progress.timings_ms["render"] = (context.clock_s() - started_s) * 1000.0
        if part.reason is Reason.NO_SIGNALS and found.signals.profile is not None and claims_classes(context):
            yield Launch(class_search(context))
    return part


def boosted_body(
    context: SearchContext, part: Personal, body: Mapping[str, Any], *, learns: bool
) -> tuple[dict[str, Any], bool, bool]:
    """Return `body` with a part's boosts, whether they have a gate, and whether the server is to name them.

    learns: whether the query's classes are learned from the hits. The server then names the gate: hits without all words do not
            count (`class_reading.learned`).
    """
    gate = _gate(context, part)
    window = context.search.rescore_window(context.policy.window_size)
    named = uniform(context.seed, NAMED) < context.policy.named_share
    bounded = bounded_body(
        body, part.boosts, part.max_boost, part.strategy or "rescore", window, gate,
        named=named, names_gate=named or learns,
    )  # fmt: skip
    return bounded, gate is not None, named


def _gate(context: SearchContext, part: Personal) -> Mapping[str, Any] | None:
    """Return the clause that boosts act on, or None for all hits. A list has a gate on all of its pages or on none."""
    if not context.policy.all_words or (part.plan is not None and not part.plan.gated):
        return None
    gate = all_words(context.search.body["query"], context.facts)
    if gate.unknown:
        context.core.want_fields(context.name, gate.unknown)
    return gate.clause


def _boosted(context: SearchContext, found: SignalsRead, classes: tuple[str, ...]) -> Personal:
    """Turn the signals into boosts for the first page, or return the reason why there are none (see docs/cold-start.md)."""
    core, snapshot, signals = context.core, context.snapshot, found.signals
    nothing = Personal(found.missing or Reason.NO_SIGNALS, found.detail)
    if found.nothing and core.settings.signals.on_late == "skip":
        return nothing
    session, lagging = signals.session, ""
    lag_s, lags = snapshot.lag.of(context.subject.unit)
    if lags:
        lagging = f"the pipeline lags {lag_s:.0f} s"
    elif session is not None and session.lag_s > core.settings.signals.max_lag_s:
        lagging = f"the session's latest event took {session.lag_s:.0f} s to become visible"
    if lagging and session is not None:
        if core.settings.signals.on_lag == "disable":
            return Personal(Reason.LAGGING, lagging)
        session, nothing = None, Personal(Reason.LAGGING, lagging)
    guard = guard_of(snapshot.population, context.policy)
    affinities, source = _affinities(context, guard, session, signals, classes)
    if found.stale and source:
        source = "stale"
    if not affinities:
        affinities, source = _segment(context, guard)
    known = session is not None or signals.profile is not None
    why = unread(context, known=known)
    if not affinities or source is None:
        return replace(nothing, detail=nothing.detail or why or (guarded(context, guard) if known else ""))
    try:
        boosts = render_boosts(
            context.templates, affinities, _session_facts(session), request_facts(context.search), context.policy
        )
    except Exception as error:  # noqa: BLE001  whatever a template raises, the search goes on
        failed = f"{type(error).__name__}: {error}"[:300]
        return Personal(Reason.TEMPLATE_FAILED, failed, cause=failed)
    boosts = capped(borne(context, boosts), context.max_boost)
    if not any(boost.weight > 0.0 for boost in boosts):
        return replace(nothing, detail=nothing.detail or "the template listed no boost")
    return Personal(
        Reason.PERSONALIZED, lagging or why, (), boosts, context.max_boost, source, context.search.strategy,
        context.templates.version, _preference(context), forgotten_s=signals.forgotten_s,
    )  # fmt: skip


def _affinities(
    context: SearchContext, guard: RepeatGuard, session: Counters | None, signals: Signals, classes: tuple[str, ...]
) -> tuple[tuple[Affinity, ...], Source | None]:
    core, policy = context.core, context.policy
    fields, population = acting_fields(context.fields, policy, guard, classes), context.snapshot.population
    liked: dict[str, dict[Value, float]] = {"session": {}, "profile": {}}
    for scope, counters, half_lives in (
        ("session", session, core.session_half_lives),
        ("profile", signals.profile, core.profile_half_lives),
    ):
        if counters is not None:
            liked[scope] = preferences(
                counters, half_lives, fields, population, guard, policy.saturation, context.now_s
            )
    if classes:
        liked = {scope: of_classes(own, classes) for scope, own in liked.items()}
        liked["profile"] |= class_preferences(
            signals.classes, core.profile_half_lives, fields, population, guard, policy.saturation, context.now_s
        )
    alpha = session_part(session.events, core.settings.signals) if session is not None and liked["session"] else 0.0
    source: Source | None = (
        "blend" if alpha and liked["profile"] else "session" if alpha else "profile" if liked["profile"] else None
    )
    return strongest(
        blended(liked["session"], liked["profile"], alpha), fields, policy.max_functions, core.class_combinations
    ), source


def _segment(context: SearchContext, guard: RepeatGuard) -> tuple[tuple[Affinity, ...], Source | None]:
    """Return the affinities of the subject's first segment that has any."""
    acting = acting_fields(context.fields, context.policy, guard, ())
    fields = {name: field for name, field in acting.items() if field.kind.is_of_segments}
    for name in context.subject.segments:
        counters = context.snapshot.segments.get(name)
        if counters is not None:
            liked = preferences(
                counters,
                context.core.profile_half_lives,
                fields,
                context.snapshot.population,
                guard,
                context.policy.saturation,
                context.now_s,
            )
            if liked:
                tagged: dict[Value, tuple[float, Source]] = {
                    value: (weight, "segment") for value, weight in liked.items()
                }
                return strongest(tagged, fields, context.policy.max_functions), "segment"
    return (), None


def _plan(
    context: SearchContext, key: PlanKey | None, unstored: bytes | None, found: SignalsRead
) -> tuple[PagePlan | None, bytes | None]:
    """Return the list's plan, and its text.

    It is the newer one of the store's and the one that it lacked, otherwise the one that this process kept. A plan that could not
    be written is older than the store's if another process served the list's latest page. Plans from before an erasure of the
    subject do not count.

    unstored: the plan that the store lacked before it was read. A plan that is written meanwhile is not in what was read.
    """
    if key is None:
        return None, None
    forgotten_s = found.signals.forgotten_s

    def read(*texts: bytes | None) -> list[tuple[PagePlan, bytes]]:
        plans = [(plan, raw) for raw in texts if raw and (plan := decode(raw))]
        return [one for one in plans if one[0].search == key.search and one[0].forgotten_s >= forgotten_s]

    plans = read(unstored, found.signals.plan) or read(context.core.plans.get(key, context.clock_s()))
    return max(plans, key=lambda one: one[0].at_s, default=(None, None))


def _goes_back(context: SearchContext, plan: PagePlan) -> bool:
    """Whether a first page belongs to a list whose later pages were shown already, so that it must be the same page again.

    Without later pages, the same first page is a new search with new boosts.
    """
    another = plan.template_version != context.templates.version  # the version in use was checked by `answer`
    rejected = another and held_by(context, "personalized", plan.template_version) is not None
    return not rejected and goes_beyond(shown_by(plan), context.search.size)


def _depth(context: SearchContext, part: Personal, end: int) -> int:
    """Return the personalized leg's `size`: the page's end, or more if hits of other pages are left out."""
    others = shown_elsewhere(context, part.plan) if part.plan is not None else None
    if not others:
        return end
    wanted = context.search.size + len(others)
    return max(end, min(wanted, context.policy.window_size, context.facts.max_result_window))


def _continued(context: SearchContext, plan: PagePlan | None, found: SignalsRead) -> Personal:
    """Continue the list with the boosts of its first page: the plan replaces signals and template."""
    if plan is None:
        return Personal(Reason.NO_PLAN, found.detail or "the first page left no plan, or it has expired")
    if plan.template_version != context.templates.version:  # the version in use was checked by `answer`
        held = held_by(context, "personalized", plan.template_version)
        if held is not None:
            return Personal(*held)
    if not context.block:  # exploration was switched off since the first page
        plan = replace(plan, block=0)
    limit = min(plan.max_boost, context.max_boost)
    boosts = capped(plan.boosts, limit)
    return Personal(
        Reason.PERSONALIZED, "", (), boosts, limit, plan.source, plan.strategy, plan.template_version, plan.preference, plan,
        forgotten_s=plan.forgotten_s,
    )  # fmt: skip


def _session_facts(session: Counters | None) -> dict[str, float]:
    return {"events": session.events if session else 0.0}


def _preference(context: SearchContext) -> str | None:
    """Return one token per list if replicas could order ties differently and the caller set no preference, otherwise None."""
    if "preference" in context.search.params:
        return None
    return f"rewriter{context.seed:x}" if context.facts.replicas else None
