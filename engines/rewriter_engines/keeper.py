"""The process that keeps a search engine and a Valkey running for `rewriter engines`, until it is ended or its time is over.

Usage: python -m rewriter_engines.keeper FOLDER    (started by `kept.start`, with its order as JSON on standard input)

It holds a lock on FOLDER/lock as long as it lives, so that a later process with the same id is not mistaken for it. It holds the
pipes of both engines' guards, so its end, SIGKILL included, ends the engines.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from rewriter_engines.elasticsearch import ElasticsearchServer
from rewriter_engines.errors import EngineError, EngineUnavailable
from rewriter_engines.kept import LOCK, STATE, Kept, Order, Server
from rewriter_engines.opensearch import OpenSearchServer
from rewriter_engines.osmem import Osmem
from rewriter_engines.process import usual_port
from rewriter_engines.valkey import Valkey

FAILED, TAKEN = 1, 3
"""Exit codes: an engine did not come up; another keeper holds the folder."""
LONGEST_WAIT_S = 30.0
"""A machine that slept wakes up later than it went to sleep: the wall clock is looked at this often."""
HEAP = "512m"


def keep(folder: Path, order: Order) -> int:
    """Start the engines, write where they are, wait, and end them; return the exit code."""
    # Unlike an Event, whose lock the interrupted wait may hold, a SimpleQueue may be written to by a signal's handler.
    ended: SimpleQueue[None] = SimpleQueue()

    def end(_: int, __: FrameType | None) -> None:
        ended.put(None)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the command, not for what it started
    with (folder / LOCK).open("a+") as lock, ExitStack() as engines:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return TAKEN
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        state = folder / STATE
        state.unlink(missing_ok=True)
        engines.callback(state.unlink, missing_ok=True)
        try:
            kept = _started(engines, order)
        except EngineError as error:
            sys.stderr.write(f"{error}\n")
            return FAILED
        beside = state.with_suffix(".new")
        beside.write_text(json.dumps(asdict(kept)))
        beside.replace(state)
        while (left_s := kept.until_s - time.time()) > 0:
            with suppress(Empty):
                ended.get(timeout=min(left_s, LONGEST_WAIT_S))
                break
    return 0


def _started(engines: ExitStack, order: Order) -> Kept:
    valkey = engines.enter_context(Valkey(port=usual_port(order.store_port)))
    with valkey.client() as client:
        version = str(client.info("server").get("valkey_version", ""))
    store = Server("Valkey", version, valkey.url, valkey.pid)
    port = usual_port(order.search_port)
    why, name = "", ""
    search: ElasticsearchServer | OpenSearchServer | Osmem | None = None
    if order.engine == "elasticsearch":
        name, search = "Elasticsearch", ElasticsearchServer(heap=HEAP, port=port)
    elif order.engine in ("auto", "opensearch"):
        try:
            name, search = "OpenSearch", OpenSearchServer(heap=HEAP, port=port)
        except EngineUnavailable as error:
            if order.engine == "opensearch":
                raise
            why = str(error)
    if search is None:
        name, search = "osmem-server", Osmem(port=port)
    engines.callback(search.close)
    found = Server(name, _version_at(search.url), search.url, search.pid)
    return Kept(os.getpid(), time.time() + order.hours * 3_600, found, store, why)


def _version_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - always http
        info: dict[str, Any] = json.load(answer)
    return str(info["version"]["number"])


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), Order(**json.load(sys.stdin))))
