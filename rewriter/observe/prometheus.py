"""Prometheus metrics of the searches and of the state of a process; needs the extra `prometheus`.

    metrics = PrometheusMetrics()
    rewriter = Rewriter(client, store=…, hooks=[metrics])
    metrics.watch(rewriter)

Searches are counted by a thread of the hook's own, at most a quarter of a second later. The state (breakers, lag, quarantine,
…) is read from memory when it is scraped: a scrape sends no request to a store or the cluster, and changes nothing. Labels have few
values: reasons, variants, arms, modes, the settings' policies, template names, partitions. No label, name or value holds an
identifier or a query. docs/metrics.md lists every metric.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sized
from typing import Any, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from rewriter.observe.background import Background
from rewriter.observe.hooks import BaselineFailure, SearchDetails
from rewriter.observe.state_metrics import StateMetrics, Watched, counter, gauge
from rewriter.report import PageFacts, Reason, Report

SECONDS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The bucket edges of all histograms, with exact edges at 10 and 30 ms for the promises."""
LEGS = ("baseline", "personalized", "rewritten", "exploration", "signals", "render", "merge")
MAX_ERRORS = 30
"""The number of error classes with a label of their own; further classes count as `other`."""
MAX_UNITS = 200_000
"""The number of the experiment's units whose hash is kept, so that each is counted once: about 20 MB at most."""


class WatchedWorker(Protocol):
    """The part of an ingest worker that WorkerMetrics reads."""

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of entries by outcome."""

    @property
    def backlog(self) -> Any:
        """`entries` and `lag_s`."""

    @property
    def held(self) -> Sized:
        """The partitions that it holds."""


class PrometheusMetrics:
    """A hook that counts searches, and a collector of rewriters' states. Thread-safe and fork-safe.

    registry: where the metrics are registered; None for none. Metrics of one name can be registered once in a registry.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY) -> None:
        made: dict[str, Any] = {"registry": registry}
        self._searches = Counter(
            "rewriter_searches",
            "Searches by reason, variant, arm, policy and mode",
            ["reason", "variant", "arm", "policy", "mode"],
            **made,
        )
        self._baseline_failures = Counter(
            "rewriter_baseline_failures",
            "The caller's own searches that raised, by the kind of the error",
            ["error"],
            **made,
        )
        self._added = Histogram(
            "rewriter_added_seconds",
            "From the baseline's arrival to the answer",
            ["mode", "reason"],
            buckets=SECONDS,
            **made,
        )
        self._legs = Histogram(
            "rewriter_part_seconds", "Time of each part of a search that ran", ["part", "mode"], buckets=SECONDS, **made
        )
        self._sources = Counter(
            "rewriter_signals", "Personalized searches by where their signals came from", ["source", "policy"], **made
        )
        self._hits = Counter("rewriter_hits", "Hits shown on personalized pages, by kind", ["kind", "policy"], **made)
        self._boosts = Counter("rewriter_boosts", "Boosts sent and named", ["policy"], **made)
        self._matched = Counter(
            "rewriter_boosts_matched", "Boosts sent that matched a hit of the page", ["policy"], **made
        )
        self._errors = Counter("rewriter_part_errors", "Optional parts that failed, by part", ["part"], **made)
        self._categories = Histogram(
            "rewriter_page_categories",
            "Categories on the first ten hits of personalized pages",
            ["policy"],
            buckets=range(1, 11),
            **made,
        )
        self._trials = Counter(
            "rewriter_trial_searches",
            "Searches with a draft on trial, by reason and policy",
            ["reason", "policy"],
            **made,
        )
        self._hedges = Counter("rewriter_hedges", "Hedged searches by the served answer", ["served"], **made)
        self._units = Counter(
            "rewriter_exposed_units",
            "People of the experiment that this process saw for the first time, by arm",
            ["arm"],
            **made,
        )
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._error_kinds: set[str] = set()
        self._queue: Background[SearchDetails | BaselineFailure] = Background(self._take)
        self._states = StateMetrics(self._queue)
        if registry is not None:
            registry.register(self._states)

    def __call__(self, details: SearchDetails) -> None:
        """Queue one search."""
        self._queue.put(details)

    def baseline_failed(self, failure: BaselineFailure) -> None:
        """Queue a search of the caller that raised."""
        self._queue.put(failure)

    def watch(self, rewriter: Watched) -> None:
        """Show the state of a rewriter, from the next scrape on."""
        self._states.watch(rewriter)

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until all earlier searches were counted. For tests and scripts."""
        return self._queue.flush(timeout_s)

    def close(self) -> None:
        """Count the waiting searches, and end the thread."""
        self._queue.close()

    def _take(self, one: SearchDetails | BaselineFailure) -> None:
        if isinstance(one, BaselineFailure):
            kind = one.error if one.error in self._error_kinds or len(self._error_kinds) < MAX_ERRORS else "other"
            self._error_kinds.add(kind)
            self._baseline_failures.labels(kind).inc()
            return
        self._count(one.report)

    def _count(self, report: Report) -> None:
        policy, mode = report.policy or "none", getattr(report, "mode", "parallel")
        arm = report.exposure.arm if report.exposure else "none"
        self._searches.labels(str(report.reason), report.variant, arm, policy, mode).inc()
        if report.exposure is not None:
            self._see(report.exposure.unit, report.exposure.arm)
        timings = report.timings_ms
        if "added" in timings:
            self._added.labels(mode, str(report.reason)).observe(timings["added"] / 1000.0)
        for part in LEGS:
            if part in timings:
                self._legs.labels(part, mode).observe(timings[part] / 1000.0)
        for error in report.errors:
            self._errors.labels(error.partition(":")[0] if error.partition(":")[0] in LEGS else "other").inc()
        if getattr(report, "trial", False):
            self._trials.labels(str(report.reason), policy).inc()
        if getattr(report, "hedged", False):
            self._hedges.labels("rewritten" if report.reason is Reason.PERSONALIZED else "baseline").inc()
        if report.source is not None:
            self._sources.labels(report.source, policy).inc()
        if (facts := report.page_facts) is not None:
            self._count_page(report, facts, policy)

    def _count_page(self, report: Report, facts: PageFacts, policy: str) -> None:
        if facts.categories is not None:
            self._categories.labels(policy).observe(facts.categories)
        if facts.boosts_matched is not None:
            self._boosts.labels(policy).inc(len(report.boosts))
            self._matched.labels(policy).inc(facts.boosts_matched)
            self._hits.labels("named", policy).inc(facts.shown)
        if facts.kept is not None:
            self._hits.labels("compared", policy).inc(facts.shown)
        for kind in ("shown", "kept", "boosted", "at_limit", "explored"):
            if (count := getattr(facts, kind)) is not None:
                self._hits.labels(kind, policy).inc(count)

    def _see(self, unit: str, arm: str) -> None:
        """Count a person once, within the bound of this process's memory."""
        key = hash(unit)
        new = key not in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_UNITS:
            self._seen.popitem(last=False)
        if new:
            self._units.labels(arm).inc()


class WorkerMetrics(Collector):
    """Metrics of an ingest worker, read from its memory at each scrape: entries by outcome, dead letters, waiting, lag."""

    def __init__(self, worker: WatchedWorker, registry: CollectorRegistry | None = REGISTRY) -> None:
        self._worker = worker
        if registry is not None:
            registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not collect."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the present metrics."""
        worker = self._worker
        counts = {what: count for what, count in dict(worker.counts).items() if what.isidentifier()}
        yield counter(
            "ingested_entries",
            "Entries of the streams by outcome",
            [((what,), n) for what, n in counts.items()],
            ["outcome"],
        )
        yield gauge(
            "ingest_waiting_entries",
            "Entries that wait in the partitions of this worker",
            [((), worker.backlog.entries)],
        )
        yield gauge("ingest_lag_seconds", "Lag of each partition that this worker holds", [((), worker.backlog.lag_s)])
        yield gauge("ingest_partitions_held", "Partitions that this worker holds", [((), len(worker.held))])
