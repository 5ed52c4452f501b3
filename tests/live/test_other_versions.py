"""A smoke run on the oldest versions that are allowed: OpenSearch 2.19, and opensearch-py 2.4 in an environment of its own.

Each runs some of the suites once more, in a process of its own; the whole suite runs on the newest versions.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rewriter_engines import OpenSearchServer
from rewriter_engines.layout import OPENSEARCH_2
from tests.needed import needed

ROOT = Path(__file__).parents[2]
OLDEST_CLIENT = "2.4.0"
SUITES = ["tests/live/test_promises.py", "tests/live/test_query_form.py", "tests/live/test_index_facts.py"]
CLIENT_SUITES = [
    "tests/test_given.py",
    "tests/test_shells.py",
    "tests/live/test_baseline.py",
    "tests/live/test_objects.py",
]


def passes(*suites: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *suites]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


def test_the_promises_hold_on_opensearch_2_19(redis_url: str) -> None:
    with needed():
        server = OpenSearchServer(heap="700m", release=OPENSEARCH_2)
    with server:
        passes(*SUITES, OPENSEARCH_URL=server.url, REDIS_URL=redis_url)


def test_the_oldest_client_serves(opensearch_url: str, redis_url: str, tmp_path: Path) -> None:
    installer = (
        [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("uv") or "uv", "pip"]
    )
    command = [*installer, "install", "--quiet", "--target", str(tmp_path), f"opensearch-py[async]=={OLDEST_CLIENT}"]
    subprocess.run(command, check=True, timeout=300)
    own = f"import opensearchpy; assert opensearchpy.__versionstr__ == {OLDEST_CLIENT!r}, opensearchpy.__file__"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run([sys.executable, "-c", own], check=True, env={**os.environ, "PYTHONPATH": path})
    passes(*CLIENT_SUITES, OPENSEARCH_URL=opensearch_url, REDIS_URL=redis_url, PYTHONPATH=path)


@pytest.mark.parametrize("row", ["OpenSearch | 2.19", "opensearch-py | 2.4", "Python | 3.11"])
def test_the_readme_states_what_was_run(row: str) -> None:
    assert f"| {row}" in (ROOT / "docs" / "versions.md").read_text("utf-8")
