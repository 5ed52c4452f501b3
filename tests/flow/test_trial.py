"""A draft on trial: served to named subjects alone, and in nobody's way whatever is wrong with it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from rewriter import ConfigurationError, Reason, Settings, Subject
from rewriter.decide.quarantine import FAILURES
from rewriter.decide.trial import Trial
from rewriter.observe.prometheus import PrometheusMetrics
from rewriter.settings import TrialSettings
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.reason_cases import REJECTED, raises

SHIPPED = Path(__file__).parents[2] / "templates" / "default"
ANN, BOB = Subject("ann-of-the-team"), Subject("bob")
SEARCH: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}
HALF = '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": 0.05}{% if not loop.last %},{% endif %}{% endfor %}]'


def settings_of(folder: Path, **policy: Any) -> Settings:
    trial = {"version": "draft", "subjects": [ANN.user_id], "header": "X-Trial"}
    return Settings.model_validate(
        {
            "experiment": {"holdout": policy.pop("holdout", 0)},
            "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
            "templates_dir": folder,
            "policies": {
                "shop": {"index": "products", "item_repeat_share": 1.0, "templates": "live", "trial": trial, **policy}
            },
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED, tmp_path / "live")
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "boosts.json.j2").write_text(HALF)
    return tmp_path


def opened(kind: Any, settings: Settings, **options: Any) -> Any:
    store = FakeStore()
    for subject in (ANN, BOB):
        store.write(Keys().profile(str(subject.user_id)), Counters({("item", "p15"): 6.0}, {"item": 6.0}, 1.8e9), None)
    return kind(settings, store, **options)


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def harness(request: pytest.FixtureRequest, folder: Path) -> Iterator[Harness]:
    with opened(request.param, settings_of(folder)) as made:
        yield made


def ready(harness: Harness) -> tuple[str, str]:
    """Wait until both versions are loaded, and return the live one and the draft's."""
    harness.search(BOB, SEARCH)
    harness.until(lambda status: "shop" in status.trials)
    status = harness.status()
    return status.templates["shop"], status.trials["shop"]


# --- who is served ----------------------------------------------------------------------------------------------------


def test_named_subjects_are_served_the_draft_and_nobody_else(harness: Harness) -> None:
    live, draft = ready(harness)
    assert live != draft
    for subject, version in ((ANN, draft), (BOB, live), (Subject(None, "ann-of-the-team"), None)):
        _, report = harness.search(subject, SEARCH)
        assert report.template_version in (version, draft)
        assert report.trial is (subject is not BOB)
    _, report = harness.search(ANN, SEARCH)
    assert report.reason is Reason.PERSONALIZED
    assert [boost.weight for boost in report.boosts] == [0.05]
    assert harness.search(BOB, SEARCH)[1].boosts[0].weight > 0.05


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({"x-trial": "1"}, True),
        ({"X-TRIAL": "on"}, True),
        ({"X-Trial": "off"}, False),
        ({}, False),
        ({b"X-Trial": b"1"}, True),
        ({"X-Trial": b"off"}, False),
        ({b"x-trial": b" 0 "}, False),
    ],
)
def test_a_header_asks_for_the_draft(harness: Harness, headers: dict[Any, Any], served: bool) -> None:
    ready(harness)
    assert harness.search(BOB, {**SEARCH, "headers": headers})[1].trial is served


def test_without_a_header_in_the_settings_no_header_asks_for_it() -> None:
    assert not Trial(frozenset({"ann"}), None).serves(BOB, {"x-trial": "1", "": ""})
    assert not Trial(frozenset({"ann"}), "x-trial").serves("ann", {"x-trial": "1"})
    assert not Trial(frozenset({"ann"}), None).serves(Subject(None, None, ("ann",)), {})


def test_a_named_subject_is_outside_the_experiment(folder: Path) -> None:
    with opened(HARNESSES[0], settings_of(folder, holdout=1.0)) as harness:
        ready(harness)
        searched = sum(harness.status().arms["searches"].values())
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.exposure, report.trial) == (Reason.PERSONALIZED, None, True)
        assert sum(harness.status().arms["searches"].values()) == searched
        assert harness.search(BOB, SEARCH)[1].reason is Reason.HOLDOUT


def test_pages_of_a_draft_s_list_continue_it(harness: Harness) -> None:
    _, draft = ready(harness)
    harness.search(ANN, SEARCH)
    harness.until(lambda status: status.in_flight == 0)
    body = {**SEARCH["body"], "from": 10}
    _, report = harness.search(ANN, {**SEARCH, "body": body})
    assert (report.reason, report.template_version, report.trial) == (Reason.PERSONALIZED, draft, True)


def test_a_search_that_would_be_sent_once_goes_parallel(folder: Path) -> None:
    with opened(HARNESSES[0], settings_of(folder, mode="rewrite")) as harness:
        ready(harness)
        for _ in range(300):  # until enough searches are known
            if harness.search(BOB, SEARCH)[1].mode == "rewrite":
                break
        assert harness.search(BOB, SEARCH)[1].mode == "rewrite"
        _, report = harness.search(ANN, SEARCH)
        assert (report.mode, report.trial, report.reason) == ("parallel", True, Reason.PERSONALIZED)
        assert report.detail.endswith("sent in parallel: a draft on trial stands in nobody's way")


# --- off --------------------------------------------------------------------------------------------------------------


def test_switched_off_everybody_is_served_the_live_version(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    live, _ = ready(harness)
    monkeypatch.setenv("REWRITER_SWITCH_TRIAL", "off")
    harness.until(lambda status: "trial" in status.switches)
    _, report = harness.search(ANN, SEARCH)
    assert (report.reason, report.template_version, report.trial) == (Reason.PERSONALIZED, live, False)
    monkeypatch.setenv("REWRITER_SWITCH_TRIAL", "on")
    harness.until(lambda status: status.switches["trial"]["value"] is True)
    assert harness.search(ANN, SEARCH)[1].trial


def test_the_kill_switch_is_stronger(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(harness)
    monkeypatch.setenv("REWRITER_SWITCH_PERSONALIZATION", "off")
    harness.until(lambda status: "personalization" in status.switches)
    assert harness.search(ANN, SEARCH)[1].reason is Reason.SWITCHED_OFF


# --- broken -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "[{{ affinitys }}]", "{{", '[{"weight": -1}]'])
def test_a_draft_that_cannot_be_loaded_is_not_served(folder: Path, text: str | None) -> None:
    if text is None:
        shutil.rmtree(folder / "draft")
    else:
        (folder / "draft" / "boosts.json.j2").write_text(text)
    with opened(HARNESSES[0], settings_of(folder)) as harness:
        harness.search(BOB, SEARCH)
        harness.until(lambda status: any(note.startswith("on trial, not loaded: ") for note in status.notes))
        status = harness.status()
        assert status.healthy, status.problems  # no orchestrator restarts a process because of a draft
        for subject in (ANN, BOB):
            _, report = harness.search(subject, SEARCH)
            expected = (Reason.PERSONALIZED, status.templates["shop"], False)
            assert (report.reason, report.template_version, report.trial) == expected


def test_the_last_good_draft_is_served_while_its_file_is_wrong(harness: Harness, folder: Path) -> None:
    _, draft = ready(harness)
    (folder / "draft" / "boosts.json.j2").write_text("{{")
    harness.until(lambda status: any("on trial, not loaded" in note for note in status.notes))
    assert harness.search(ANN, SEARCH)[1].template_version == draft
    (folder / "draft" / "boosts.json.j2").write_text(HALF + " ")
    harness.until(lambda status: status.trials["shop"] != draft and not status.notes)
    assert harness.search(ANN, SEARCH)[1].template_version == harness.status().trials["shop"]


def rejected_drafts(harness: Harness, count: int) -> list[tuple[Reason, bool]]:
    """Have the server reject the draft's bodies alone, and return the outcomes of searches of the one subject on trial."""
    reject = raises(REJECTED)

    def act(found: Any) -> Any:
        sent = harness.engine.asked["personal"][-1]["body"]["rescore"][-1]["query"]["rescore_query"]["function_score"]
        return reject(found) if sent["functions"][1]["weight"] == 0.05 else found

    harness.engine.on["personal"] = act
    outcomes = []
    for _ in range(count):
        _, report = harness.search(ANN, SEARCH)
        outcomes.append((report.reason, report.trial))
    return outcomes


def test_a_draft_that_the_server_rejects_is_held_and_the_live_version_serves_its_only_subject(harness: Harness) -> None:
    live, draft = ready(harness)
    outcomes = rejected_drafts(harness, FAILURES)
    assert outcomes == [(Reason.SEARCH_REJECTED, True)] * FAILURES  # the baseline
    _, report = harness.search(ANN, SEARCH)
    assert (report.reason, report.template_version, report.trial) == (Reason.PERSONALIZED, live, False)
    assert harness.search(BOB, SEARCH)[1].reason is Reason.PERSONALIZED
    status = harness.status()
    assert status.healthy, status.problems
    assert status.quarantined == ()
    assert [note for note in status.notes if draft in note and "is quarantined" in note]


def test_another_draft_is_free_of_what_the_former_did(harness: Harness, folder: Path) -> None:
    _, draft = ready(harness)
    rejected_drafts(harness, FAILURES)
    del harness.engine.on["personal"]
    (folder / "draft" / "boosts.json.j2").write_text(HALF.replace("0.05", "0.1"))
    harness.until(lambda status: status.trials["shop"] != draft and not status.notes)
    assert harness.search(ANN, SEARCH)[1].trial


def test_a_new_live_version_does_not_free_the_draft(harness: Harness, folder: Path) -> None:
    live, _ = ready(harness)
    rejected_drafts(harness, FAILURES)
    path = folder / "live" / "boosts.json.j2"
    path.write_text(path.read_text() + "{# another #}")
    harness.until(lambda status: status.templates["shop"] != live)
    assert any("is quarantined" in note for note in harness.status().notes)


def test_a_draft_that_fails_while_it_renders_costs_its_subject_alone_the_boosts(folder: Path) -> None:
    fails = HALF.replace(
        "0.05", '{{ 0.1 if request.body.query.match.title == "shoe" else 1 / (request.size - request.size) }}'
    )
    fails = fails.replace(
        "request.body.query.match.title", "request.body.get('query', {}).get('match', {}).get('title', 'shoe')"
    )
    (folder / "draft" / "boosts.json.j2").write_text(fails)
    with opened(HARNESSES[0], settings_of(folder)) as harness:
        ready(harness)
        other = {**SEARCH, "body": {"query": {"match": {"title": "boot"}}, "size": 10}}
        assert harness.search(ANN, SEARCH)[1].trial
        _, report = harness.search(ANN, other)
        assert (report.reason, report.trial) == (Reason.TEMPLATE_FAILED, True)
        assert harness.search(BOB, other)[1].reason is Reason.PERSONALIZED


def test_failures_of_a_draft_s_legs_open_no_breaker_and_pause_no_policy(harness: Harness) -> None:
    ready(harness)

    def fails(_: Any) -> Any:
        raise OSError("down")

    harness.engine.on["personal"] = fails
    for _ in range(40):
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.trial) == (Reason.SEARCH_FAILED, True)
    del harness.engine.on["personal"]
    assert harness.status().breaker["state"] == "closed"
    assert harness.search(BOB, SEARCH)[1].reason is Reason.PERSONALIZED


def test_late_legs_of_a_draft_do_not_count(folder: Path) -> None:
    settings = settings_of(folder)
    settings = settings.model_copy(update={"budget": settings.budget.model_copy(update={"cutoff_ms": 15.0})})
    with opened(HARNESSES[0], settings) as harness:
        ready(harness)
        before = harness.core.late_legs["shop"].late_share()
        harness.engine.blocked.add("personal")
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.trial) == (Reason.SEARCH_LATE, True)
        assert harness.core.late_legs["shop"].late_share() == before


def test_a_draft_equal_to_the_live_version_is_no_trial(harness: Harness, folder: Path) -> None:
    ready(harness)
    shutil.copy(folder / "live" / "boosts.json.j2", folder / "draft" / "boosts.json.j2")
    shutil.copy(folder / "live" / "exploration.json.j2", folder / "draft" / "exploration.json.j2")
    harness.until(lambda status: status.trials == status.templates)
    assert not harness.search(ANN, SEARCH)[1].trial


# --- reports, and what is not in them ---------------------------------------------------------------------------------


def test_searches_with_a_draft_are_counted(folder: Path) -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    with opened(HARNESSES[0], settings_of(folder), hooks=[metrics]) as harness:
        ready(harness)
        for subject in (ANN, ANN, BOB):
            harness.search(subject, SEARCH)
        assert metrics.flush(10.0)
    metrics.close()
    text = generate_latest(registry).decode()
    assert 'rewriter_trial_searches_total{policy="shop",reason="personalized"} 2.0' in text
    assert "ann-of" not in text


def test_no_subject_is_in_any_output(harness: Harness, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ready(harness)
    rejected_drafts(harness, FAILURES + 1)
    (folder / "draft" / "boosts.json.j2").write_text("{{")
    harness.until(lambda status: any("not loaded" in note for note in status.notes))
    settings = settings_of(folder)
    shown = [
        caplog.text,
        repr(harness.status().as_dict()),
        repr(settings),
        repr(harness.core.trials),
        settings.model_dump_json(),
    ]
    assert [one for one in shown if "ann-of" in one] == []


@pytest.mark.parametrize(
    ("trial", "fault"),
    [
        ('version = "draft"', "serves nobody: name subjects, or a header"),
        ('version = "live"\nsubjects = "ann"', "trial.version 'live' is the live template set"),
        ('version = "../x"\nsubjects = "ann"', "policies.shop.trial.version: String should match pattern"),
        ('version = "draft"\nsubjects = [["ann"]]', "policies.shop.trial.subjects.0: "),
        ('version = "draft"\nsubjects = "ann"\nheader = "a b"', "policies.shop.trial.header: "),
        ('version = "draft"\nsubject = "ann"', "did you mean subjects?"),
    ],
)
def test_faults_of_a_trial_name_no_subject(tmp_path: Path, trial: str, fault: str) -> None:
    path = tmp_path / "rewriter.toml"
    path.write_text(f'[policies.shop]\nindex = "a"\ntemplates = "live"\n[policies.shop.trial]\n{trial}\n')
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_toml(path)
    assert fault in str(raised.value)
    assert "ann" not in str(raised.value)


def test_a_trial_that_serves_nobody_is_refused() -> None:
    with pytest.raises(ValidationError):
        TrialSettings(version="draft")
