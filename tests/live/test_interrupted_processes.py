"""Ctrl-C in real processes of `evaluate`, `diff`, `tune`, `preview`: a partial result that says so, or 2 and nothing written."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import urlsplit

import pytest

from rewriter.evaluate.records import read_run
from tests.live import test_diff, test_evaluate

pytestmark = pytest.mark.full

judged_shop = pytest.fixture(name="judged_shop")(test_evaluate.shop.__wrapped__)  # type: ignore[attr-defined]
logged_shop = pytest.fixture(name="logged_shop")(test_diff.shop.__wrapped__)  # type: ignore[attr-defined]
FORMER = "the former file"
SHARES = (0.0, 0.4, 0.8)
"""Where in its requests a process is interrupted."""


class Interrupting(ThreadingHTTPServer):
    """A proxy before the engine. It counts requests, and interrupts a process before it answers one of them."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.to = urlsplit(url).netloc
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.process: subprocess.Popen[str] | None = None
        self.at: int | None = None
        self.requests = 0
        self.lock = Lock()

    def count(self) -> None:
        with self.lock:
            self.requests += 1
            if self.requests - 1 == self.at:
                assert self.process is not None
                self.process.send_signal(signal.SIGINT)


class _Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Interrupting

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.count()
        engine = http.client.HTTPConnection(self.server.to)
        kept = {
            key: one for key, one in self.headers.items() if key.lower() not in ("host", "content-length", "connection")
        }
        engine.request(self.command, self.path, body, kept)
        answer = engine.getresponse()
        data = answer.read()
        engine.close()
        self.send_response(answer.status)
        for key in ("Content-Type", "Content-Encoding"):
            if key in answer.headers:
                self.send_header(key, answer.headers[key])
        self.send_header("Content-Length", str(len(data)))
        with suppress(OSError):  # the process has ended
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = do_HEAD = _forward  # noqa: N815  names of the base class

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(opensearch_url: str) -> Iterator[Interrupting]:
    with Interrupting(opensearch_url) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(proxy: Interrupting, at: int | None, *arguments: str) -> tuple[int, str, str]:
    """Run the command as a process of its own; return exit code, output and messages. at: the request that interrupts it."""
    Path("scratch").mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(Path("scratch").absolute())}
    command = [sys.executable, "-m", "rewriter", *arguments]
    proxy.at, proxy.requests = at, 0
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) as process:
        proxy.process = process
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def places(proxy: Interrupting) -> list[int]:
    """Return requests of a process like the one that ran last."""
    whole = proxy.requests
    return sorted({int(share * whole) for share in SHARES})


def through(proxy: Interrupting, url: str) -> None:
    for path in Path().rglob("rewriter.toml"):
        path.write_text(path.read_text().replace(url, proxy.url))


def files() -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in Path().rglob("*") if one.is_file() and one.parts[0] != "runs"}


def assert_said_and_nothing_half_written(code: int, out: str, err: str, before: dict[str, bytes], at: int) -> None:
    where = f"request {at}: {code}\n{out}{err}"
    assert "Traceback" not in err, where
    assert code == 2, where
    assert out == "", where
    assert "interrupted" in err, where
    assert files() == before, where


def test_evaluate_ends_with_a_partial_run_or_nothing(
    judged_shop: str, proxy: Interrupting, opensearch_url: str, tmp_path: Path
) -> None:
    test_evaluate.history(tmp_path / "h.ndjson", faithful=True)
    through(proxy, opensearch_url)
    Path("page.html").write_text(FORMER)
    arguments = ("evaluate", *test_evaluate.HELD, "--html", "page.html", "--json")
    assert run(proxy, None, *arguments)[0] == 0
    whole = {one.name for one in Path("runs").iterdir()}
    Path("page.html").write_text(FORMER)
    before, partial = files(), 0
    for at in places(proxy):
        code, out, err = run(proxy, at, *arguments)
        new = [one for one in Path("runs").iterdir() if one.name not in whole]
        if code == 2:
            assert new == []
            assert_said_and_nothing_half_written(code, out, err, before, at)
            continue
        partial += 1
        assert code == 1, err
        (folder,) = new
        assert folder.name.endswith("-partial")
        record, searches = read_run(folder)
        found = json.loads(out)
        assert not found["complete"]
        assert "interrupted" in found["warnings"][0]
        assert len(searches) == found["searches"] == record["figures"]["searches"] > 0
        assert "<html" in Path("page.html").read_text()
        Path("page.html").write_text(FORMER)
        for one in folder.iterdir():
            one.unlink()
        folder.rmdir()
    assert partial


def test_tune_proposes_nothing_and_goes_on_later(
    judged_shop: str, proxy: Interrupting, opensearch_url: str, tmp_path: Path
) -> None:
    test_evaluate.history(tmp_path / "h.ndjson", faithful=True)
    through(proxy, opensearch_url)
    for name in ("tune.html", "tune.diff"):
        Path(name).write_text(FORMER)
    arguments = (
        "tune", "shop", "--from", "h.ndjson", "--body", "search.mustache", "--train", "2w", "--confirm", "2w", "--searches", "100",
        "--spare-new", "0", "--trials", "2", "--html", "tune.html", "--json", "--study",
    )  # fmt: skip
    whole = json.loads(run(proxy, None, *arguments, "whole.journal")[1])
    for name in ("tune.html", "tune.diff"):
        Path(name).write_text(FORMER)
    before = files()
    for at in places(proxy):
        code, out, err = run(proxy, at, *arguments, "part.journal")
        journal = Path("part.journal").read_bytes() if Path("part.journal").exists() else b""
        Path("part.journal").unlink(missing_ok=True)
        assert_said_and_nothing_half_written(code, out, err, before, at)
        assert "nothing is proposed" in err or "nothing was written" in err
        Path("part.journal").write_bytes(journal)
    resumed = json.loads(run(proxy, None, *arguments, "part.journal")[1])
    assert resumed["trials"] == whole["trials"]
    assert resumed["confirmation"] == whole["confirmation"]


@pytest.mark.parametrize("command", ["diff", "preview"])
def test_diff_and_preview_write_nothing(
    command: str, logged_shop: str, proxy: Interrupting, opensearch_url: str
) -> None:
    through(proxy, opensearch_url)
    Path("page.html").write_text(FORMER)
    Path("search.mustache").write_text('{"query": {"match": {"title": "{{query}}"}}}')
    arguments = {
        "diff": ("diff", "one", "two", "--searches", "searches.ndjson", "--html", "page.html", "--json"),
        "preview": ("preview", "shop", "shoe", "--body", "search.mustache", "--user", "ann", "--html", "page.html"),
    }[command]
    code, _, err = run(proxy, None, *arguments)
    assert code == 0, err
    assert "<html" in Path("page.html").read_text()
    Path("page.html").write_text(FORMER)
    before = files()
    for at in places(proxy):
        code, out, err = run(proxy, at, *arguments)
        assert_said_and_nothing_half_written(code, out, err, before, at)
