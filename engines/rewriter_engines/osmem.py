"""The embedded search engine of the demo: `osmem-server` from PyPI, in memory, a few thousand documents.

It replaces OpenSearch where nothing can be installed, and proves nothing about it: see `docs/adr`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from rewriter_engines.errors import EngineUnavailable
from rewriter_engines.process import OwnedServer, ServerProcess

START_DEADLINE_S = 60.0


class Osmem(OwnedServer):
    """One osmem-server on 127.0.0.1, on `port`; by default it picks one.

    Raises EngineUnavailable without osmem-server, EngineError if it does not start.
    """

    def __init__(self, *, port: int = 0) -> None:
        binary = _binary()
        run = Path(tempfile.mkdtemp(prefix="osmem-"))
        self._log = run / "server.log"
        try:
            # The guard watches this process; the server would watch the guard's standard input instead.
            command = [binary, "-addr", f"127.0.0.1:{port}", "-no-ja", "-no-stdin-watch"]
            self._process = ServerProcess(command, log=self._log, cwd=run, remove=run)
        except BaseException:
            shutil.rmtree(run, ignore_errors=True)
            raise
        self._process.wait_until(self._answers, START_DEADLINE_S)

    def _answers(self) -> bool:
        # Once it listens, the server logs its URL in one line of JSON.
        for line in self._log.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                self.url: str = json.loads(line)["url"]
                return True
        return False


def _binary() -> str:
    try:
        from osmem_server import OsmemError, resolve_binary
    except ImportError:
        raise EngineUnavailable("osmem-server is not installed: pip install rewriter-engines") from None
    try:
        return str(resolve_binary())
    except OsmemError as error:
        raise EngineUnavailable(str(error)) from error
