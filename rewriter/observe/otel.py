"""OpenTelemetry spans, metrics and events of searches; needs the extra `otel`, of which only the API is used.

    rewriter = Rewriter(client, store=…, hooks=[OpenTelemetryHook()])

OpenSearch's Python client writes no traces. This hook adds spans below the span that is open during a search:

    rewriter.search               the search: reason, variant, policy, mode
      search products             the baseline, as a client span with the stable database names
      signals                     the read of the stores
      search products             the personalized leg, and the exploration leg

and records `db.client.operation.duration` for each leg, and a `feature_flag.evaluation` event for the arm of the experiment. A
thread of the hook writes the spans after the search has ended, with the measured times. Only legs that ended before the answer have
a span. No attribute holds a query, a body, an id or the content of a document.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from rewriter.observe.background import Background
from rewriter.observe.hooks import BaselineFailure, SearchDetails
from rewriter.report import Report

SYSTEM = "opensearch"
SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""The edges that the semantic conventions recommend for db.client.operation.duration."""
MAX_COLLECTIONS = 100
"""The number of index names that metrics tell apart; searches of further ones have no `db.collection.name` there."""
NS_PER_MS = 1e6

Item = tuple[SearchDetails | BaselineFailure, Context, int]
Attributes = Mapping[str, str | int | float | bool]


class OpenTelemetryHook:
    """A hook that reports searches to OpenTelemetry. Thread-safe and fork-safe; its errors are counted and never raised.

    The providers are by default those of the process. system: `db.system.name`, "elasticsearch" if that is the search engine.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        *,
        system: str = SYSTEM,
    ) -> None:
        self._tracer = trace.get_tracer("rewriter", tracer_provider=tracer_provider)
        meter = metrics.get_meter("rewriter", meter_provider=meter_provider)
        self._logger = get_logger("rewriter", logger_provider=logger_provider)
        self._system = system
        self._operations = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._added = meter.create_histogram(
            "rewriter.search.added",
            unit="s",
            description="From the baseline's arrival to the answer.",
            explicit_bucket_boundaries_advisory=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1),
        )
        self._collections: set[str] = set()
        self._queue: Background[Item] = Background(self._take)

    @property
    def dropped(self) -> int:
        """The number of searches that the full queue dropped, because the backend is too slow."""
        return self._queue.dropped

    @property
    def errors(self) -> int:
        """The number of searches that could not be reported because the backend raised an error."""
        return self._queue.errors

    def __call__(self, details: SearchDetails) -> None:
        """Queue one search, with the caller's context."""
        self._queue.put((details, otel_context.get_current(), time.time_ns()))

    def baseline_failed(self, failure: BaselineFailure) -> None:
        """Queue a search of the caller that raised."""
        self._queue.put((failure, otel_context.get_current(), time.time_ns()))

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until all earlier searches were reported. For tests and scripts."""
        return self._queue.flush(timeout_s)

    def close(self) -> None:
        """Report the waiting searches, and end the thread."""
        self._queue.close()

    def _take(self, item: Item) -> None:
        one, context, ended_ns = item
        if isinstance(one, BaselineFailure):
            self._failed(one, context, ended_ns)
        else:
            self._searched(one, context, ended_ns)

    def _failed(self, failure: BaselineFailure, context: Context, ended_ns: int) -> None:
        attributes = {**self._operation(failure.indices, "baseline"), "error.type": failure.error}
        self._span(
            _name(failure.indices), context, ended_ns - _ns(failure.after_ms), ended_ns, attributes, failure.error
        )
        self._operations.record(failure.after_ms / 1000.0, self._metric(attributes), context)

    def _searched(self, details: SearchDetails, context: Context, ended_ns: int) -> None:
        report, indices = details.report, details.indices
        timings = report.timings_ms
        arrived_ns = ended_ns - _ns(timings.get("added", 0.0))
        began_ns = arrived_ns - _ns(_until_arrival_ms(timings))
        span = self._tracer.start_span(
            "rewriter.search", context, SpanKind.INTERNAL, attributes=_outcome(report), start_time=began_ns
        )
        inside = trace.set_span_in_context(span, context)
        if report.exposure is not None:
            self._logger.emit(
                event_name="feature_flag.evaluation",
                timestamp=began_ns,
                context=inside,
                severity_number=SeverityNumber.INFO,
                attributes=_evaluation(report),
            )
        for leg, start_ns, end_ns in _legs(timings, began_ns, arrived_ns):
            if leg == "signals":
                self._span("signals", inside, start_ns, end_ns, {"db.system.name": "redis", "rewriter.leg": leg}, "")
                continue
            attributes = self._operation(indices, leg)
            self._span(_name(indices), inside, start_ns, end_ns, attributes, "")
            self._operations.record((end_ns - start_ns) / 1e9, self._metric(attributes), inside)
        for error in report.errors:
            leg = error.partition(":")[0]
            if leg == "exploration":
                span.add_event("rewriter.part_failed", {"rewriter.leg": leg})
        if "added" in timings:
            attributes = {"rewriter.reason": str(report.reason), "rewriter.mode": report.mode}
            self._added.record(timings["added"] / 1000.0, attributes, inside)
        span.end(ended_ns)

    def _span(
        self, name: str, context: Context, start_ns: int, end_ns: int, attributes: Attributes, error: str
    ) -> None:
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes=attributes, start_time=start_ns)
        if error:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)

    def _operation(self, indices: tuple[str, ...], leg: str) -> dict[str, str]:
        found = {"db.system.name": self._system, "db.operation.name": "search", "rewriter.leg": leg}
        if len(indices) == 1:
            found["db.collection.name"] = indices[0]
        return found

    def _metric(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Return a metric's attributes: only those of the conventions, and of index names a bounded number."""
        found = {name: value for name, value in attributes.items() if name != "rewriter.leg"}
        collection = found.get("db.collection.name")
        if collection is not None and collection not in self._collections:
            if len(self._collections) < MAX_COLLECTIONS:
                self._collections.add(collection)
            else:
                del found["db.collection.name"]
        return found


def _until_arrival_ms(timings: Mapping[str, float]) -> float:
    """Return the time from a search's start to its answer's arrival.

    Only with `added` was the caller's own search sent at once; in `mode = "rewrite"` it waited for signals and template, and its
    page for an exploration pool that no search had fetched lately.
    """
    if "added" in timings:
        return max(timings.get("baseline", 0.0), timings.get("rewritten", 0.0))
    search_ms = max(timings.get(leg, 0.0) for leg in ("baseline", "rewritten", "exploration"))
    waited_for = ("signals", "render", "merge")
    return search_ms + sum(timings.get(part, 0.0) for part in waited_for)


def _legs(timings: Mapping[str, float], began_ns: int, arrived_ns: int) -> list[tuple[str, int, int]]:
    """Return each measured leg with its start and end. The optional legs start after signals and template."""
    found: list[tuple[str, int, int]] = []
    if "baseline" in timings:
        found.append(("baseline", arrived_ns - _ns(timings["baseline"]), arrived_ns))
    at_ns = began_ns
    if "signals" in timings:
        found.append(("signals", at_ns, at_ns + _ns(timings["signals"])))
        at_ns = found[-1][2]
    at_ns += _ns(timings.get("render", 0.0))
    found += [
        (leg, at_ns, at_ns + _ns(timings[leg]))
        for leg in ("personalized", "exploration", "rewritten")
        if leg in timings
    ]
    return found


def _outcome(report: Report) -> dict[str, Any]:
    named = {
        "rewriter.reason": str(report.reason),
        "rewriter.variant": report.variant,
        "rewriter.policy": report.policy,
        "rewriter.mode": getattr(report, "mode", None),
        "rewriter.source": report.source,
        "rewriter.template_version": report.template_version,
        "rewriter.trial": report.trial or None,
        "rewriter.boosts": len(report.boosts),
        "rewriter.slots": len(report.slots),
    }
    return {name: value for name, value in named.items() if value is not None}


def _evaluation(report: Report) -> dict[str, str]:
    """Return the attributes of the arm's evaluation, without the unit, which is a person's pseudonym."""
    return {
        "feature_flag.key": "rewriter.experiment",
        "feature_flag.provider.name": "rewriter",
        "feature_flag.result.variant": report.exposure.arm if report.exposure else "",
        "feature_flag.result.reason": "split",
    }


def _name(indices: tuple[str, ...]) -> str:
    return f"search {indices[0]}" if len(indices) == 1 else "search"


def _ns(ms: float) -> int:
    return int(ms * NS_PER_MS)
