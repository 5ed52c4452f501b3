"""The kill switch in an emergency: any encoding and spelling switches off, and no process refuses to serve for what is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewriter import Reason, Settings, Subject
from rewriter.encodings import decoded, encoding_of
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness

SEARCH: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}
SHIPPED = Path(__file__).parents[2] / "templates" / "default"
ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-le",
    "utf-32-be",
    "latin-1",
    "cp1252",
)
MakeHarness = Callable[..., Harness]


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeHarness:
    def harness(file: Path, **more: Any) -> Harness:
        given = {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
            "switches": {"file": file},
            "policies": {"shop": {"index": "products", "item_repeat_share": 1.0}},
        }
        store = FakeStore()
        store.write(Keys().profile("ann"), Counters({("item", "p15"): 6.0}, {"item": 6.0}, 1.8e9), None)
        made: Harness = request.param(Settings.model_validate(given | more), store)
        return made

    return harness


def reason(harness: Harness) -> Reason:
    return harness.search(Subject("ann"), SEARCH)[1].reason


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "text",
    [
        "personalization off\r\n",
        '{"personalization": "no"}',
        "# für alle\nPersonalisation = FALSE",
        "rewriter.personalization: off",
    ],
)
def test_a_running_process_is_switched_off_in_any_encoding(
    make: MakeHarness, tmp_path: Path, encoding: str, text: str
) -> None:
    with make(tmp_path / "switches") as harness:
        assert reason(harness) is Reason.PERSONALIZED
        (tmp_path / "switches").write_bytes(text.encode(encoding))
        harness.until(lambda status: "personalization" in status.switches)
        assert reason(harness) is Reason.SWITCHED_OFF
        assert not [problem for problem in harness.status().problems if "switches" in problem]
        (tmp_path / "switches").unlink()
        harness.until(lambda status: not status.switches)
        assert reason(harness) is Reason.PERSONALIZED


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"personalization of\n", "`personalization` is on or off, not 'of'"),
        (b"rollout 0.1\nrollout 0.2\npersonalization of\n", "is set twice, to different values"),
        (b'{"personalization": fal', "is not JSON"),
        (b"please stop it\n", "is not a switch"),
        (b"\x00\x01\x02\xff", "is not a switch"),
        (b"# " + b"x" * 70_000, "has more than 65,536 bytes"),
        (None, "its folder does not exist"),
        ("folder", "cannot be read: Is a directory"),
        ("pipe", "is a pipe, from which nothing may ever come"),
    ],
)
def test_a_process_that_starts_with_an_unreadable_file_serves_and_shouts(
    make: MakeHarness, tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: bytes | str | None, fault: str
) -> None:
    file = tmp_path / "mount" / "switches"
    if raw is not None:
        file.parent.mkdir()
    if raw == "pipe":
        os.mkfifo(file)
    elif isinstance(raw, str):
        file.mkdir()
    elif raw is not None:
        file.write_bytes(raw)
    with make(file) as harness:
        page, report = harness.search(Subject("ann"), SEARCH)
        assert report.reason is Reason.SWITCHED_OFF
        assert page["hits"]["hits"]
        assert any(fault in problem and str(file) in problem for problem in harness.status().problems)
        assert not harness.status().healthy
        assert [record for record in caplog.records if record.levelname == "ERROR" and fault in record.message]
        assert "not personalized: the switches of the file cannot be understood" in caplog.text
        if raw == "pipe":
            file.unlink()
        elif isinstance(raw, str):
            file.rmdir()
        file.parent.mkdir(exist_ok=True)
        file.write_text("# put right")
        harness.until(lambda status: not status.switches)
        assert reason(harness) is Reason.PERSONALIZED


def test_the_environment_is_read_in_any_spelling(
    make: MakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_SWITCH_PERSONALISATION", "maybe")
    monkeypatch.setenv("REWRITER_SWITCH_SHOES__PERSONALIZATION", "off")
    with make(tmp_path / "switches") as harness:
        assert reason(harness) is Reason.SWITCHED_OFF
        assert harness.status().notes == (
            "ignored: REWRITER_SWITCH_SHOES__PERSONALIZATION: no policy is named 'shoes' (there are shop)",
        )


@pytest.mark.parametrize(
    ("text", "off", "problem", "note"),
    [
        ("shoes.max_boost 1.1\n", False, "", "shoes"),
        ("personalisation off\nshoes.max_boost 1.1\n", True, "", "shoes"),
        ('{"personalization": "disabled", "hats.rollout": "lots"}', True, "", "hats"),
        ("rollut 0\n", False, "no switch is named 'rollut' (did you mean rollout?)", ""),
        ("personalization OFF\nturbo on\n", True, "no switch is named 'turbo'", ""),
    ],
)
def test_what_is_unknown_is_named_and_ignored(
    make: MakeHarness, tmp_path: Path, text: str, off: bool, problem: str, note: str
) -> None:
    (tmp_path / "switches").write_text(text)
    with make(tmp_path / "switches") as harness:
        assert (reason(harness) is Reason.SWITCHED_OFF) is off
        status = harness.status()
        assert [one for one in status.problems if problem and problem in one] or not problem
        assert [f"no policy is named '{note}'" in one for one in status.notes] == ([True] if note else [])
        # It keeps nothing in force either.
        (tmp_path / "switches").write_text("shoes.max_boost 1.1\nturbo on\n")
        harness.until(lambda status: not status.switches)
        assert reason(harness) is Reason.PERSONALIZED


def test_templates_swapped_under_equal_times_and_sizes_are_seen(make: MakeHarness, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "own")
    template = tmp_path / "own" / "boosts.json.j2"
    template.write_text(template.read_text() + "{# 1 #}")
    policies = {"shop": {"index": "products", "item_repeat_share": 1.0, "templates": "own"}}
    with make(tmp_path / "switches", templates_dir=tmp_path, policies=policies) as harness:
        before, seen = harness.status().templates["shop"], template.stat()
        new = template.with_name("new")
        new.write_text(template.read_text().replace("{# 1 #}", "{# 2 #}"))
        os.utime(new, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        new.replace(template)
        harness.until(lambda status: status.templates["shop"] != before)
        moved = (tmp_path / "own").rename(tmp_path / "away")
        harness.until(lambda status: any("is not a folder" in problem for problem in status.problems))
        moved.rename(tmp_path / "own")
        harness.until(lambda status: not any("is not a folder" in problem for problem in status.problems))
        assert reason(harness) is Reason.PERSONALIZED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_templates_and_samples_may_have_a_byte_order_mark(make: MakeHarness, tmp_path: Path, encoding: str) -> None:
    shutil.copytree(SHIPPED, tmp_path / "own")
    for path in (tmp_path / "own").rglob("*.j*"):
        path.write_bytes(path.read_text("utf-8").encode(encoding))
    policies = {"shop": {"index": "products", "item_repeat_share": 1.0, "templates": "own"}}
    with make(tmp_path / "switches", templates_dir=tmp_path, policies=policies) as harness:
        assert reason(harness) is Reason.PERSONALIZED


@pytest.mark.parametrize("text", ["", "a", "personalization off", "ünïcödé", "{}", "日本"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_is_marked_is_decoded(text: str, encoding: str) -> None:
    assert decoded(text.encode(encoding)) == text


def test_utf_8_with_a_zero_is_no_utf_16() -> None:
    assert encoding_of(b"\x00\x00ab\x00") == "utf-8"


def test_a_pipe_in_the_switch_file_s_place_does_not_end_the_kill_switch(make: MakeHarness, tmp_path: Path) -> None:
    with make(tmp_path / "switches") as harness:
        assert reason(harness) is Reason.PERSONALIZED
        os.mkfifo(tmp_path / "switches")
        harness.until(lambda status: any("is a pipe" in problem for problem in status.problems))
        (tmp_path / "switches").unlink()
        (tmp_path / "switches").write_text("personalization off")
        harness.until(lambda status: "personalization" in status.switches)
        assert reason(harness) is Reason.SWITCHED_OFF
