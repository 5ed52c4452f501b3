"""A server never outlives its parent, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rewriter_engines.errors import EngineError
from rewriter_engines.process import ServerProcess, free_port

ROOT = Path(__file__).parents[2]
# Ignores SIGTERM once it has said so: only SIGKILL ends it.
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]


def eventually(holds: Callable[[], bool], deadline_s: float = 10.0) -> bool:
    late_at = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > late_at:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def sleeper(directory: Path) -> ServerProcess:
    return ServerProcess(["sleep", "300"], log=directory / "log", cwd=directory)


def test_end_ends_it_and_may_be_said_twice(tmp_path: Path) -> None:
    server = sleeper(tmp_path)
    assert server.is_alive()
    server.end()
    server.end()
    assert not server.is_alive()
    assert gone(server.pid)


def test_kill_ends_a_server(tmp_path: Path) -> None:
    server = sleeper(tmp_path)
    server.kill()
    assert gone(server.pid)


def test_stop_ends_a_server_that_is_paused(tmp_path: Path) -> None:
    server = sleeper(tmp_path)
    server.signal(signal.SIGSTOP)
    server.end()
    assert gone(server.pid)


def test_a_server_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    server = ServerProcess(STUBBORN, log=tmp_path / "log", cwd=tmp_path, grace_s=0.1)
    server.wait_until(lambda: "ready" in server.log_tail(), deadline_s=10.0)
    server.end()
    assert gone(server.pid)


@pytest.mark.parametrize(
    "ending",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "sys.exit(0)", "raise RuntimeError('end')"],
)
def test_it_ends_with_its_parent(tmp_path: Path, ending: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    parent = f"""
        import os, pathlib, signal, sys
        from rewriter_engines.process import ServerProcess
        run = pathlib.Path({str(run)!r})
        server = ServerProcess(["sleep", "300"], log=run / "log", cwd=run, remove=run)
        print(server.pid, flush=True)
        {ending}
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(parent)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    pid = int(ended.stdout)
    assert eventually(lambda: gone(pid))
    assert eventually(lambda: not run.exists())


def test_a_server_that_dies_while_starting_shows_its_log(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    server = ServerProcess(["sh", "-c", "echo no space left; exit 7"], log=run / "log", cwd=run, remove=run)
    with pytest.raises(EngineError, match=r"ended while starting(.|\n)*no space left"):
        server.wait_until(lambda: False, deadline_s=10.0)
    assert not run.exists()


def test_a_server_that_is_late_is_ended(tmp_path: Path) -> None:
    server = sleeper(tmp_path)
    with pytest.raises(EngineError, match=r"did not answer within 0\.05 s"):
        server.wait_until(lambda: False, deadline_s=0.05)
    assert gone(server.pid)


def test_a_command_that_is_not_there_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no-such-server could not be started(.|\n)*No such file"):
        ServerProcess([str(tmp_path / "no-such-server")], log=tmp_path / "log", cwd=tmp_path)


def test_the_log_tail_is_of_this_run(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an earlier run\n")
    server = ServerProcess(["echo", "this run"], log=tmp_path / "log", cwd=tmp_path)
    assert eventually(lambda: not server.is_alive())
    assert server.log_tail() == "this run\n"
    server.end()


def test_free_ports_can_be_bound() -> None:
    assert 1024 <= free_port() <= 65535
