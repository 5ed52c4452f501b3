"""Runs on other versions than the whole suite's: the oldest server and clients that are allowed, elasticsearch-py 8, other Pythons.

Each runs some of the suites once more, in a process of its own. `make full` runs them whole and records what it ran on for
docs/versions.md; `make test` runs a part of those for the oldest server and client.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rewriter_engines import OpenSearchServer
from rewriter_engines.layout import OPENSEARCH_2
from tests.needed import needed
from tests.pages import ROOT
from tests.versions import VARIABLE, Run, client_version, python_version, ran, server_version, store_version

SUITES = ("tests/live/test_promises.py", "tests/live/test_query_form.py", "tests/live/test_index_facts.py")
CLIENT_SUITES = (
    "tests/shell/test_given.py",
    "tests/shell/test_shells.py",
    "tests/live/test_baseline.py",
    "tests/live/test_objects.py",
)
WHOLE = bool(os.environ.get(VARIABLE))
FEW_DRAWS = {} if WHOLE else {"PROMISE_DRAWS": "40"}
FEW_TESTS = () if WHOLE else ("-k", "test_given or test_baseline or test_objects")
ELASTICSEARCH_SUITES = ("tests/client/test_elasticsearch_client.py", "tests/live/test_elasticsearch.py")
WITHOUT_ENGINE = ("tests", "--ignore=tests/live", "--ignore=tests/engines", "--ignore=tests/packaging")
PYTHONS = ("3.12", "3.13", "3.14")


def passes(environment: Mapping[str, str], *suites: str, python: str = sys.executable, deadline_s: int = 900) -> str:
    """Run the suites, and return how many passed. Fails where one fails or is skipped."""
    command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *suites]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=deadline_s, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " skipped" not in done.stdout
    found = re.search(r"\d+ passed", done.stdout)
    assert found
    return found[0]


def installed(folder: Path, requirement: str) -> str:
    """Install a client into a folder, and return the PYTHONPATH with which it is found before the one of the suite."""
    installer = (
        [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("uv") or "uv", "pip"]
    )
    subprocess.run([*installer, "install", "--quiet", "--target", str(folder), requirement], check=True, timeout=300)
    return os.pathsep.join([str(folder), str(ROOT)])


def names(*suites: str) -> str:
    return ", ".join(f"`{Path(one).stem.removeprefix('test_')}`" for one in suites)


def test_the_promises_hold_on_opensearch_2_19(redis_url: str) -> None:
    with needed():
        server = OpenSearchServer(heap="700m", release=OPENSEARCH_2)
    with server:
        version = server_version(server.url)
        assert version.startswith("OpenSearch 2.19.")
        passed = passes({"OPENSEARCH_URL": server.url, "REDIS_URL": redis_url, **FEW_DRAWS}, *SUITES)
    client, store = client_version("opensearch-py"), store_version(redis_url)
    ran("OpenSearch 2", Run(version, client, store, python_version(), names(*SUITES), passed, ("server",)))


def test_the_oldest_client_serves(opensearch_url: str, redis_url: str, tmp_path: Path) -> None:
    path = installed(tmp_path, "opensearch-py[async]==2.4.0")
    client = client_version("opensearch-py", {"PYTHONPATH": path})
    assert client == "opensearch-py 2.4.0"
    environment = {"OPENSEARCH_URL": opensearch_url, "REDIS_URL": redis_url, "PYTHONPATH": path}
    passed = passes(environment, *CLIENT_SUITES, *FEW_TESTS)
    server, store = server_version(opensearch_url), store_version(redis_url)
    run = Run(server, client, store, python_version(), names(*CLIENT_SUITES), passed, ("client",))
    ran("the oldest opensearch-py", run)


@pytest.mark.full
@pytest.mark.parametrize("version", ["8.14.0", "8.19.3"])
def test_elasticsearch_py_8_serves(elasticsearch_url: str, tmp_path: Path, version: str) -> None:
    path = installed(tmp_path, f"elasticsearch[async]=={version}")
    client = client_version("elasticsearch-py", {"PYTHONPATH": path})
    assert client == f"elasticsearch-py {version}"
    environment = {"ELASTICSEARCH_URL": elasticsearch_url, "PYTHONPATH": path, "TEST_ENGINE": "elasticsearch"}
    passed = passes(environment, *ELASTICSEARCH_SUITES)
    server = server_version(elasticsearch_url)
    run = Run(server, client, "", python_version(), names(*ELASTICSEARCH_SUITES), passed, ("client", "server"))
    ran(f"elasticsearch-py {version}", run)


@pytest.mark.full
@pytest.mark.parametrize("version", PYTHONS)
def test_the_tests_without_an_engine_pass_on_python(tmp_path: Path, version: str) -> None:
    python = shutil.which(f"python{version}", path=os.environ.get("PYTHONS_PATH", os.environ["PATH"]))
    uv = shutil.which("uv")
    if python is None or uv is None:
        pytest.skip(f"python{version} and uv are needed; PYTHONS_PATH may list folders of Pythons")
    environment = tmp_path / "environment"
    own = environment / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", python, str(environment)], check=True, timeout=60)
    packages = ["-e", str(ROOT / "engines"), "-e", str(ROOT), "--group", f"{ROOT / 'pyproject.toml'}:test"]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(own), *packages], check=True, timeout=900)
    asked = "import platform; print(platform.python_version())"
    found = subprocess.run([own, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    assert found.startswith(f"{version}.")
    passed = passes({}, *WITHOUT_ENGINE, python=str(own), deadline_s=1_500)
    client = client_version("opensearch-py")
    ran(f"Python {version}", Run("", client, "", found, "all tests without an engine", passed))
