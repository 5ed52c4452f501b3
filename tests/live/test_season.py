"""A small season on the real engines: virtual time, every search recorded, every event counted, seeded, and a report of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from rewriter import Reason
from rewriter.boost.templates import render_exploration
from rewriter.observe.hooks import BaselineFailure, SearchDetails
from rewriter.observe.prometheus import PrometheusMetrics, WorkerMetrics
from rewriter.report import Report
from rewriter.settings import Settings
from rewriter.shell.template_files import load_templates
from season import parameters
from season.run import Outcome, Season
from season.stage import POLICY, VARIANTS, Stage, opened, search_of
from tests.bench.test_season import made_corpus
from tests.scraped import EXPRESSIONS, empty_of, prometheus_of

GIVEN = parameters.read()
SMALL = replace(GIVEN, season=replace(GIVEN.season, twins=2), catalogue=replace(GIVEN.catalogue, product_types=6))
VISITS = 50


@pytest.fixture(scope="module")
def stage(opensearch_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened(SMALL, opensearch_url, redis_url, tmp_path_factory.mktemp("season"), made_corpus()) as found:
        yield found
        with redis.Redis.from_url(redis_url) as raw:
            for key in raw.scan_iter(match=f"{found.index}*", count=1000):
                raw.delete(key)


def played(stage: Stage, name: str, again: str = "") -> tuple[Outcome, list[dict[str, Any]]]:
    variant = next(one for one in VARIANTS if one.name == name)
    season = Season(stage, replace(variant, name=name + again), VISITS)
    outcome = season.run()
    lines = (stage.folder / f"{name}{again}" / "queries.ndjson").read_text("utf-8").splitlines()
    return outcome, [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def lift(stage: Stage) -> tuple[Outcome, list[dict[str, Any]]]:
    return played(stage, "lift")


def test_every_search_is_recorded_at_the_season_s_time(
    lift: tuple[Outcome, list[dict[str, Any]]], stage: Stage
) -> None:
    outcome, records = lift
    visits = {one.session_id: one for one in stage.visits(VISITS)}
    assert outcome.searches == len(records) == sum(len(one.steps) for one in visits.values())
    for record in records:
        session_id, _, step = record["query_id"].rpartition("-")
        visit = visits[session_id]
        at_s = visit.at_s + visit.steps[int(step)].after_s
        assert datetime.fromisoformat(record["timestamp"]).timestamp() == pytest.approx(at_s, abs=0.01)
    days = {record["timestamp"][:10] for record in records}
    assert max(map(datetime.fromisoformat, days)) - min(map(datetime.fromisoformat, days)) > timedelta(weeks=4)


def test_the_real_pipeline_is_at_work(lift: tuple[Outcome, list[dict[str, Any]]]) -> None:
    """Profiles come from the backfill, sessions from the visit's own clicks, and every arm has its searches."""
    outcome, records = lift
    ours = [one["query_attributes"]["rewriter"] for one in records]
    assert {one["arm"] for one in ours} == {"treatment", "holdout", "interleaved"}
    assert {"profile", "blend"} <= {one.get("source") for one in ours}
    assert any(one.get("slots") for one in ours)
    assert any(one.get("teams") for one in ours)
    assert set(outcome.reasons) <= {"personalized", "holdout"}
    assert outcome.events > VISITS / 2
    assert outcome.true_lift != 0.0
    assert len(outcome.distances) == GIVEN.catalogue.season_weeks
    assert all(0.0 < one.items <= 1.0 for one in outcome.distances)


def test_its_report_is_the_command_s(lift: tuple[Outcome, list[dict[str, Any]]], stage: Stage) -> None:
    report = lift[0].report
    assert report["searches"] == lift[0].searches
    assert report["verdict"] == "cannot tell yet"
    assert [one["name"] for one in report["filters"]] == []
    assert "Did personalization help?" in (stage.folder / "lift" / "report.html").read_text("utf-8")


def test_exploration_prefers_what_is_new_on_the_simulated_day(
    lift: tuple[Outcome, list[dict[str, Any]]], stage: Stage
) -> None:
    """The server's clock would be weeks ahead, and at another time in each run."""
    assert lift[0].searches
    settings = Settings.from_toml(stage.folder / "lift" / "rewriter.toml")
    policy = settings.policies[POLICY]
    templates = load_templates(settings)[POLICY]
    for now_s in (stage.starts_s, stage.starts_s + 40 * 86_400.0):
        body = search_of("milk", now_s)
        (boost,) = render_exploration(templates, {"body": body}, policy).functions
        assert boost.decay is not None
        assert boost.decay["exp"]["listed"]["origin"] == datetime.fromtimestamp(now_s, UTC).date().isoformat()


@pytest.mark.full
def test_a_seed_makes_the_same_season(lift: tuple[Outcome, list[dict[str, Any]]], stage: Stage) -> None:
    outcome, records = played(stage, "lift", "-again")
    assert [one["query_response_hit_ids"] for one in records] == [one["query_response_hit_ids"] for one in lift[1]]
    assert (outcome.events, outcome.true_lift) == (lift[0].events, lift[0].true_lift)


@pytest.mark.full
@pytest.mark.parametrize("name", ["harmful", "aa", "unexplored"])
def test_the_other_variants_differ_as_they_are_meant_to(name: str, stage: Stage) -> None:
    outcome, records = played(stage, name)
    ours = [one["query_attributes"]["rewriter"] for one in records]
    assert (outcome.true_lift < 0.0) == (name == "harmful")
    assert (outcome.true_lift == 0.0) == (name == "aa")
    assert any(one.get("slots") for one in ours) == (name == "harmful")


@pytest.mark.full
def test_a_prometheus_that_scraped_the_season_fills_every_panel(stage: Stage, tmp_path: Path) -> None:
    """A healthy season has no hedges and no failing baselines: these two are planted, once the others were found."""
    planted = [
        one for one in EXPRESSIONS if "rewriter_hedges_total" in one or "rewriter_baseline_failures_total" in one
    ]
    healthy = [one for one in EXPRESSIONS if one not in planted]
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    variant = replace(next(one for one in VARIANTS if one.name == "lift"), name="lift-scraped")
    found: list[list[str]] = []
    with prometheus_of(registry, tmp_path) as url:

        def on_ready(rewriter: Any, worker: Any) -> None:
            metrics.watch(rewriter)
            WorkerMetrics(worker, registry)
            assert empty_of(url, ["up"], "5m", 60.0) == []

        def on_progress(done: int, of: int) -> None:
            if done < of:
                return
            found.extend([empty_of(url, healthy, "5m"), empty_of(url, planted, "5m", 0.0)])
            for _ in range(4):
                metrics(SearchDetails((stage.index,), Report(Reason.PERSONALIZED, mode="rewrite", hedged=True)))
                metrics.baseline_failed(BaselineFailure((stage.index,), "ConnectionTimeout", 1.0))
                time.sleep(0.6)
            found.append(empty_of(url, EXPRESSIONS, "5m"))

        outcome = Season(stage, variant, VISITS, [metrics], on_ready).run(on_progress)
        metrics.close()
        counted = [
            one for family in registry.collect() for one in family.samples if one.name == "rewriter_searches_total"
        ]
    assert sum(one.value for one in counted) == outcome.searches + 4
    assert found == [[], planted, []]
