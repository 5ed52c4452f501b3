"""Every example runs as it stands, but for the name of the index: on a real OpenSearch and a real store, with several workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import redis
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

from tests.conftest import RUN
from tests.live.test_quickstart import blocks
from tests.pages import ROOT

EXAMPLES = ROOT / "examples"
DEADLINE_S = 120.0
ANNA = {"user": "anna", "session": "s-1", "consent": "yes"}
PATIENT = {"REWRITER_BUDGET__SIGNALS_MS": "1000", "REWRITER_BUDGET__CUTOFF_MS": "10000"}


@dataclass(frozen=True, slots=True)
class Films:
    """The folder of a quickstart that was followed up to its history, and the environment for what runs there."""

    folder: Path
    index: str
    prefix: str
    environment: Mapping[str, str]

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a module of this Python; what it prints goes to `log`."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=self.folder, env=self.environment, stdout=output, stderr=output
            )

    def run(self, *arguments: str) -> str:
        """Run a module, or a file, of this Python, and return what it prints."""
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def films(
    tmp_path_factory: pytest.TempPathFactory, opensearch: OpenSearch, opensearch_url: str, redis_url: str
) -> Iterator[Films]:
    """The quickstart's films, its settings and its history; examples stand beside them."""
    folder = tmp_path_factory.mktemp("films")
    name, prefix = f"{RUN}-films-{uuid.uuid4().hex[:8]}", f"{RUN}-{uuid.uuid4().hex[:8]}"
    own = {
        "OPENSEARCH_URL": opensearch_url, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT), "REWRITER_STORE__PREFIX": prefix,
        f"REWRITER_POLICIES__{re.sub('[^A-Z0-9]', '_', name.upper())}__ITEM_SCALE": "0",
    }  # fmt: skip
    found = Films(folder, name, prefix, {**os.environ, **PATIENT, **own})
    for _, file, language, block in blocks():
        if language == "python":
            (folder / file).write_text(block.replace('"films"', f'"{name}"'))
    for example in EXAMPLES.iterdir():
        text = example.read_text("utf-8")
        (folder / example.name).write_text(text.replace('\\"films\\"', f'\\"{name}\\"').replace('"films"', f'"{name}"'))
    try:
        found.run("films.py")
        found.run("-m", "rewriter", "init", opensearch_url, name, "--store", redis_url)
        found.run("-m", "rewriter", "backfill", "views.csv")
        yield found
    finally:
        opensearch.indices.delete(index=name, ignore_unavailable=True)


@contextmanager
def served(films: Films, *arguments: str) -> Iterator[str]:
    """Run a server, yield its URL, end it as an operator does, and expect that it ends well."""
    log = films.folder / f"{arguments[0]}-{uuid.uuid4().hex[:4]}.log"
    server = films.start(*arguments, log=log)
    try:
        yield until(lambda: (found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text())) and found[0], log)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    printed = log.read_text()
    assert "Traceback" not in printed, printed
    assert code in (0, -signal.SIGTERM), printed


def until(find: Callable[[], Any], log: Path) -> Any:
    late_at = time.monotonic() + DEADLINE_S
    while not (found := find()):
        assert time.monotonic() < late_at, log.read_text()
        time.sleep(0.05)
    return found


def get(url: str, cookies: Mapping[str, str], event: Mapping[str, Any] | None = None) -> Any:
    """Ask a server on a connection of its own, as other visitors' browsers do."""
    headers = {
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "Content-Type": "application/json",
    }
    body = None if event is None else json.dumps(event).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return json.load(answer)
    except (URLError, HTTPException, ConnectionError):
        return None  # a worker is still starting


def by_leone(page: Mapping[str, Any]) -> int:
    return sum(film["director"] == "Leone" for film in page["hits"])


def every_worker_personalizes(films: Films, url: str, workers: int) -> None:
    """Anna's page is hers from each of the workers; without consent, and for nobody, it is the page of today."""
    pages: dict[int, int] = {}

    def all_of_them() -> bool:
        page = get(f"{url}/search?q=last+night", ANNA)
        if page:
            pages[page["worker"]] = max(pages.get(page["worker"], 0), by_leone(page))
        return len(pages) == workers and min(pages.values()) >= 5

    late_at = time.monotonic() + DEADLINE_S
    while not all_of_them():
        assert time.monotonic() < late_at, pages
        time.sleep(0.02)
    nobody = get(f"{url}/search?q=last+night", {})
    no_consent = get(f"{url}/search?q=last+night", ANNA | {"consent": "no"})
    assert nobody["hits"] == no_consent["hits"]
    assert by_leone(nobody) < 5


def events_in(films: Films) -> int:
    with redis.Redis.from_url(films.environment["REDIS_URL"]) as client:
        return sum(client.xlen(key) for key in client.scan_iter(f"{films.prefix}:{{stream:*}}", count=1_000))


def an_event(films: Films, user: str) -> dict[str, Any]:
    return {
        "action_name": "click", "user_id": user, "session_id": "s-1", "timestamp": int(time.time() * 1_000),
        "event_attributes": {"object": {"object_id": "f17"}},
    }  # fmt: skip


def test_fastapi_with_two_workers(films: Films) -> None:
    before = events_in(films)
    with served(films, "uvicorn", "fastapi_app:app", "--workers", "2", "--port", "0") as url:
        every_worker_personalizes(films, url, 2)
        assert get(f"{url}/search?q=last+night", ANNA)["reason"] == "personalized"
        assert get(f"{url}/events", {}, an_event(films, "otto")) == {"taken": True}
        assert get(f"{url}/health", {}) == {"problems": []}
    assert events_in(films) == before + 1


def test_flask_under_gunicorn_with_preload(films: Films) -> None:
    before = events_in(films)
    with served(films, "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0", "flask_app:app") as url:
        every_worker_personalizes(films, url, 2)
        assert get(f"{url}/events", {}, an_event(films, "otto")) == {"taken": True}
    assert events_in(films) == before + 1


def test_a_django_middleware(films: Films) -> None:
    with served(films, "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "django_app:application") as url:
        every_worker_personalizes(films, url, 2)


def test_a_notebook_with_a_plot(films: Films) -> None:
    code = (
        "import nbformat, sys; from nbclient import NotebookClient; book = nbformat.read(sys.argv[1], 4);"
        "NotebookClient(book, timeout=100, kernel_name='python3').execute(); nbformat.write(book, sys.argv[1])"
    )
    hasty = {"REWRITER_BUDGET__SIGNALS_MS": "1", "REWRITER_BUDGET__CUTOFF_MS": "1"}  # stand for a slow laptop
    replace(films, environment={**films.environment, **hasty}).run("-c", code, "max_boost.ipynb")
    book = json.loads((films.folder / "max_boost.ipynb").read_text())
    shown = [output for cell in book["cells"] for output in cell.get("outputs", [])]
    assert [output for output in shown if output["output_type"] == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in shown)


def test_a_search_of_the_dsl(films: Films) -> None:
    printed = films.run("dsl_search.py").splitlines()
    assert len(printed) == 7
    assert sum(line.endswith(" Leone") for line in printed) >= 5


def test_the_client_of_elasticsearch(films: Films, elasticsearch_url: str) -> None:
    """The same films in an Elasticsearch, and the same signals: a store does not know which server finds the items."""
    own = {"OPENSEARCH_URL": elasticsearch_url, "ELASTICSEARCH_URL": elasticsearch_url}
    there = replace(films, environment={**films.environment, **own})
    there.run("films.py")
    try:
        answer, *printed = there.run("elasticsearch_client.py").splitlines()
    finally:
        with Elasticsearch(elasticsearch_url) as client:
            client.indices.delete(index=films.index)
    assert answer == "ObjectApiResponse of status 200"
    assert len(printed) == 7
    assert sum(line.endswith(" Leone") for line in printed) >= 5


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [path.name for path in EXAMPLES.iterdir() if path.stem not in text] == []
