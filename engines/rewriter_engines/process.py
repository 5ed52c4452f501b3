"""A server process that never outlives its parent.

On Unix a child does not die with its parent, and the usual ways to make it die are incomplete. Exit handlers do not run on
SIGKILL. PR_SET_PDEATHSIG exists on Linux only, is reset when the user changes (OpenSearch refuses to run as root), and fires when
the *thread* that forked ends. So a small guard process runs between the two:

    this process ──pipe──▶ guard.py ──fork──▶ server
                 ◀──pid───          ◀──wait──

The guard holds the read end of a pipe whose only write end is in this process. The end of this process, whatever its cause, closes
the pipe; the guard then ends the server by its id and removes the given directory. `end()` closes the pipe on purpose, so every
server ends in the same way. Guard and server run in a session of their own: a Ctrl-C in the terminal reaches this process alone,
which then ends its servers in order.

Two cases are not covered. A child that this process *forks* (without exec) inherits the write end, so the server lives until the
last of them ends. A guard that is killed with SIGKILL leaves its server running.
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
from typing import Self

from rewriter_engines.errors import EngineError

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.02
LOG_TAIL_BYTES = 3000


class ServerProcess:
    """One server under a guard.

    argv:    the server's command.
    log:     the file to which its output is appended.
    cwd:     its working directory.
    user:    the user to run it as; only root can choose another one.
    remove:  a directory to remove once the server has ended; it may hold the log.
    grace_s: the time that the server has to end before it is killed.
    name:    the server's name in errors; by default the command's name.

    Raises EngineError if the command cannot be run.
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
        """Send a signal to the server itself. Its id is valid until the guard has reaped it."""
        if self.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """End the server and wait until it has ended. Safe to call twice."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(self._grace_s + 5.0)
        if self._remove is not None:
            shutil.rmtree(self._remove, ignore_errors=True)
        atexit.unregister(self.end)

    def wait_until(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Return once `ready()` is true. If the server dies or is late, end it and raise EngineError with its log."""
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
        """Return the end of this run's log."""
        size = self.log.stat().st_size
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


class OwnedServer:
    """A server that belongs to its creator: it ends at `close`, at the end of a `with` block, or with this process."""

    _process: ServerProcess

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def close(self) -> None:
        """End the server; its guard removes its data. Safe to call twice."""
        self._process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now; another process may take it before the caller does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def usual_port(wanted: int) -> int:
    """Return `wanted` if that port of 127.0.0.1 is free now, otherwise 0, which means any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted
