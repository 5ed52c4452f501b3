"""Faults of the store and of the pipeline that fills it, each a context manager that causes and removes one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bench.faults.bad_store import answering
from bench.faults.rig import Rig, cluster_url, meanwhile, rewritten, wait_for_cluster
from bench.faults.scene import PREFIX, SUBJECTS
from rewriter.signals.store import Keys
from rewriter_engines import Valkey

HEARTBEAT = f"{PREFIX}:heartbeat"


@contextmanager
def hung(server: Valkey | None) -> Iterator[None]:
    """Stop the process with SIGSTOP; the kernel still accepts connections."""
    assert server is not None
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def paused(rig: Rig) -> Iterator[None]:
    """Let the store answer all waiting commands, then pause for 400 ms, again and again: every answer comes late."""
    with rig.valkey.client() as client:
        with meanwhile(lambda: client.execute_command("CLIENT", "PAUSE", 400, "ALL"), 0.0):
            yield
        client.ping()


@contextmanager
def commands(rig: Rig, make: str, heal: str) -> Iterator[None]:
    """Send two commands to the store itself, over one connection."""
    with rig.valkey.client() as client:
        client.execute_command(*make.split())
        try:
            yield
        finally:
            client.execute_command(*heal.split())


@contextmanager
def exhausted(rig: Rig) -> Iterator[None]:
    """Make the store close its connections and accept no more."""
    with commands(rig, "CONFIG SET maxclients 1", "CONFIG SET maxclients 10000"):
        rig.proxy.drop_connections()
        yield


@contextmanager
def instead(rig: Rig, reply: bytes, *, then_close: bool = False) -> Iterator[None]:
    """Run another server at the store's address."""
    with answering(reply, then_close=then_close) as upstream, rig.proxy.leading_to(upstream):
        yield


@contextmanager
def names(rig: Rig, how: AbstractContextManager[None]) -> Iterator[None]:
    """Close all connections, so that each new one looks the store's name up."""
    with how:
        rig.proxy.drop_connections()
        yield


@contextmanager
def wrong_types(rig: Rig) -> Iterator[None]:
    """Write strings under the keys of sorted sets."""
    keys = Keys(PREFIX)
    with rig.valkey.client() as client:
        for number in range(SUBJECTS):
            for base in (keys.profile(f"user-{number}"), keys.session(f"session-{number}")):
                client.set(f"{base}:z", "no sorted set")
        try:
            yield
        finally:
            rewritten(rig.valkey.url)


@contextmanager
def failover(rig: Rig) -> Iterator[None]:
    """Lose the store, promote a replica, and redirect the address to it."""
    replica = rig.after.enter_context(Valkey())
    with replica.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", rig.valkey.port)
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.02)
        rig.valkey.kill()
        rig.after.callback(back_home, rig)
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")
    rig.proxy.lead_to(f"127.0.0.1:{replica.port}")


def back_home(rig: Rig) -> None:
    """Restore the store of the other trials."""
    rig.valkey.start()
    rewritten(rig.valkey.url)
    rig.proxy.lead_to(f"127.0.0.1:{rig.valkey.port}")


@contextmanager
def node_lost(rig: Rig) -> Iterator[None]:
    """Kill one of three nodes, and start it again empty."""
    assert rig.cluster is not None
    rig.cluster.nodes[1].kill()
    try:
        yield
    finally:
        rig.cluster.nodes[1].start()
        wait_for_cluster(rig.cluster)
        rewritten(cluster_url(rig.cluster))


def toxic(kind: str, **attributes: int) -> Callable[[Rig], AbstractContextManager[None]]:
    """Spoil the store's answers with Toxiproxy."""
    return lambda rig: rig.proxy.toxic(kind, **attributes)


def beat(client: Any, now_s: float) -> None:
    """Write one heartbeat without lag, as a worker does."""
    client.set(HEARTBEAT, json.dumps({"at": now_s, "lag": 0.0}))


@contextmanager
def beating(rig: Rig, now_s: Callable[[], float]) -> Iterator[None]:
    """Write a heartbeat without lag ten times per second."""
    with rig.valkey.client() as client:
        try:
            with meanwhile(lambda: beat(client, now_s()), 0.1):
                yield
        finally:
            client.delete(HEARTBEAT)


@contextmanager
def silent(rig: Rig) -> Iterator[None]:
    """Stop the heartbeat of a pipeline without lag; on exit it continues."""
    with beating(rig, time.time):
        until_s = time.monotonic() + 5.0
        while rig.load.status().lag["seconds"] is None and time.monotonic() < until_s:
            rig.load.idle()
    with rig.valkey.client() as client:
        beat(client, time.time())
    yield
    rig.after.enter_context(beating(rig, time.time))
