"""Ctrl-C in each command: one exit code, a line on what it leaves, no traceback. And `preview --watch`, which Ctrl-C ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.commands import COMMANDS
from rewriter.cli.interruption import LEAVES, READS
from rewriter.cli.preview import command as preview
from rewriter.errors import ConfigurationError, Fault

ARGUMENTS = {
    "diff": ["a", "b", "--searches", __file__],
    "evaluate": ["--judged", __file__, "--body", __file__],
    "init": ["http://127.0.0.1:1", "shop"],
    "preview": ["shop", "--sample", __file__],
    "render": ["shop", "--user", "ann"],
    "report": ["--queries-index", "q", "--events-index", "e"],
    "switch": ["personalization", "off"],
    "tune": ["shop", "--from", __file__, "--body", __file__],
    "backfill": [__file__],
    "forget": ["ann"],
    "dead-letters": ["--replay"],
}


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_ends_each_command_with_2_and_tells_the_state_that_it_leaves(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for of in (
        "rewriter.settings.Settings.from_toml", "rewriter.cli.explain.explanations", "rewriter.cli.settings.Settings",
        "rewriter.cli.demo.require_extra",
        "rewriter.cli.diff.command.opened", "rewriter.cli.engines.require_extra", "rewriter.cli.init.command.own_client",
    ):  # fmt: skip
        monkeypatch.setattr(of, interrupt)
    arguments = ["status"] if command == "engines" else ARGUMENTS.get(command, [])
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("interrupted: ")
    assert LEAVES.get(command, READS) in result.stderr or "nothing" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_states_are_told_of_commands_that_exist() -> None:
    assert LEAVES.keys() <= set(COMMANDS)


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


def looks(*versions: object) -> Callable[[], object]:
    """Return a function that returns these versions one after another, and is then interrupted."""
    left: Iterator[object] = iter(versions)

    def look() -> object:
        for one in left:
            return one
        raise KeyboardInterrupt

    return look


@pytest.mark.usefixtures("no_sleep")
def test_watch_shows_again_what_changed_and_nothing_that_is_half_saved() -> None:
    shown: list[int] = []
    # b is emptied and then written by an editor: e is seen once, between two looks.
    preview._watch(lambda: shown.append(1), looks("a", "a", "a", "e", "b", "b", "b", "b"))
    assert len(shown) == 2


@pytest.mark.usefixtures("no_sleep")
def test_watch_goes_on_after_a_template_that_breaks_and_a_store_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: list[BaseException | None] = [
        None, ConfigurationError([Fault("boosts.json.j2:3", "is broken")]), typer.Exit(1), None,
    ]  # fmt: skip
    left = list(outcomes)

    def show() -> None:
        error = left.pop(0)
        if error is not None:
            raise error

    preview._watch(show, looks("a", "a", "b", "b", "c", "c", "d", "d"))
    assert not left
    assert capsys.readouterr().err == "boosts.json.j2:3: is broken\n"


def test_a_file_that_is_renamed_over_another_is_a_change_whatever_its_time(tmp_path: Path) -> None:
    template, saved = tmp_path / "boosts.json.j2", tmp_path.parent / f"{tmp_path.name}.new"
    template.write_text("[]")
    saved.write_text("[1]")
    at = time.time()
    for one in (template, saved):
        os.utime(one, (at, at))
    (tmp_path / "4913").symlink_to(tmp_path / "gone")
    before = preview._versions([tmp_path], None, [])
    saved.replace(template)
    after = preview._versions([tmp_path], None, [])
    assert before != after
    template.unlink()
    assert preview._versions([tmp_path], tmp_path / "no.json", []) == ()
