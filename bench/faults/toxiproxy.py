"""Toxiproxy between the rewriter and its store: built once from its Go module, controlled by its REST API."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from rewriter_engines import EngineUnavailable
from rewriter_engines.process import ServerProcess, free_port

VERSION = "v2.5.0"
MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@{VERSION}"
CACHE = Path(__file__).parents[2] / ".toxiproxy"
BUILD_DEADLINE_S = 300.0
START_DEADLINE_S = 10.0


def binary() -> Path:
    """Return the server's path, built with Go at the first call. Raises EngineUnavailable if it cannot be built."""
    found = CACHE / VERSION / "server"
    if found.exists():
        return found
    go = shutil.which("go")
    if go is None:
        raise EngineUnavailable("Toxiproxy is built from its Go module, and there is no `go`: install Go 1.17 or newer")
    with TemporaryDirectory(prefix="toxiproxy-") as there:
        environment = {"PATH": str(Path(go).parent) + ":/usr/bin:/bin", "HOME": str(Path.home()), "GOBIN": there}
        try:
            subprocess.run(
                [go, "install", MODULE], check=True, capture_output=True, env=environment, timeout=BUILD_DEADLINE_S
            )
        except subprocess.SubprocessError as error:
            output = getattr(error, "stderr", None) or b""
            raise EngineUnavailable(f"Toxiproxy could not be built: {output.decode()[-500:] or error}") from None
        found.parent.mkdir(parents=True, exist_ok=True)
        whole = found.with_name("server.new")
        shutil.copy2(Path(there) / "server", whole)
        whole.replace(found)
    return found


class Toxiproxy:
    """A Toxiproxy server with one proxy in front of `upstream` (host:port). Raises EngineUnavailable."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._directory = TemporaryDirectory(prefix="toxiproxy-")
        there = Path(self._directory.name)
        self._api, self.port = free_port(), free_port()
        command = [str(binary()), "-host", "127.0.0.1", "-port", str(self._api)]
        self._process = ServerProcess(command, log=there / "log", cwd=there)
        self._process.wait_until(self._answers, START_DEADLINE_S)
        self._call("POST", "/proxies", {"name": "store", "listen": f"127.0.0.1:{self.port}", "upstream": upstream})

    @contextmanager
    def toxic(self, kind: str, **attributes: int) -> Iterator[None]:
        """Spoil the store's answers; connections made meanwhile are closed at the end."""
        self._call("POST", "/proxies/store/toxics", {"name": "t", "type": kind, "attributes": attributes})
        try:
            yield
        finally:
            self._call("DELETE", "/proxies/store/toxics/t")

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Close all connections and accept no more."""
        self._call("POST", "/proxies/store", {"enabled": False})
        try:
            yield
        finally:
            self._call("POST", "/proxies/store", {"enabled": True})

    def drop_connections(self) -> None:
        """Close all connections."""
        with self.refusing():
            pass

    @contextmanager
    def leading_to(self, upstream: str) -> Iterator[None]:
        """Connect the proxy to another server."""
        self.lead_to(upstream)
        try:
            yield
        finally:
            self.lead_to(self._upstream)

    def lead_to(self, upstream: str) -> None:
        """Connect the proxy to another server, and close connections to the former one."""
        self._call("POST", "/proxies/store", {"upstream": upstream, "enabled": False})
        self._call("POST", "/proxies/store", {"enabled": True})

    def close(self) -> None:
        """End the server."""
        self._process.end()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            self._call("GET", "/version")
        except OSError:
            return False
        return True

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._api}{path}",
            json.dumps(body).encode() if body is not None else None,
            method=method,
        )
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310  as above
            pass
