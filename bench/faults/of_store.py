"""What befalls the store, and the pipeline that fills it: each made on entry, and healed on exit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bench.faults.bad_store import answering
from bench.faults.place import Place, cluster_url, meanwhile, rewritten, wait_for_cluster
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
def paused(place: Place) -> Iterator[None]:
    """The store answers what has piled up, then pauses for 400 ms, again and again: all answers come, and come late."""
    with place.valkey.client() as client:
        with meanwhile(lambda: client.execute_command("CLIENT", "PAUSE", 400, "ALL"), 0.0):
            yield
        client.ping()


@contextmanager
def commands(place: Place, make: str, heal: str) -> Iterator[None]:
    """Two command lines, said to the store itself over a connection that stays."""
    with place.valkey.client() as client:
        client.execute_command(*make.split())
        try:
            yield
        finally:
            client.execute_command(*heal.split())


@contextmanager
def exhausted(place: Place) -> Iterator[None]:
    """The store takes no connection more, and closes the ones it has."""
    with commands(place, "CONFIG SET maxclients 1", "CONFIG SET maxclients 10000"):
        place.proxy.drop_connections()
        yield


@contextmanager
def instead(place: Place, reply: bytes, *, then_close: bool = False) -> Iterator[None]:
    """Something else answers at the store's address."""
    with answering(reply, then_close=then_close) as upstream, place.proxy.leading_to(upstream):
        yield


@contextmanager
def names(place: Place, how: AbstractContextManager[None]) -> Iterator[None]:
    """Every connection must be made anew, and so its name looked up."""
    with how:
        place.proxy.drop_connections()
        yield


@contextmanager
def wrong_types(place: Place) -> Iterator[None]:
    """What should be a sorted set is a string."""
    keys = Keys(PREFIX)
    with place.valkey.client() as client:
        for number in range(SUBJECTS):
            for base in (keys.profile(f"user-{number}"), keys.session(f"session-{number}")):
                client.set(f"{base}:z", "no sorted set")
        try:
            yield
        finally:
            rewritten(place.valkey.url)


@contextmanager
def failover(place: Place) -> Iterator[None]:
    """The store is lost; a replica is promoted, and the address leads to it."""
    replica = place.after.enter_context(Valkey())
    with replica.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", place.valkey.port)
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.02)
        place.valkey.kill()
        place.after.callback(back_home, place)
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")
    place.proxy.lead_to(f"127.0.0.1:{replica.port}")


def back_home(place: Place) -> None:
    """Make the store of the other trials what it was."""
    place.valkey.start()
    rewritten(place.valkey.url)
    place.proxy.lead_to(f"127.0.0.1:{place.valkey.port}")


@contextmanager
def node_lost(place: Place) -> Iterator[None]:
    """One of three nodes is killed, and comes back empty."""
    assert place.cluster is not None
    place.cluster.nodes[1].kill()
    try:
        yield
    finally:
        place.cluster.nodes[1].start()
        wait_for_cluster(place.cluster)
        rewritten(cluster_url(place.cluster))


def toxic(kind: str, **attributes: int) -> Callable[[Place], AbstractContextManager[None]]:
    """The store's answers are poisoned by Toxiproxy."""
    return lambda place: place.proxy.toxic(kind, **attributes)


def beat(client: Any, now_s: float) -> None:
    """Say once, as a worker does, that the pipeline is in time."""
    client.set(HEARTBEAT, json.dumps({"at": now_s, "lag": 0.0}))


@contextmanager
def beating(place: Place, now_s: Callable[[], float]) -> Iterator[None]:
    """A pipeline says ten times a second that it is in time."""
    with place.valkey.client() as client:
        try:
            with meanwhile(lambda: beat(client, now_s()), 0.1):
                yield
        finally:
            client.delete(HEARTBEAT)


@contextmanager
def silent(place: Place) -> Iterator[None]:
    """A pipeline was in time, and is heard of no more; then it beats again."""
    with beating(place, time.time):
        until_s = time.monotonic() + 5.0
        while place.load.status().lag["seconds"] is None and time.monotonic() < until_s:
            place.load.idle()
    with place.valkey.client() as client:
        beat(client, time.time())
    yield
    place.after.enter_context(beating(place, time.time))
