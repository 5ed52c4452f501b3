"""docs/quickstart.md from its first command to its last, as it stands, in a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from rewriter_engines import Osmem, Valkey, kept
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
    folder = kept.folder_of(name)
    kept.end(folder)
    shutil.rmtree(folder)


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
    assert len([line for line in lines if line.strip()]) <= MOST_LINES


def test_from_an_index_to_a_page_that_changes(tmp_path: Path, shell: list[str]) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    script = [*shell, f"cd {shlex.quote(str(folder))}"]
    followed(
        folder, script + [block for title, _, language, block in blocks() if language == "sh" and title != "Install"]
    )


@pytest.mark.full
def test_from_a_checkout_to_a_page_that_changes_on_a_fresh_machine(tmp_path: Path) -> None:
    """The wheel is built and installed, with what it needs from PyPI, and the server laid out with its jars from Maven Central."""
    with needed():
        Osmem().close()
        Valkey().close()
    place = tempfile.mkdtemp(prefix="quickstart-")  # not below tmp_path, which the server's own user may not enter
    Path(place).chmod(0o755)
    try:
        script = [
            block.replace("/tmp/quickstart", f"{place}/q") for _, _, language, block in blocks() if language == "sh"
        ]
        folder = Path(place, "q")
        folder.mkdir()
        environment = {"TMPDIR": place, "VIRTUAL_ENV": "", "PYTHONPATH": ""}
        followed(folder, [f"cd {shlex.quote(str(ROOT))}", *script], environment)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def followed(folder: Path, script: Sequence[str], more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Follow the page: its files lie in `folder`, its commands are `script`; its last page must be what it shows."""
    for _, name, language, block in blocks():
        if language == "python":
            (folder / name).write_text(block)
    (shown,) = (block for _, _, language, block in blocks() if language == "text")
    environment = {**os.environ, "OPENSEARCH_PORT": "0", "VALKEY_PORT": "0", **more}
    command = ["bash", "-c", "\n".join(["set -eu", *script])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TEN_MINUTES_S)
    assert done.returncode == 0, done.stdout + done.stderr
    page = [line for line in done.stdout.splitlines() if " | " in line]
    assert len(page) == len(shown.splitlines())
    today, annas = ([line.split(" | ")[side].split()[-1] for line in page] for side in (0, 1))
    assert annas[:6] == ["Leone"] * 6, done.stdout
    assert today.count("Leone") < 4
    assert "ended process" in done.stderr
    for line in page + shown.splitlines():
        assert re.fullmatch(r"The Last Night  \w+ +\| The Last Night  \w+ *", line), line
