"""The rig of a trial: its servers, its folder and its load, and helpers of several faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.faults.leg_proxy import LegProxy
from bench.faults.load import Load
from bench.faults.resolver import Resolver
from bench.faults.scene import write_signals
from bench.faults.toxiproxy import Toxiproxy
from rewriter.signals.redis_store import RedisStore
from rewriter_engines import Valkey, ValkeyCluster


@dataclass(slots=True)
class Rig:
    """The servers, folder and load of a trial; `after` ends with the trial.

    valkey: the store; the session store if profiles have a store of their own.
    """

    valkey: Valkey
    proxy: Toxiproxy
    legs: LegProxy
    resolver: Resolver
    folder: Path
    cluster: ValkeyCluster | None
    profiles: Valkey | None
    load: Load
    after: ExitStack


@contextmanager
def meanwhile(work: Callable[[], None], period_s: float) -> Iterator[None]:
    """Repeat an action during the load."""
    stop = threading.Event()

    def again() -> None:
        while not stop.wait(period_s):
            work()

    thread = threading.Thread(target=again, name="fault")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def rewritten(url: str) -> None:
    """Write the signals of all subjects again."""
    store = RedisStore(url)
    write_signals(store)
    store.close()


def cluster_url(cluster: ValkeyCluster) -> str:
    """Return the URL of a cluster with all its nodes."""
    return "redis+cluster://" + ",".join(url.removeprefix("redis://") for url in cluster.urls)


def wait_for_cluster(cluster: ValkeyCluster) -> None:
    """Wait until every node reports a complete cluster. Raises TimeoutError after 20 s."""
    late_at_s = time.monotonic() + 20.0
    while time.monotonic() < late_at_s:
        states = []
        for node in cluster.nodes:
            with node.client() as client, suppress(OSError):
                states.append(client.cluster("info")["cluster_state"])
        if states == ["ok"] * len(cluster.nodes):
            return
        time.sleep(0.05)
    raise TimeoutError("the cluster did not become whole again")
