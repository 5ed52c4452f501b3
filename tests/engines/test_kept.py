"""`rewriter engines` from outside, as processes: what runs, where, for how long, and what ends it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from rewriter.cli import app, engines
from rewriter_engines import EngineError, EngineUnavailable, Osmem, Valkey, keeper, kept
from rewriter_engines.kept import Kept
from tests.needed import needed

OSMEM = ("--engine", "osmem", "--search-port", "0", "--store-port", "0")
ORDER = kept.Order("osmem", 1.0, 0, 0)
DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of a set of engines of one test, ended after it."""
    with needed():
        Osmem().close()
        Valkey().close()
    one = kept.folder_of(f"test-{uuid.uuid4().hex[:8]}")
    yield one
    kept.end(one)
    for path in one.iterdir():
        path.unlink()
    one.rmdir()


def up(folder: Path, order: kept.Order = ORDER) -> Kept:
    return kept.start(folder, order, lambda _: None)[0]


def run(folder: Path, action: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["engines", action, "--name", folder.name, *arguments])


def is_alive(process: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def processes(found: Kept) -> list[int]:
    return [found.process, found.search.process, found.store.process]


def until(holds: Callable[[], bool]) -> bool:
    late_at = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > late_at:
            return False
        time.sleep(0.05)
    return True


def listening(url: str) -> set[str]:
    """The addresses, as Linux writes them, on which a URL's port is listened on."""
    port = int(url.rpartition(":")[2])
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {line[1].rpartition(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


def test_both_run_where_the_command_shows_until_they_are_ended_by_their_process_id(folder: Path) -> None:
    command = [sys.executable, "-m", "rewriter", "engines", "up", "--name", folder.name, *OSMEM]
    started = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert started.returncode == 0, started.stderr
    urls = dict(shlex.split(line)[1].split("=", 1) for line in started.stdout.splitlines())
    assert urls.keys() == {"OPENSEARCH_URL", "REDIS_URL"}
    with urllib.request.urlopen(urls["OPENSEARCH_URL"], timeout=10) as answer:
        assert json.load(answer)["version"]["number"]
    with redis.Redis.from_url(urls["REDIS_URL"]) as client:
        assert client.ping()
    assert [listening(url) for url in urls.values()] == [{"0100007F"}, {"0100007F"}], "loopback alone"
    status = run(folder, "status", "--json")
    found = json.loads(status.stdout)
    assert (status.exit_code, found["answers"]) == (0, {"search": True, "store": True})
    again = run(folder, "up", *OSMEM)
    assert (again.exit_code, again.stdout) == (0, started.stdout)
    other = run(folder, "up", "--engine", "elasticsearch")
    assert (other.exit_code, other.stdout) == (1, "")
    assert "runs already, not elasticsearch: `--name elasticsearch`" in other.stderr
    assert ("these run already" in again.stderr, "starting" in again.stderr) == (True, False)
    ids = [found["process"], found["search"]["process"], found["store"]["process"]]
    assert all(map(is_alive, ids))
    os.kill(found["store"]["process"], signal.SIGKILL)
    assert until(lambda: not is_alive(found["store"]["process"]))
    broken = run(folder, "up", *OSMEM)
    assert (broken.exit_code, broken.stdout) == (1, ""), "an URL that answers no more is of no use"
    assert f"at {urls['REDIS_URL']} does not answer any more: `rewriter engines down`" in broken.stderr
    down = run(folder, "down")
    assert (down.exit_code, f"ended process {found['process']}" in down.stderr) == (0, True)
    assert until(lambda: not any(map(is_alive, ids)))
    assert run(folder, "status").exit_code == 1


def test_they_end_by_themselves_after_the_stated_time(folder: Path) -> None:
    found = up(folder, replace(ORDER, hours=2.0 / 3_600))
    assert 0 < found.until_s - time.time() <= 2.0
    assert until(lambda: not any(map(is_alive, processes(found))))
    assert kept.kept_in(folder) is None


def test_a_keeper_that_is_killed_leaves_no_server_behind(folder: Path) -> None:
    found = up(folder)
    os.kill(found.process, signal.SIGKILL)
    assert until(lambda: not is_alive(found.search.process) and not is_alive(found.store.process))
    assert kept.kept_in(folder) is None
    assert kept.end(folder) is None


def test_a_process_that_got_the_id_of_a_dead_keeper_is_left_alone(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        server = kept.Server("x", "1", "http://127.0.0.1:1", bystander.pid)
        (folder / kept.LOCK).write_text(f"{bystander.pid}\n")
        (folder / kept.STATE).write_text(json.dumps(asdict(Kept(bystander.pid, time.time() + 60, server, server))))
        assert kept.kept_in(folder) is None
        assert kept.end(folder) is None
        assert bystander.poll() is None
        bystander.terminate()


def test_several_at_once_start_one_set_and_a_taken_port_is_not_used(folder: Path) -> None:
    with socket.socket() as taken, ThreadPoolExecutor(3) as pool:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        order = replace(ORDER, search_port=port, store_port=port)
        found = list(pool.map(lambda _: kept.start(folder, order, lambda _: None), range(3)))
    assert len({one for one, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1
    assert not {found[0][0].search.url, found[0][0].store.url} & {
        f"http://127.0.0.1:{port}",
        f"redis://127.0.0.1:{port}",
    }


def test_a_server_that_died_is_reported(folder: Path) -> None:
    found = up(folder)
    os.kill(found.store.process, signal.SIGKILL)
    assert until(lambda: not is_alive(found.store.process))
    status = run(folder, "status")
    assert status.exit_code == 1
    assert [line.split()[-1] for line in status.stdout.splitlines()[1:]] == ["yes", "no"]


def test_without_java_or_maven_osmem_stands_in_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(**_: Any) -> None:
        raise EngineUnavailable("Maven (mvn) is not installed")

    monkeypatch.setattr(keeper, "OpenSearchServer", missing)
    with needed():
        Osmem().close()
    with ExitStack() as stack:
        found = keeper._started(stack, replace(ORDER, engine="auto"))
        assert found.search.name == "osmem-server"
    engines._print_up(found, True, as_json=False)
    assert "no real OpenSearch: Maven (mvn) is not installed. osmem-server stands in" in capsys.readouterr().err
    with ExitStack() as stack, pytest.raises(EngineUnavailable, match="Maven"):
        keeper._started(stack, replace(ORDER, engine="opensearch"))


def test_a_failure_is_shown_and_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "osmem_server.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    with pytest.raises(EngineError, match=r"^osmem-server is not installed: pip install"):
        up(folder)
    assert kept.keeper_of(folder) is None


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"rewriter-engines-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="belongs to somebody else"):
        kept.folder_of("default")
