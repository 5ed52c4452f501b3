"""A single-node Elasticsearch 9 without a container: laid out from Maven Central's jars, run by a JDK from 21 on.

It serves to prove that the rewriter's searches mean the same there. It has only the modules that Maven Central has; see
`elasticsearch_layout.MISSING_MODULES`. Each server has a port and a data directory of its own, as an OpenSearchServer has.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from rewriter_engines.elasticsearch_layout import lay_out_elasticsearch
from rewriter_engines.errors import EngineError
from rewriter_engines.java import Java, find_java, server_user
from rewriter_engines.opensearch import CONFIG, JavaServer, cache_directory, configure
from rewriter_engines.process import ServerProcess

ARGUMENTS_DEADLINE_S = 60.0
EXPORTS = "org.elasticsearch.entitlement,org.elasticsearch.server,java.logging,java.net.http,java.naming,jdk.net"
NATIVE = "ALL-UNNAMED,org.elasticsearch.nativeaccess,org.elasticsearch.foreign,org.apache.lucene.core"
READS_ARGUMENTS = ["sh", "-c", 'exec "$@" <start-arguments', "sh"]
"""The server reads its start arguments from standard input, which its guard leaves empty."""


class ElasticsearchServer(JavaServer):
    """One Elasticsearch on 127.0.0.1, without security, with an empty data directory that is removed at its end.

    heap: the JVM's heap, in its own notation.
    java: a JDK, whose compiler is needed the first time; by default the one that `find_java` finds.
    port: where it listens; by default at one that the server picks.

    Raises EngineUnavailable where a JDK, Maven or libzstd are missing, EngineError where the server does not come up.
    """

    def __init__(self, *, heap: str = "1g", java: Java | None = None, port: int = 0) -> None:
        java = java or find_java(compiler=True)
        home = lay_out_elasticsearch(cache_directory(), java)
        run = Path(tempfile.mkdtemp(prefix="elasticsearch-"))
        try:
            config = configure(run, "elasticsearch.yml", CONFIG, port)
            _write_arguments(java, home, config)
            self._process = ServerProcess(
                [*READS_ARGUMENTS, *_command(java, home, run, heap)],
                name="elasticsearch",
                log=run / "server.log",
                cwd=run,
                user=server_user(),
                remove=run,
            )
        except BaseException:
            shutil.rmtree(run, ignore_errors=True)
            raise
        self._wait_for(run / "logs" / "http.ports")


def _write_arguments(java: Java, home: Path, config: Path) -> None:
    """Write the start arguments beside the config directory, as the server reads them."""
    command = [
        str(java.path), "-cp", f"{home}/lib/*:{home}/lib/start-arguments", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
        "-Dlog4j2.statusLoggerLevel=OFF", "StartArguments", str(home), str(config),
    ]  # fmt: skip
    try:
        run = subprocess.run(command, capture_output=True, check=False, timeout=ARGUMENTS_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise EngineError(f"Elasticsearch's start arguments were not made within {ARGUMENTS_DEADLINE_S:g} s") from None
    if run.returncode:
        raise EngineError(f"Elasticsearch's start arguments could not be made:\n{run.stderr.decode()[-3000:]}")
    (config.parent / "start-arguments").write_bytes(run.stdout)


def _command(java: Java, home: Path, run: Path, heap: str) -> list[str]:
    temporary = run / "tmp"
    bridge = next((home / "lib" / "entitlement-bridge").glob("*.jar"))
    return [
        "env",
        f"LIBFFI_TMPDIR={temporary}",
        str(java.path),
        f"-Xms{heap}",
        f"-Xmx{heap}",
        "-Xss1m",
        "-XX:-OmitStackTraceInFastThrow",
        "-Djava.awt.headless=true",
        "-Djava.locale.providers=CLDR",
        f"-Djava.io.tmpdir={temporary}",
        "-Dio.netty.noUnsafe=true",
        "-Dio.netty.noKeySetOptimization=true",
        "-Dio.netty.recycler.maxCapacityPerThread=0",
        "-Dlog4j.shutdownHookEnabled=false",
        "-Dlog4j2.disable.jmx=true",
        f"-Des.path.home={home}",
        f"-Des.path.conf={run}/config",
        "-Des.distribution.type=tar",
        "-Des.java.type=other",
        "-Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false",
        "-XX:+EnableDynamicAgentLoading",
        "-Djdk.attach.allowAttachSelf=true",
        f"--patch-module=java.base={bridge}",
        f"--add-exports=java.base/org.elasticsearch.entitlement.bridge={EXPORTS}",
        f"--enable-native-access={NATIVE}",
        "--add-modules=jdk.net,jdk.management.agent,jdk.incubator.vector,ALL-MODULE-PATH",
        "--module-path",
        f"{home}/lib",
        "-m",
        "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch",
    ]
