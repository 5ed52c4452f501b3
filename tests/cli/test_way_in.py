"""What leads somebody in: completion in a shell, llms.txt, the schema for editors, and messages that name commands, not files."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.commands import COMMANDS
from tests.pages import ROOT

NOT_INSTALLED = re.compile(
    r"\bdocs/|\.md\b|README|CHANGELOG|\bmake (?:demo|test|docs|bench|faults|lint|soak|full|site)\b|\btests/"
)
LLMS = (ROOT / "llms.txt").read_text("utf-8")


def completed(line: str) -> list[str]:
    """What bash would be offered behind `line`."""
    words = line.split(" ")
    code = "from rewriter.cli import app; app(prog_name='rewriter')"
    environment = {
        **os.environ, "_REWRITER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rewriter en", {"engines"}),
        ("rewriter engines ", {"up", "status", "down"}),
        ("rewriter explain no_s", {"no_subject", "no_signals"}),
        ("rewriter settings exp", {"experiment"}),
    ],
)
def test_a_shell_completes_commands_and_their_values(line: str, offered: set[str]) -> None:
    assert set(completed(line)) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_what_completes_is_shown_for_the_shell_that_asks() -> None:
    code = "from rewriter.cli import app; app(prog_name='rewriter')"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} --show-completion; true"
    shown = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    ).stdout
    assert "_REWRITER_COMPLETE=complete_bash" in shown


def test_llms_txt_lists_every_page_and_no_other() -> None:
    links = set(re.findall(r"\]\(([^)]+)\)", LLMS))
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")} - {"docs/index.md"}
    assert links == pages | {"docs/adr/README.md"}
    assert all((ROOT / link).is_file() for link in links)


def test_llms_txt_has_the_form_of_its_kind() -> None:
    lines = [line for line in LLMS.splitlines() if line]
    assert lines[0] == "# rewriter"
    assert lines[1].startswith("> ")
    assert "## Optional" in lines
    for command in re.findall(r"`rewriter ([a-z-]+)", LLMS):
        assert command in COMMANDS


def messages() -> Iterator[tuple[str, int, str]]:
    """Every text of the library's code that is not a docstring, and every line of its tables."""
    for path in sorted((ROOT / "rewriter").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
                yield path.name, node.lineno, node.value
    for path in sorted((ROOT / "rewriter").rglob("*.toml")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield path.name, number, line.partition("#")[0]


def test_no_message_points_to_what_is_not_installed() -> None:
    assert [message for message in messages() if NOT_INSTALLED.search(message[2])] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_points_to_what_is_not_installed(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    assert NOT_INSTALLED.findall(shown) == []


def test_every_command_that_a_message_names_exists() -> None:
    named = {one for _, _, text in messages() for one in re.findall(r"`rewriter ([a-z-]+)", text)}
    assert named <= set(COMMANDS)
    assert len(named) > 3
