"""A real single-node OpenSearch without a container: laid out from Maven Central's jars, run by any JDK from 21 on.

Each server has a port and a data directory of its own, so any number of servers run from one layout. The server picks its ports
itself and writes them to a file, so no other process can take a port first.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
from dataclasses import replace
from pathlib import Path

from rewriter_engines import layout
from rewriter_engines.errors import EngineError
from rewriter_engines.java import Java, find_java, server_user, usable
from rewriter_engines.layout import OPENSEARCH_3, Release, lay_out, make_once
from rewriter_engines.process import OwnedServer, ServerProcess

# 8 s on two idle cores; more than ten times that on a busy machine. A server that ends instead is noticed at once.
START_DEADLINE_S = 240.0
CONFIG = """\
cluster.name: local
node.name: node-1
discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: 0
node.portsfile: true
path.data: {run}/data
path.logs: {run}/logs
# A laptop's disk is often fuller than the marks above which the server makes every index read only.
cluster.routing.allocation.disk.threshold_enabled: false
"""
LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class JavaServer(OwnedServer):
    """A server that writes its ports to a file: OpenSearch, and Elasticsearch."""

    url: str

    def _wait_for(self, ports: Path) -> None:
        """Wait until the server answers at the URL in its file of ports. Raises EngineError if it does not."""

        def answers() -> bool:
            self.url = answering_url(ports) or ""
            return bool(self.url)

        self._process.wait_until(answers, START_DEADLINE_S)


class OpenSearchServer(JavaServer):
    """One OpenSearch on 127.0.0.1, without security, with an empty data directory that is removed at its end.

    heap: the size of the JVM's heap, in the JVM's notation.
    java: the runtime; by default the one that `find_java` returns.
    release: the version; `layout` defines those that the project supports.
    port: the port; by default the server picks one.

    Raises EngineUnavailable if Java or Maven is missing, EngineError if the server does not start.
    """

    def __init__(
        self, *, heap: str = "1g", java: Java | None = None, release: Release = OPENSEARCH_3, port: int = 0
    ) -> None:
        java = java or find_java(*release.java)
        cache = cache_directory()
        if java.trimmed and not usable(java.path):
            java = _copied(java, cache)
        home = lay_out(cache, release.without("analysis-common") if java.trimmed else release)
        run = Path(tempfile.mkdtemp(prefix="opensearch-"))
        try:
            self._process = ServerProcess(
                _command(java, home, configure(run, "opensearch.yml", CONFIG, port), heap, release),
                log=run / "server.log",
                cwd=run,
                user=server_user(),
                remove=run,
            )
        except BaseException:
            shutil.rmtree(run, ignore_errors=True)
            raise
        self._wait_for(run / "logs" / "http.ports")


def answering_url(ports: Path) -> str | None:
    """Return the URL in a server's file of ports if the server answers that its indices can be searched, otherwise None."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        # One line per address; the file appears complete, by a rename.
        url = f"http://{ports.read_text().split()[0]}"
        health = f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s"
        with urllib.request.urlopen(health, timeout=5) as answer:  # noqa: S310 - always http
            return url if answer.status == 200 else None
    return None


def cache_directory() -> Path:
    """Return the directory of layouts: `.opensearch` in the checkout, otherwise this user's own in the temporary directory.

    The checkout is used if this module is in one that this user can write and the server's user can read.
    Raises EngineError if the other directory does not belong to this user.
    """
    checkout = Path(layout.__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and os.access(checkout, os.W_OK) and usable(checkout):
        cache = checkout / ".opensearch"
        cache.mkdir(exist_ok=True)
        return cache
    cache = Path(tempfile.gettempdir(), f"rewriter-opensearch-{os.getuid()}")
    cache.mkdir(mode=0o755, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        raise EngineError(f"{cache} belongs to somebody else; remove it or set TMPDIR")
    return cache


def _copied(java: Java, cache: Path) -> Java:
    """Copy a runtime that the server's user cannot read, such as one in an environment under a private directory."""
    home = java.path.parents[1]
    target = cache / f"java-{hashlib.blake2b(str(home).encode(), digest_size=4).hexdigest()}"

    def copy(building: Path) -> None:
        shutil.copytree(home, building, dirs_exist_ok=True)

    make_once(target, copy)
    return replace(java, path=target / java.path.relative_to(home))


def configure(run: Path, name: str, text: str, port: int) -> Path:
    """Make the directories of one run, its settings file `name` and its logging file. Return the config directory."""
    config = run / "config"
    for folder in (config, run / "data", run / "logs", run / "tmp"):
        folder.mkdir()
    (config / name).write_text(text.format(run=run, port=port))
    (config / "log4j2.properties").write_text(LOGGING)
    if user := server_user():
        for path in (run, *run.rglob("*")):
            shutil.chown(path, user)
    return config


def _command(java: Java, home: Path, config: Path, heap: str, release: Release) -> list[str]:
    vectors = [] if java.trimmed else ["--add-modules=jdk.incubator.vector"]
    guard = (
        [f"-javaagent:{home}/agent/opensearch-agent-{release.version}.jar", "--enable-native-access=ALL-UNNAMED"]
        if release.agent
        else ["-Djava.security.manager=allow"]
    )
    return [
        str(java.path),
        f"-Xms{heap}",
        f"-Xmx{heap}",
        *guard,
        f"-Dopensearch.path.home={home}",
        f"-Dopensearch.path.conf={config}",
        "-Dopensearch.distribution.type=tar",
        *vectors,
        "-cp",
        f"{home}/lib/*",
        "org.opensearch.bootstrap.OpenSearch",
    ]
