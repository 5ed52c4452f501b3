"""Two benchmarks: the cost of hooks for a search, and the number of searches that interleaving needs beside an A/B test.

The first measures Prometheus, the UBI buffer and the OpenTelemetry SDK together, on the caller's thread. The second is a simulation
of a slightly better ranking and of people who click by position and differ in how much they click. With 200 resamples for each
number of searches, it finds the number at which 80 % of them detect the better ranking (two-sided, 95 %, one look), to 3 %.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from rewriter import Reason, Subject
from rewriter.experiment.estimates import ratio
from rewriter.explore.team_draft import PERSONALIZED, team_draft
from rewriter.observe.hooks import Hooks
from rewriter.observe.otel import OpenTelemetryHook
from rewriter.observe.prometheus import PrometheusMetrics
from rewriter.observe.ubi import UbiRecords
from rewriter.report import Exposure, PageFacts, Report
from rewriter.settings import Settings

SEARCHES = 5_000
RESAMPLES = 200
PEOPLE = 3_000
COUNTED: dict[str, Any] = {
    "category_field": "kind",
    "date_field": "listed",
    "fields": {"brand": {}, "colour": {}, "size": {}},
}
SOURCE = {"kind": "k", "listed": "2026-11-02", "brand": "b", "colour": ["red", "blue"], "size": "m"}


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS

    def write(self, records: Any) -> int:  # noqa: ARG002
        return 0

    def close(self) -> None:
        pass


def cost() -> dict[str, float]:
    """Return microseconds on the caller's thread, p50 and p99 of the wall time, and p50 of the thread's CPU time."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere()))
    observers = (
        PrometheusMetrics(CollectorRegistry()),
        OpenTelemetryHook(tracers, MeterProvider([InMemoryMetricReader()])),
        UbiRecords(_Nowhere(), Settings.model_validate({"policies": {"shop": {"index": "products", **COUNTED}}})),
    )
    hooks = Hooks(observers)
    timings = {"baseline": 8.0, "signals": 1.0, "render": 0.4, "personalized": 9.0, "exploration": 7.0, "added": 3.0}
    report = Report(
        Reason.PERSONALIZED, variant="personalized", policy="shop", exposure=Exposure("treatment", "u"), source="blend",
        timings_ms=timings, weigh_page=lambda: PageFacts(10, 6, 4, 1, 1, 3),
    )  # fmt: skip
    response = {"hits": {"total": {"value": 40}, "hits": [{"_id": f"p{n}", "_source": SOURCE} for n in range(10)]}}
    arguments = {"index": "products", "body": {"query": {"match": {"title": "red shoes"}}, "size": 10}}
    wall, cpu = [], []
    for _ in range(SEARCHES):
        cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
        hooks.finished(arguments, Subject("ann"), response, report)
        wall.append((time.perf_counter_ns() - wall_ns) / 1000)
        cpu.append((time.thread_time_ns() - cpu_ns) / 1000)
        time.sleep(0.0005)
    for one in observers:
        one.close()
    return {
        "wall_p50_us": round(float(np.median(wall)), 1), "wall_p99_us": round(float(np.quantile(wall, 0.99)), 1),
        "cpu_p50_us": round(float(np.median(cpu)), 1),
    }  # fmt: skip


def people(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, by person and search, clicks under the baseline and the better ranking and the list's sign; and searches by person.

    People search 1 to 30 times; the number of clicks per person is lognormal with σ = 0.7.
    """
    rng = np.random.default_rng(seed)
    examined = 1.0 / (1.0 + 0.35 * np.arange(10))
    counts = rng.integers(1, 31, PEOPLE)
    plain, better, signs = (np.full((PEOPLE, 30), np.nan) for _ in range(3))
    for person in range(PEOPLE):
        eager = rng.lognormal(0.0, 0.7)
        for at in range(counts[person]):
            liking = rng.beta(0.8, 7, 30)
            rankings = [np.argsort(-(liking + rng.normal(0, noise, 30)))[:10] for noise in (0.20, 0.18)]
            for found, ranking in zip((plain, better), rankings, strict=True):
                found[person, at] = (rng.random(10) < np.minimum(0.9, eager * liking[ranking] * examined)).sum()
            theirs, mine = ([{"_id": str(one)} for one in ranking] for ranking in rankings)
            draft = team_draft(mine, theirs, lambda hit: (str(hit["_id"]),), 10, 30 * person + at)
            ids = np.array([int(hit["_id"]) for hit in draft.hits[:10]])
            clicked = rng.random(10) < np.minimum(0.9, eager * liking[ids] * examined)
            teams = [draft.teams.get((str(one),), "-") for one in ids]
            credit = sum(
                (team == PERSONALIZED) - (team == "B") for team, hit in zip(teams, clicked, strict=True) if hit
            )
            signs[person, at] = np.sign(credit)
    return plain, better, signs, counts


def needed() -> dict[str, float]:
    """Return the number of searches at which each method detects the better ranking in 80 % of the resamples, and the ratio."""
    plain, better, signs, counts = people()
    rng = np.random.default_rng(2)
    of_person = [np.nansum(one, axis=1) for one in (plain, better)]
    won, decided = np.nansum(signs, axis=1), (np.nan_to_num(signs) != 0).sum(axis=1).astype(np.float64)

    def of_test(number: int) -> bool:
        arms = [
            (clicks[drawn], counts[drawn])
            for clicks in of_person[::-1]
            for drawn in [rng.integers(0, PEOPLE, number // 2)]
        ]
        one, other = (ratio(x.astype(np.float64), y.astype(np.float64)) for x, y in arms)
        return bool((one.value - other.value) / np.hypot(one.standard_error, other.standard_error) > 1.96)

    def of_lists(number: int) -> bool:
        drawn = rng.integers(0, PEOPLE, number)
        one = ratio(won[drawn], decided[drawn])
        return bool(one.standard_error > 0 and one.value / one.standard_error > 1.96)

    def has_power(finds: Any, number: int) -> bool:
        return sum(bool(finds(number)) for _ in range(RESAMPLES)) >= 0.8 * RESAMPLES

    def first(finds: Any) -> int | None:
        low, high = 20, 24
        while not has_power(finds, high):
            low, high = high, int(high * 1.2) + 1
            if high > 400_000:
                return None
        while high > 1.03 * low + 1:
            middle = (low + high) // 2
            low, high = (low, middle) if has_power(finds, middle) else (middle, high)
        return int(high * counts.mean())

    lists, test = first(of_lists), first(of_test)
    return {
        "lift_of_clicks": round(float(np.nansum(better) / np.nansum(plain) - 1), 4), "interleaved_searches": lists or -1,
        "ab_searches": test or -1, "ratio": round(test / lists, 1) if lists and test else -1,
    }  # fmt: skip


def main() -> None:
    """Print one line of JSON for each benchmark."""
    print(json.dumps({"observers": cost()}))
    print(json.dumps({"interleaving": needed()}))


if __name__ == "__main__":
    main()
