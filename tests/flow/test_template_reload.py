"""A template that changes under a running process: the last good one serves, and another version is free of what the former did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from rewriter import ConfigurationError, Reason, Settings, Subject
from rewriter.errors import Fault
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, PATIENCE_S, FakeStore, Harness
from tests.reason_cases import rejections

ANN = Subject("ann")
SEARCH: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}
SHIPPED = Path(__file__).parents[2] / "templates" / "default"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED, tmp_path / "own")
    return tmp_path / "own" / "boosts.json.j2"


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def harness(request: pytest.FixtureRequest, template: Path) -> Iterator[Harness]:
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
            "templates_dir": template.parent.parent,
            "policies": {"shop": {"index": "products", "item_repeat_share": 1.0, "templates": "own"}},
        }
    )
    store = FakeStore()
    store.write(Keys().profile("ann"), Counters({("item", "p15"): 6.0}, {"item": 6.0}, 1.8e9), None)
    with request.param(settings, store) as opened:
        yield opened


def rewrite(template: Path, text: str) -> None:
    """Write a template that is newer for every clock."""
    seen_ns = template.stat().st_mtime_ns
    template.write_text(text)
    os.utime(template, ns=(seen_ns + 10**9, seen_ns + 10**9))


def test_another_version_is_taken_up(harness: Harness, template: Path) -> None:
    before = harness.search(ANN, SEARCH)[1].template_version
    rewrite(template, template.read_text() + "{# another #}")
    harness.until(lambda status: status.templates["shop"] != before)
    _, report = harness.search(ANN, SEARCH)
    assert (report.reason, report.template_version) == (Reason.PERSONALIZED, harness.status().templates["shop"])


@pytest.mark.parametrize("text", ["{{", "[{{ affinitys }}]", '[{"weight": -1}]', ""])
def test_the_last_good_one_serves_while_the_file_is_wrong(harness: Harness, template: Path, text: str) -> None:
    before = harness.search(ANN, SEARCH)[1].template_version
    good = template.read_text()
    rewrite(template, text)
    harness.until(lambda status: any(str(template) in problem for problem in status.problems))
    _, report = harness.search(ANN, SEARCH)
    assert (report.reason, report.template_version) == (Reason.PERSONALIZED, before)
    rewrite(template, good)
    harness.until(lambda status: status.healthy)


def test_another_version_is_free_of_the_quarantine(harness: Harness, template: Path) -> None:
    rejections(harness, SEARCH)
    assert harness.search(ANN, SEARCH)[1].reason is Reason.QUARANTINED
    assert len(harness.status().quarantined) == 1
    rewrite(template, template.read_text() + "{# another #}")
    harness.until(lambda status: not status.quarantined)
    assert harness.search(ANN, SEARCH)[1].reason is Reason.PERSONALIZED


def test_the_kill_switch_waits_for_no_template_on_trial(
    harness: Harness, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trying, tried = Event(), Event()

    def endless(*_: Any) -> Any:
        trying.set()
        assert tried.wait(PATIENCE_S)
        raise ConfigurationError([Fault("boosts.json.j2", "took too long")])

    harness.search(ANN, SEARCH)
    monkeypatch.setattr("rewriter.shell.background.refresh.compile_set", endless)
    rewrite(template, template.read_text() + "{# another #}")
    harness.until(lambda _: trying.is_set())
    monkeypatch.setenv("REWRITER_SWITCH_PERSONALIZATION", "off")
    harness.until(lambda status: "personalization" in status.switches)
    assert harness.search(ANN, SEARCH)[1].reason is Reason.SWITCHED_OFF
    assert not tried.is_set()
    tried.set()
    harness.until(lambda status: any("took too long" in problem for problem in status.problems))
