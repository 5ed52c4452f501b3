"""Dashboard and alerts as files: each query names metrics that exist, and the rules fire on what they are for (promtool)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client import CollectorRegistry

from rewriter import Reason, Rewriter, Status
from rewriter.observe.hooks import BaselineFailure, SearchDetails
from rewriter.observe.prometheus import PrometheusMetrics, WorkerMetrics
from rewriter.report import BoostUsed, Exposure, PageFacts, Report
from tests.fakes import SyncHarness
from tests.likes import SETTINGS, store
from tests.scraped import DASHBOARD, EXPRESSIONS, empty_of, prometheus_of, tool

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "dashboards"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
LISTED = set(re.findall(r"^\| `(rewriter_\w+)`", (ROOT / "docs/metrics.md").read_text("utf-8"), re.MULTILINE))
NAMED = LISTED | {
    f"{name}_{part}"
    for name in LISTED
    if name.endswith(("_seconds", "_categories"))
    for part in ("bucket", "sum", "count")
}


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(rule["expr"] for rule in RULES)])
def test_every_query_names_metrics_that_exist(expression: str) -> None:
    names = set(re.findall(r"\brewriter_\w+", expression))
    assert names
    assert names - NAMED == set()


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    """What Grafana 10 and later refuse or lose: ids twice, panels over each other, a data source that is not chosen."""
    panels = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["uid"] == "rewriter"
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert all(x < 24 for x, _ in squares)
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert {target["refId"] for target in panel["targets"]} == {chr(65 + n) for n in range(len(panel["targets"]))}
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"datasource", "policy"}


def test_every_alert_has_its_paragraph_and_its_test() -> None:
    page = (ROOT / "docs/oncall.md").read_text("utf-8")
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text("utf-8"))["tests"]
    names = {rule["alert"] for rule in RULES}
    assert set(re.findall(r"^## (Rewriter\w+)$", page, re.MULTILINE)) == names
    for one in tests:
        assert {case["alertname"] for case in one["alert_rule_test"]} == names
    quiet, wrong = ([bool(case["exp_alerts"]) for case in one["alert_rule_test"]] for one in tests)
    assert not any(quiet)
    assert all(wrong)


def test_the_rules_fire_on_what_they_are_for() -> None:
    ended = subprocess.run(
        [tool("promtool"), "test", "rules", "alerts_test.yml"], check=False, cwd=FOLDER, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_compose_profile_mounts_files_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    ours = {name: one for name, one in services.items() if one.get("profiles") == ["observe"]}
    assert set(ours) == {"prometheus", "grafana"}
    for one in ours.values():
        for volume in one["volumes"]:
            assert (ROOT / volume.split(":")[0]).exists()
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])


BOOST = BoostUsed("brand", "b1", 0.2, "profile")


def fed(metrics: PrometheusMetrics, turn: int) -> None:
    """Let every kind of thing happen once more."""
    facts = PageFacts(10, 6, 4, 1, 1, 3, 5)
    timings = {"baseline": 8.0, "signals": 1.0, "render": 0.4, "personalized": 9.0, "merge": 0.2, "added": 3.0}
    for arm in ("treatment", "holdout"):
        report = Report(
            Reason.PERSONALIZED, variant="personalized", policy="shop", source="blend", timings_ms=timings,
            exposure=Exposure(arm, f"{arm}{turn}"), weigh_page=lambda: facts, boosts=(BOOST,) * 4,
        )  # fmt: skip
        metrics(SearchDetails(("products",), report))
    metrics._hedges.labels("rewritten").inc()
    metrics.baseline_failed(BaselineFailure((), "ConnectionTimeout", 1.0))
    assert metrics.flush(10.0)


class Lagging:
    """A rewriter whose store has heard of a pipeline."""

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter

    def local_status(self) -> Status:
        lag = {"seconds": 2.0, "lagging": False, "partitions": ((2.0, False), (1.0, False))}
        return replace(self._rewriter.local_status(), lag=lag)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """A real Prometheus that scrapes a process in which everything happens."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    worker = SimpleNamespace(
        counts={"counted": 0, "refused": 0}, backlog=SimpleNamespace(entries=3, lag_s=0.4), held=(1,)
    )
    WorkerMetrics(worker, registry)
    with SyncHarness(SETTINGS, store("ann"), hooks=[metrics]) as harness, prometheus_of(registry, tmp_path) as url:
        lagging = Lagging(harness.rewriter)
        metrics.watch(lagging)
        with ever_fed(metrics, worker.counts):
            yield url
    metrics.close()


@contextmanager
def ever_fed(metrics: PrometheusMetrics, counts: dict[str, int]) -> Iterator[None]:
    """Feed twice a second until the end: a rate is 0 when the first scrape comes after the last search."""
    ended, turns = Event(), count()

    def feed() -> None:
        while not ended.wait(0.5):
            fed(metrics, next(turns))
            counts["counted"] += 5

    thread = Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


def test_no_panel_is_empty_on_a_real_prometheus(prometheus: str) -> None:
    assert EXPRESSIONS
    assert empty_of(prometheus, EXPRESSIONS, "10s", patience_s=40.0) == []
