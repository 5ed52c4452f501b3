"""The state of one rewriter in one process, for a health page and for `rewriter status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

from rewriter.decide.breaker import worst_of
from rewriter.decide.lag import in_partitions
from rewriter.observe.hooks import Hooks
from rewriter.shell.fleet import parse_report, paused_policies, quarantined, switches_by
from rewriter.shell.ready import missing
from rewriter.signals.affinities import guard_of
from rewriter.signals.repeats import described as described_guard
from rewriter.signals.store_failures import described

if TYPE_CHECKING:
    from rewriter.core import Core
    from rewriter.index_facts import IndexFacts
    from rewriter.shell.background.refresh import Refresh
    from rewriter.shell.bulkhead import Bulkhead
    from rewriter.shell.plans import AsyncPlanSaver, PlanSaver
    from rewriter.shell.track import AsyncTracker, Tracker


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one rewriter in one process; everything in it is plain data.

    healthy:  whether there are no `problems`; for scripts.
    notes:    texts on what is ignored and no problem: switches of other services' policies, drafts on trial that do not serve.
    trials:   the version of the draft on trial by policy.
    breaker:  the worst of the policies' breakers of the optional legs; each policy's own is in `policies`, the stores' are in
              `store_breakers`.
    reasons:  the number of searches of the last minute by reason.
    experiment: the shares of `rollout` and `holdout` in effect, with overrides by switches.
    switches_version: a hash of the switches' values. A process whose hash differs from the others' has not followed a change.
    fleet:    the reports of processes that searched lately, by host, process id and rewriter.
    lag_changes: how often the signals began to lag or caught up.
    rewritten_in_flight: the number of searches in flight that were sent once, with boosts; `max_rewritten` is their limit.
    exploration_pools: the number of searches that found a fresh exploration pool, a stale one, or none ("missing").
    store:    "ok", or why the store does not answer; None without a store.
    tracked:  the number of events given to `track`, by outcome: accepted, dropped, refused, no_weight, no_consent, waiting.
    population_values: the number of values in the population, items excluded.
    population_left_out: the number of values that did not fit into it.
    plans_dropped: the number of plans that the store has not, because too many waited, it refused them, or its share was full.
    plans_waiting: the number of plans that wait to be made and saved.
    missing:  texts on the data that searches need and this process has not read yet: see `wait_ready`.
    rounds:   how often the background has read store and cluster; while it is 0, their state is not known.
    """

    healthy: bool
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    switches: Mapping[str, Any] = field(default_factory=dict)
    breaker: Mapping[str, Any] = field(default_factory=dict)
    store_breakers: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    arms: Mapping[str, Any] = field(default_factory=dict)
    experiment: Mapping[str, float] = field(default_factory=dict)
    switches_version: int = 0
    lag: Mapping[str, Any] = field(default_factory=dict)
    lag_changes: int = 0
    store: str | None = None
    templates: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, str] = field(default_factory=dict)
    quarantined: tuple[str, ...] = ()
    policies: Mapping[str, Any] = field(default_factory=dict)
    indices: Mapping[str, Any] = field(default_factory=dict)
    population_values: int = 0
    population_left_out: int = 0
    segments: tuple[str, ...] = ()
    fleet: Mapping[str, Any] = field(default_factory=dict)
    in_flight: int = 0
    max_in_flight: int = 0
    rewritten_in_flight: int = 0
    max_rewritten: int = 0
    exploration_pools: Mapping[str, int] = field(default_factory=dict)
    plans_dropped: int = 0
    plans_waiting: int = 0
    tracked: Mapping[str, int] = field(default_factory=dict)
    hook_errors: int = 0
    rounds: int = 0
    missing: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the status as a dict that JSON can hold."""
        return asdict(self)


STATUS_S = 1.0
"""How long a status waits for the store: a health probe that hangs would make an orchestrator restart a good process."""


def without_runtime(why: str) -> Status:
    """Return the status of a process or an event loop that has no runtime. why: the reason, as text."""
    return Status(False, (why,))


def store_state(found: dict[str, str] | BaseException | None) -> tuple[str, dict[str, str]]:
    """Return a store's state after its fleet's reports were read: "ok" and the reports, or the error, or that it is late."""
    if isinstance(found, dict):
        return "ok", found
    if found is None:
        return f"no answer in {STATUS_S:g} s", {}
    return described(found), {}


def _exploration_share(core: Core, policy: str) -> float:
    """Return the share of exploration hits that is in effect for a policy, 0 if exploration is off."""
    switches, settings = core.snapshot.switches, core.settings
    if not switches.of("exploration", policy, settings.switches.exploration):
        return 0.0
    return float(switches.of("exploration_share", policy, settings.policies[policy].exploration_share))


class Runtime(Protocol):
    """What the runtimes of both shells have that a status shows."""

    core: Core
    refresh: Refresh
    in_flight: Bulkhead
    rewritten: Bulkhead

    @property
    def plans(self) -> PlanSaver | AsyncPlanSaver:
        """The saver of plans."""
        ...

    @property
    def tracker(self) -> Tracker | AsyncTracker | None:
        """The buffer of tracked events, None without a Redis or Valkey."""
        ...


def status_of(runtime: Runtime, hooks: Hooks, now_s: float, store: str | None, fleet: Mapping[str, str]) -> Status:
    """Return the status at `now_s` (monotonic). `store` and `fleet` come from `store_state`; `store` is None without a store."""
    core, refresh, in_flight, rewritten = runtime.core, runtime.refresh, runtime.in_flight, runtime.rewritten
    snapshot = core.snapshot
    problems = _problems(core, refresh, now_s, store)
    drafts = (f"on trial: template {one} is quarantined" for one in quarantined(core, now_s, trials=True))
    return Status(
        healthy=not problems,
        problems=problems,
        notes=(*refresh.notes, *drafts),
        switches=switches_by(snapshot.switches),
        breaker=asdict(worst_of(one.status(now_s) for one in core.breakers.values())),
        store_breakers={name: asdict(one.status(now_s)) for name, one in core.store_breakers.items()},
        reasons=refresh.reasons,
        arms=asdict(core.arms.status()),
        experiment={
            "rollout": float(snapshot.switches.of("rollout", None, core.settings.experiment.rollout)),
            "holdout": float(snapshot.switches.of("holdout", None, core.settings.experiment.holdout)),
        },
        switches_version=crc32(repr(sorted(snapshot.switches.values.items())).encode()),
        lag=asdict(snapshot.lag),
        lag_changes=refresh.lag_changes,
        store=store,
        templates={name: made.version for name, made in snapshot.templates.items()},
        trials={name: made.version for name, made in snapshot.trials.items()},
        quarantined=tuple(quarantined(core, now_s)),
        policies={name: _of_policy(core, name, now_s) for name in core.late_legs},
        indices={name: _of_indices(facts) for name, facts in snapshot.facts.items()},
        population_values=len(snapshot.population.weights),
        population_left_out=snapshot.population.left_out,
        segments=tuple(sorted(snapshot.segments)),
        fleet={name: report for name, text in fleet.items() if (report := parse_report(text))},
        in_flight=in_flight.count,
        max_in_flight=in_flight.cap,
        rewritten_in_flight=rewritten.count,
        max_rewritten=rewritten.cap,
        exploration_pools=dict(core.pools.found),
        plans_dropped=runtime.plans.dropped + core.plans.refused,
        plans_waiting=core.plans.waiting,
        tracked=runtime.tracker.counts if runtime.tracker else {},
        hook_errors=hooks.errors,
        rounds=refresh.rounds,
        missing=missing(core, refresh),
    )


def _problems(core: Core, refresh: Refresh, now_s: float, store: str | None) -> tuple[str, ...]:
    """Return a text for each cause that keeps searches from being personalized, or this process from knowing whether they are."""
    lag = core.snapshot.lag
    breakers = {f"policy {name}: breaker": one.status(now_s) for name, one in core.breakers.items()}
    for name, one in core.store_breakers.items():
        breakers[f"breaker of the {name.replace('_', ' ')}"] = one.status(now_s)
    return (
        *([f"store: {store}"] if store not in (None, "ok") else []),
        *(f"{name} {one.state}: {one.why}" for name, one in breakers.items() if one.state != "closed"),
        *([f"signals lag{in_partitions(lag)}"] if lag.lagging else []),
        *(f"template {one} is quarantined" for one in quarantined(core, now_s)),
        *(f"policy {name}: {why}" for name, why in paused_policies(core, now_s).items()),
        *(f"policy {name}: {why}" for name, sizes in core.leg_sizes.items() if (why := sizes.refused(now_s))),
        *(f"policy {name}: {text}" for name, texts in refresh.indices.dead.items() for text in texts),
        *refresh.faults,
        *_failed_sources(dict(refresh.errors), store),
        *refresh.indices.problems,
    )


def _of_policy(core: Core, name: str, now_s: float) -> dict[str, Any]:
    """Return the state of one policy, as plain data."""
    settings, population = core.settings.policies[name], core.snapshot.population
    return {
        "mode": settings.mode,
        "exploration_share": _exploration_share(core, name),
        "paused": name in paused_policies(core, now_s),
        "breaker": asdict(core.breakers[name].status(now_s)),
        "late_share": core.late_legs[name].late_share(),
        "hedging": asdict(core.hedging[name].status(now_s)) if name in core.hedging else None,
        "fields": sorted(core.snapshot.fields[name]),
        "repeats": described_guard(guard_of(population, settings), population.classes),
    }


def _of_indices(facts: IndexFacts) -> dict[str, Any]:
    """Return the facts of one index expression that bound what is sent to it."""
    return {
        "replicas": facts.replicas,
        "max_result_window": facts.max_result_window,
        "max_rescore_window": facts.max_rescore_window,
    }


def _failed_sources(errors: Mapping[str, str], store: str | None) -> Iterator[str]:
    """Yield each error once, with the sources that failed with it. An error that the store's own problem names is left out."""
    sources: dict[str, list[str]] = {}
    for source, cause in errors.items():
        sources.setdefault(cause, []).append(source)
    for cause, failed in sources.items():
        if store in (None, "ok") or not str(store).startswith(cause):
            yield f"{', '.join(failed)}: {cause}"
