"""What befalls the store, and the pipeline that fills it: each made on entry, and healed on exit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bench.faults.bad_store import answering
from bench.faults.rig import Rig, cluster_url, meanwhile, rewritten, wait_for_cluster
from bench.faults.scene import PREFIX, SUBJECTS
from rewriter.demo.engines import Valkey
from rewriter.signals.store import Keys

HEARTBEAT = f"{PREFIX}:heartbeat"


@contextmanager
def hung(server: Valkey | None) -> Iterator[None]:
    """The process is stopped; the kernel still accepts."""
    assert server is not None
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def paused(rig: Rig) -> Iterator[None]:
    """The store answers what has piled up, then pauses for 400 ms, again and again: all answers come, and come late."""
    with rig.valkey.client() as client:
        with meanwhile(lambda: client.execute_command("CLIENT", "PAUSE", 400, "ALL"), 0.0):
            yield
        client.ping()


@contextmanager
def commands(rig: Rig, make: str, heal: str) -> Iterator[None]:
    """Two command lines, said to the store itself over a connection that stays."""
    with rig.valkey.client() as client:
        client.execute_command(*make.split())
        try:
            yield
        finally:
            client.execute_command(*heal.split())


@contextmanager
def exhausted(rig: Rig) -> Iterator[None]:
    """The store takes no connection more, and closes the ones it has."""
    with commands(rig, "CONFIG SET maxclients 1", "CONFIG SET maxclients 10000"):
        rig.proxy.drop_connections()
        yield


@contextmanager
def instead(rig: Rig, reply: bytes, *, then_close: bool = False) -> Iterator[None]:
    """Something else answers at the store's address."""
    with answering(reply, then_close=then_close) as upstream, rig.proxy.leading_to(upstream):
        yield


@contextmanager
def names(rig: Rig, how: AbstractContextManager[None]) -> Iterator[None]:
    """Every connection must be made anew, and so its name looked up."""
    with how:
        rig.proxy.drop_connections()
        yield


@contextmanager
def wrong_types(rig: Rig) -> Iterator[None]:
    """What should be a sorted set is a string."""
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
    """The store is lost; a replica is promoted, and the address leads to it."""
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
    """Make the store of the other trials what it was."""
    rig.valkey.start()
    rewritten(rig.valkey.url)
    rig.proxy.lead_to(f"127.0.0.1:{rig.valkey.port}")


@contextmanager
def node_lost(rig: Rig) -> Iterator[None]:
    """One of three nodes is killed, and comes back empty."""
    assert rig.cluster is not None
    rig.cluster.nodes[1].kill()
    try:
        yield
    finally:
        rig.cluster.nodes[1].start()
        wait_for_cluster(rig.cluster)
        rewritten(cluster_url(rig.cluster))


def toxic(kind: str, **attributes: int) -> Callable[[Rig], AbstractContextManager[None]]:
    """The store's answers are poisoned by Toxiproxy."""
    return lambda rig: rig.proxy.toxic(kind, **attributes)


def beat(client: Any, now_s: float) -> None:
    """Say once, as a worker does, that the pipeline is in time."""
    client.set(HEARTBEAT, json.dumps({"at": now_s, "lag": 0.0}))


@contextmanager
def beating(rig: Rig, now_s: Callable[[], float]) -> Iterator[None]:
    """A pipeline says ten times a second that it is in time."""
    with rig.valkey.client() as client:
        try:
            with meanwhile(lambda: beat(client, now_s()), 0.1):
                yield
        finally:
            client.delete(HEARTBEAT)


@contextmanager
def silent(rig: Rig) -> Iterator[None]:
    """A pipeline was in time, and is heard of no more; then it beats again."""
    with beating(rig, time.time):
        until_s = time.monotonic() + 5.0
        while rig.load.status().lag["seconds"] is None and time.monotonic() < until_s:
            rig.load.idle()
    with rig.valkey.client() as client:
        beat(client, time.time())
    yield
    rig.after.enter_context(beating(rig, time.time))
