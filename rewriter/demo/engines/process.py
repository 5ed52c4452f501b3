"""A server process that never outlives its parent.

How it works. A child does not die with its parent on Unix, and the ways to make it so have holes: exit handlers do
not run on SIGKILL; PR_SET_PDEATHSIG is Linux only, is forgotten when the user changes (OpenSearch refuses to run as
root), and fires when the *thread* that forked ends. So a small guard stands between the two:

    this process ──pipe──▶ guard.py ──fork──▶ server
                 ◀──pid───          ◀──wait──

The guard holds the read end of a pipe whose only write end is here. Whatever ends this process closes the pipe; the
guard then ends the server by its id and removes what it was told to. `end()` closes the pipe on purpose: there is one
way out, and every server of every run walks it. Both run in a session of their own, so that a Ctrl-C in the terminal
reaches this process alone, which then ends its servers in its own order.

What it does not cover: a child that this process *forks* (without exec) inherits the write end, so the server lives
until the last of them is gone. A guard that is itself killed by SIGKILL leaves its server behind.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rewriter.demo.engines.errors import EngineError

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.02
LOG_TAIL_BYTES = 3000


class ServerProcess:
    """One server under guard.

    argv:    the server's command.
    log:     where its output goes, appended.
    cwd:     its working directory.
    user:    the user to run it as; only root can ask for another one.
    remove:  a directory to remove once the server is gone; it may hold the log.
    grace_s: how long the server may take to end before it is killed.
    name:    what errors call the server; by default the command's name.

    Raises EngineError where the command cannot be run at all.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        user: str | None = None,
        remove: Path | None = None,
        grace_s: float = 10.0,
        name: str | None = None,
    ) -> None:
        self.log = log
        self._name = name or Path(argv[0]).name
        self._grace_s = grace_s
        self._remove = remove
        guard = [sys.executable, "-I", "-S", str(GUARD), user or "", str(remove or ""), str(grace_s), *argv]
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._guard = subprocess.Popen(
                guard, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, cwd=cwd, start_new_session=True
            )
        atexit.register(self.end)
        assert self._guard.stdout is not None
        with self._guard.stdout as answer:
            pid = answer.readline()
        if not pid.strip():
            log_tail = self.log_tail()
            self.end()
            raise EngineError(f"{self._name} could not be started:\n{log_tail}")
        self.pid = int(pid)

    def is_alive(self) -> bool:
        """Whether the server still runs."""
        return self._guard.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server itself; its id stays valid while the guard has not reaped it."""
        if self.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """End the server and wait until it is gone. Safe to call twice."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(self._grace_s + 5.0)
        if self._remove is not None:
            shutil.rmtree(self._remove, ignore_errors=True)
        atexit.unregister(self.end)

    def wait_until(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Return once `ready()` holds; end the server and raise EngineError with its log when it dies or is late."""
        late_at = time.monotonic() + deadline_s
        while not ready():
            if not self.is_alive():
                what = "ended while starting"
            elif time.monotonic() > late_at:
                what = f"did not answer within {deadline_s:g} s"
            else:
                time.sleep(POLL_S)
                continue
            log_tail = self.log_tail()
            self.end()
            raise EngineError(f"{self._name} {what}; the end of its log:\n{log_tail}")

    def log_tail(self) -> str:
        """Return the end of what this run has logged."""
        size = self.log.stat().st_size
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses right now; another process may take it before its user does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def usual_port(wanted: int) -> int:
    """Return `wanted` where nobody uses that port of 127.0.0.1 right now, else 0: any that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted
