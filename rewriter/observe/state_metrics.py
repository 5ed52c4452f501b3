"""Prometheus metrics of the state of a process: breakers, lag, policies, arms; read from memory when they are scraped."""

from __future__ import annotations

import weakref
from collections import Counter as Counted
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rewriter.observe.background import Background

Samples = Sequence[tuple[tuple[str, ...], float]]
OPEN = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class Watched(Protocol):
    """The part of a rewriter that `watch` reads."""

    def local_status(self) -> Any:
        """Return the state of this process, from memory alone."""


class StateMetrics(Collector):
    """The states of the watched rewriters, read from memory at each scrape. A state that fails is left out and counted."""

    def __init__(self, queue: Background[Any]) -> None:
        self._queue = queue
        self._rewriters: list[weakref.ref[Any]] = []
        self._failed = 0

    def watch(self, rewriter: Watched) -> None:
        """Read this rewriter too, for as long as it lives."""
        self._rewriters.append(weakref.ref(rewriter))

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the metrics depend on the watched rewriters, and registering must not collect."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics."""
        states = []
        for held in self._rewriters:
            rewriter = held()
            if rewriter is None:
                continue
            try:
                states.append(rewriter.local_status())
            except Exception:  # noqa: BLE001  a scrape shows what can be shown
                self._failed += 1
        yield counter("observer_dropped", "Searches that the metrics' full queue dropped", [((), self._queue.dropped)])
        errors = self._queue.errors + self._failed
        yield counter("observer_errors", "Searches and states that could not be counted", [((), errors)])
        if states:
            yield from _merged(states)


def _merged(states: Sequence[Any]) -> Iterable[Metric]:
    """Yield the metrics of all rewriters of one process: counts are added, and the worst state is reported."""
    yield from _of_breakers(states)
    yield from _of_lag(states)
    yield from _of_policies(states)
    yield from _of_experiment(states)
    yield gauge("in_flight", "Optional legs and reads under way", [((), sum(one.in_flight for one in states))])
    yield gauge("max_in_flight", "The cap of the legs in flight", [((), sum(one.max_in_flight for one in states))])
    yield gauge(
        "healthy",
        "1 if local_status() reports no problem; store and fleet are not read",
        [((), min(one.healthy for one in states))],
    )
    yield gauge(
        "switches_version",
        "Hash of the switches: processes with other switches have another number",
        [((), max(one.switches_version for one in states))],
    )
    tracked: Counted[str] = Counted()
    for state in states:
        tracked.update(state.tracked)
    yield counter(
        "tracked_events",
        "Events given to track, by outcome",
        [((what,), count) for what, count in tracked.items()],
        ["outcome"],
    )
    yield counter("plans_dropped", "Plans that were not saved", [((), sum(one.plans_dropped for one in states))])
    yield counter("hook_errors", "Exceptions that hooks raised", [((), sum(one.hook_errors for one in states))])


def _of_breakers(states: Sequence[Any]) -> Iterable[Metric]:
    breakers: dict[str, list[Mapping[str, Any]]] = {}
    for state in states:
        legs = [("legs", policy["breaker"]) for policy in state.policies.values()]
        for name, one in (*legs, *state.store_breakers.items()):
            breakers.setdefault(name, []).append(one)
    yield gauge(
        "breaker_open", "State of a breaker: 1 open, 0.5 half-open, 0 closed",
        [((name,), max(OPEN.get(one["state"], 1.0) for one in found)) for name, found in breakers.items()], ["breaker"],
    )  # fmt: skip
    yield counter(
        "breaker_transitions", "How often a breaker changed to a state",
        [((name, to), sum(one["transitions"][to] for one in found)) for name, found in breakers.items() for to in OPEN],
        ["breaker", "to"],
    )  # fmt: skip


def _of_lag(states: Sequence[Any]) -> Iterable[Metric]:
    lags = [state.lag for state in states if state.lag.get("seconds") is not None]
    yield gauge(
        "signals_lagging",
        "1 if signals lag for some people",
        [((), max(bool(one["lagging"]) for one in lags))] if lags else [],
    )
    yield gauge(
        "signals_age_seconds",
        "Age of the newest signals: the largest lag of a partition",
        [((), max(one["seconds"] for one in lags))] if lags else [],
    )
    partitions: dict[str, float] = {}
    for one in lags:
        for number, (seconds, _) in enumerate(one.get("partitions", ())):
            partitions[str(number)] = max(seconds, partitions.get(str(number), 0.0))
    yield gauge(
        "signals_lag_seconds",
        "The lag of each partition",
        [((at,), value) for at, value in partitions.items()],
        ["partition"],
    )
    yield counter(
        "signals_lag_changes",
        "How often signals began to lag or caught up",
        [((), sum(one.lag_changes for one in states))],
    )


def _of_policies(states: Sequence[Any]) -> Iterable[Metric]:
    yield gauge("templates_quarantined", "Templates in quarantine", [((), sum(len(one.quarantined) for one in states))])
    paused = {(name,): float(one["paused"]) for state in states for name, one in state.policies.items()}
    yield gauge(
        "policy_paused", "1 if a policy sends no legs because they come too late", list(paused.items()), ["policy"]
    )
    shares = {(name,): float(one["exploration_share"]) for state in states for name, one in state.policies.items()}
    yield gauge(
        "policy_exploration_share",
        "Share of exploration hits in effect, 0 if it is off",
        list(shares.items()),
        ["policy"],
    )


def _of_experiment(states: Sequence[Any]) -> Iterable[Metric]:
    yield gauge(
        "experiment_share", "Present shares of the experiment's arms",
        [((name,), share) for name, share in states[-1].experiment.items()], ["of"],
    )  # fmt: skip
    arms: Counted[str] = Counted()
    for state in states:
        arms.update(state.arms.get("searches", {}))
    changed = sum(state.arms.get("arms_changed", 0) for state in states)
    yield counter("arms", "Searches by arm", [((arm,), count) for arm, count in arms.items()], ["arm"])
    yield counter("arms_changed", "Sessions whose arm changed at a log-in", [((), changed)])


def counter(name: str, text: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    """Return a counter with a sample for each tuple of label values."""
    family = CounterMetricFamily(f"rewriter_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def gauge(name: str, text: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    """Return a gauge with a sample for each tuple of label values."""
    family = GaugeMetricFamily(f"rewriter_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family
