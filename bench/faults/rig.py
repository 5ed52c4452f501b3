"""Where faults are made: the servers of a trial, its folder and its load, and what more than one fault needs."""

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
from rewriter.demo.engines import Valkey, ValkeyCluster
from rewriter.signals.redis_store import RedisStore


@dataclass(slots=True)
class Rig:
    """What faults are made with: the servers of a trial, its folder, and the load; `after` ends with the trial.

    valkey: the store, or where profiles have one of their own, the session store.
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
    """Do something again and again beside the load."""
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
    """Write everybody's signals again."""
    store = RedisStore(url)
    write_signals(store)
    store.close()


def cluster_url(cluster: ValkeyCluster) -> str:
    """Return the URL of a cluster by way of all its nodes."""
    return "redis+cluster://" + ",".join(url.removeprefix("redis://") for url in cluster.urls)


def wait_for_cluster(cluster: ValkeyCluster) -> None:
    """Return once every node says that the cluster is whole; raises TimeoutError after 20 s."""
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
