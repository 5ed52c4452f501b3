"""A live test whose engine this machine cannot run is counted and explained, and fails in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_ENGINE = """
from rewriter_engines import opensearch
from rewriter_engines.errors import EngineUnavailable

def none(*_):
    raise EngineUnavailable("no JDK 21 or newer")

opensearch.find_java = none
"""
TESTS = """
def test_one(opensearch_url): pass
def test_other(opensearch_url): pass
def test_unit(): pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of two live tests and another, with the project's fixtures, on a machine without Docker and Java."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text() + NO_ENGINE)
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "test_it.py").write_text(TESTS)
    return tmp_path


def run(suite: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "OPENSEARCH_URL"}}
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(suite), str(suite)]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**kept, "PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.splitlines()


def test_the_summary_ends_with_what_was_not_run(suite: Path) -> None:
    status, lines = run(suite)
    assert status == 0
    assert "2 live tests were not run" in lines[-3]
    assert lines[-2] == "2 not run: no JDK 21 or newer"
    assert "1 passed, 2 skipped" in lines[-1]


def test_in_ci_a_missing_engine_is_a_failure(suite: Path) -> None:
    status, lines = run(suite, CI="true")
    assert status == 1
    assert "1 passed, 2 errors" in lines[-1]
    assert any("CI is set: engine missing: no JDK 21 or newer" in line for line in lines)


def test_they_carry_the_marker_of_their_folder(suite: Path) -> None:
    status, lines = run(suite, "-m", "not live")
    assert status == 5
    assert "3 deselected" in lines[-1]


def test_a_server_that_is_given_is_not_started(suite: Path) -> None:
    status, lines = run(suite, CI="true", OPENSEARCH_URL="http://127.0.0.1:1")
    assert status == 0
    assert "3 passed" in lines[-1]
