"""A real Prometheus (Debian's) that scrapes a registry of this process, and what the dashboard's queries find in it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, start_http_server

from rewriter_engines import EngineUnavailable
from tests.needed import needed

DASHBOARD = json.loads((Path(__file__).parents[1] / "dashboards/rewriter.json").read_text("utf-8"))
EXPRESSIONS: list[str] = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def tool(name: str) -> str:
    """The path of a tool of Debian's package `prometheus`."""
    with needed():
        found = shutil.which(name)
        if found is None:
            raise EngineUnavailable(f"{name}: apt-get install prometheus")
    return found


@contextmanager
def prometheus_of(registry: CollectorRegistry, folder: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes the registry four times a second, and yield its address."""
    binary = tool("prometheus")
    ports = [_free(), _free()]
    server, thread = start_http_server(ports[0], addr="127.0.0.1", registry=registry)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 250ms}\n"
        f"scrape_configs: [{{job_name: rewriter, static_configs: [{{targets: ['127.0.0.1:{ports[0]}']}}]}}]\n"
    )
    command = [
        binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{ports[1]}", "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{ports[1]}"
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()
        thread.join(5)


def empty_of(url: str, expressions: Sequence[str], interval: str, patience_s: float = 15.0) -> list[str]:
    """Return those of the dashboard's queries that find nothing, or no number, within `patience_s` seconds."""
    until_s = time.monotonic() + patience_s
    left = list(expressions)
    while True:
        left = [
            one for one in left if not _found(url, one.replace("$__rate_interval", interval).replace("$policy", ".*"))
        ]
        if not left or time.monotonic() >= until_s:
            return left
        time.sleep(0.25)


def _found(url: str, query: str) -> list[Any]:
    with suppress(OSError), urlopen(f"{url}/api/v1/query?query={quote(query)}", timeout=5) as answer:
        return [one for one in json.load(answer)["data"]["result"] if one["value"][1] != "NaN"]
    return []


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
