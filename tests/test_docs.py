"""The content of the pages is correct: files that they link to, settings, code, commands and their options."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.commands import COMMANDS, LazyCommand
from rewriter.settings import Settings
from tests.pages import PAGES, ROOT, blocks, named

LINK = re.compile(r"\]\(([^)#\s]+)")
FILE = re.compile(r"`((?:tests|docs|rewriter|bench|templates)/[\w./-]+\.\w+)`")
COMMAND = re.compile(r"^(?:\$ )?rewriter ([a-z-]+)(.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_are_linked_to_exist(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text("utf-8")) if not link.startswith(("http://", "https://"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    assert [name for name in FILE.findall(page.read_text("utf-8")) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_settings_are_settings(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        (tmp_path / "rewriter.toml").write_text(block)
        Settings.from_toml(tmp_path / "rewriter.toml")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_python_of_a_page_parses(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_their_options_exist(page: Path) -> None:
    for block in [*blocks(page, "sh"), *blocks(page, "console")]:
        for command, rest in COMMAND.findall(block):
            shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0, f"no command {command}"
            assert [option for option in re.findall(r"--[a-z-]+", rest) if option not in shown.stdout] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_commands_have_what_they_need(page: Path) -> None:
    """In blocks and in sentences; `…` stands for options that were written before, and a name alone for the command."""
    needed = {
        command.name: [
            option.opts[0] for option in command.params if option.required and option.opts[0].startswith("--")
        ]
        for command in map(LazyCommand.loaded, map(LazyCommand, COMMANDS))
    }
    needed["preview"].append("--body")
    text = page.read_text("utf-8")
    used = [*COMMAND.findall("\n".join(blocks(page, "sh"))), *re.findall(r"`rewriter ([a-z-]+) ([^`]+)`", text)]
    lacking = [
        (command, rest, option) for command, rest in used if rest.strip() and "…" not in rest
        for option in needed.get(command, ()) if option not in rest
    ]  # fmt: skip
    assert lacking == []


def test_every_command_is_described() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert [command for command in COMMANDS if f"| `rewriter {command}` |" not in page] == []


def test_the_index_of_the_site_lists_every_page() -> None:
    listed = set((ROOT / "docs/index.md").read_text("utf-8").splitlines())
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert sorted(pages - listed) == [], "add the page to one of the lists of docs/index.md"
