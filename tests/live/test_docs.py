"""The examples of the pages run: code on a real cluster and a real store, commands with the output that is shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeIndex
from tests.pages import PAGES, ROOT, blocks, named

PROPERTIES = {"title": {"type": "text"}, "brand": {"type": "keyword"}, "category": {"type": "keyword"}}
PYTHON = [
    page
    for page in PAGES
    if blocks(page, "python") and page.name not in ("signals.md", "quickstart.md", "elasticsearch.md", "dsl.md")
]
"""The examples of docs/signals.md, docs/quickstart.md, docs/elasticsearch.md and docs/dsl.md run in tests of their own."""
CLI = ROOT / "docs" / "cli.md"


@pytest.mark.parametrize("page", PYTHON, ids=named)
def test_the_python_of_a_page_runs(page: Path, opensearch_url: str, redis_url: str, index: MakeIndex) -> None:
    """Examples find the cluster at `url` and the store at `store`, or at the ports that are usual; `products` is the test's own."""
    products = index(PROPERTIES, documents={"1": {"title": "trail shoe", "brand": "nike", "category": "shoes"}})
    names = {"url": opensearch_url, "store": redis_url}  # later blocks of a page use the names of earlier ones
    for block in blocks(page, "python"):
        code = block.replace('"products', f'"{products}')
        code = code.replace("http://127.0.0.1:9200", opensearch_url).replace("redis://127.0.0.1:6379", redis_url)
        exec(compile(code, named(page), "exec"), names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a `rewriter` for the shell."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "rewriter"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rewriter "$@"\n')
    program.chmod(0o755)
    return tmp_path


def test_commands_print_what_is_shown(
    folder: Path, opensearch_url: str, redis_url: str, prefix: str, index: MakeIndex
) -> None:
    products = index(PROPERTIES)
    own = {"redis://127.0.0.1:6379": redis_url, '"shop"': f'"{prefix}"', "products": products}

    def mine(text: str) -> str:
        for shown, is_mine in own.items():
            text = text.replace(shown, is_mine)
        return text

    toml, likes = blocks(CLI, "toml")[0], blocks(CLI, "json")[0]
    (folder / "rewriter.toml").write_text(f'{mine(toml)}\n[opensearch]\nhosts = "{opensearch_url}"\n')
    (folder / "likes.json").write_text(likes)
    own["http://127.0.0.1:9200"] = opensearch_url
    for block in blocks(CLI, "console"):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            output = printed(mine(command), folder)
            assert matches(mine(expected), output), f"{command}\n{output}"


def printed(command: str, folder: Path) -> str:
    """Return what a command prints, on both streams."""
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


def matches(shown: str, printed: str) -> bool:
    """Whether an output is as shown: `…` is anything within a line, and columns may be wider."""
    lines, expected = printed.splitlines(), shown.splitlines()
    return len(lines) == len(expected) and all(map(_matches, expected, lines))


def _matches(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(" ".join(part.split(" "))) for part in " ".join(shown.split()).split("…"))
    return re.fullmatch(pattern, " ".join(printed.split())) is not None
