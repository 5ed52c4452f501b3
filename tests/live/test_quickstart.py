"""docs/quickstart.md from its first command to its last, as it stands, in a shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewriter.demo.engines import Osmem, Valkey, kept
from tests.needed import needed
from tests.pages import ROOT

PAGE = ROOT / "docs" / "quickstart.md"
STEPS = re.findall(r"^## \d+\. (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"(?:as `([\w.]+)`(?:(?!```).)*?)?```(sh|python|text)\n(.*?)```", re.DOTALL)
MOST_LINES = 40
TEN_MINUTES_S = 600.0


def blocks() -> Iterator[tuple[str, str, str, str]]:
    """Each block with its step, the file that it is saved as, and its language."""
    for title, text in STEPS:
        for name, language, block in BLOCK.findall(text):
            yield title, name, language, block


@pytest.fixture
def engines_name() -> Iterator[str]:
    """The set of engines of this test, ended after it."""
    with needed():
        Osmem().close()
        Valkey().close()
    name = f"quickstart-{uuid.uuid4().hex[:8]}"
    yield name
    kept.end(kept.folder_of(name))


@pytest.fixture
def shell(tmp_path: Path, engines_name: str) -> list[str]:
    """What a shell needs so that `rewriter` and `python` are those of this run, and its engines disturb nobody's."""
    (tmp_path / "bin").mkdir()
    python = shlex.quote(sys.executable)
    engines = f'[ "$1" = engines ] && {{ shift; set -- engines "$@" --name {engines_name}; }}\n'
    for name, command in (("python", python), ("rewriter", f"{python} -m rewriter")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\n{engines if name == "rewriter" else ""}exec {command} "$@"\n')
        program.chmod(0o755)
    return [f"export PATH={shlex.quote(str(tmp_path / 'bin'))}:$PATH PYTHONPATH={shlex.quote(str(ROOT))}"]


def test_the_page_is_short() -> None:
    lines = [line for _, _, language, block in blocks() if language != "text" for line in block.splitlines()]
    written = [line for line in lines if line.strip() and not line.startswith(("import ", "from "))]
    assert len(written) <= MOST_LINES


def test_from_an_index_to_a_page_that_changes(tmp_path: Path, shell: list[str]) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    script = [*shell, "set -eu", f"cd {shlex.quote(str(folder))}"]
    for title, name, language, block in blocks():
        if language == "sh" and title != "Install":  # tests/packaging installs the wheel
            script.append(block)
        elif language == "python":
            (folder / name).write_text(block)
    (shown,) = (block for _, _, language, block in blocks() if language == "text")
    environment = {**os.environ, "OPENSEARCH_PORT": "0", "VALKEY_PORT": "0"}
    started_s = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started_s < TEN_MINUTES_S
    page = [line for line in done.stdout.splitlines() if " | " in line]
    assert len(page) == len(shown.splitlines())
    today, annas = ([line.split(" | ")[side].split()[-1] for line in page] for side in (0, 1))
    assert annas[:6] == ["Leone"] * 6, done.stdout
    assert today.count("Leone") < 4
    assert "ended process" in done.stderr
    for line in page + shown.splitlines():
        assert re.fullmatch(r"The Last Night   \w+ +\| The Last Night   \w+", line), line
