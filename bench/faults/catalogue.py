"""The faults: each by name, how it is made, and how it is healed, as a context manager around the load."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.faults.bad_store import GARBAGE, HALF_A_REPLY, answering
from bench.faults.leg_proxy import LegProxy
from bench.faults.load import AsyncLoad, Load
from bench.faults.resolver import Resolver
from bench.faults.scene import PREFIX, SUBJECTS, write_signals
from bench.faults.toxiproxy import Toxiproxy
from rewriter.demo.engines import Valkey, ValkeyCluster
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys

BOTH = ("sync", "async")


@dataclass(slots=True)
class Place:
    """What faults are made with: the servers of a trial, its folder, and the load; `after` ends with the trial."""

    valkey: Valkey
    proxy: Toxiproxy
    legs: LegProxy
    resolver: Resolver
    folder: Path
    cluster: ValkeyCluster | None
    load: Load
    after: ExitStack


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    on:       what it befalls.
    shells:   those that it can befall.
    settings: of `[signals]`, where the row is about them.
    """

    on: str
    name: str
    how: Callable[[Place], AbstractContextManager[None]]
    shells: tuple[str, ...] = BOTH
    settings: tuple[tuple[str, str], ...] = ()
    in_cluster: bool = False


@contextmanager
def hung(place: Place) -> Iterator[None]:
    """The process is stopped; the kernel still accepts."""
    place.valkey.pause()
    try:
        yield
    finally:
        place.valkey.resume()


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


def rewritten(url: str) -> None:
    """Write everybody's signals again."""
    store = RedisStore(url)
    write_signals(store)
    store.close()


@contextmanager
def rejected(place: Place) -> Iterator[None]:
    """Leg 2 is answered with 400, which quarantines the template until there is another version of it."""
    with place.legs.spoiling("400"):
        yield
    template = place.folder / "templates" / "own" / "boosts.json.j2"
    template.write_text(template.read_text() + "{# another version #}\n")


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


@contextmanager
def switched(place: Place, texts: tuple[str | None, ...], period_s: float) -> Iterator[None]:
    """The kill-switch file holds one text after the other; None takes it away."""
    file = place.folder / "switches"
    turns = iter(range(sys.maxsize))

    def turn() -> None:
        text = texts[next(turns) % len(texts)]
        if text is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(text)

    try:
        with meanwhile(turn, period_s):
            yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def clock_jumps(_: Place) -> Iterator[None]:
    """The wall clock jumps up to ten years to and fro; the monotonic one does not, by its definition."""
    real, offset_s, draw = time.time, [0.0], random.Random(7)

    def jump() -> None:
        offset_s[0] = draw.choice((-3e8, -3600.0, -1.0, 0.0, 1.0, 3600.0, 3e8))

    time.time = lambda: real() + offset_s[0]
    try:
        with meanwhile(jump, 0.02):
            yield
    finally:
        time.time = real


@contextmanager
def cancelled(place: Place) -> Iterator[None]:
    """A third of the tasks are cancelled within 20 ms."""
    place.load.cancelled_share = 0.33
    try:
        yield
    finally:
        place.load.cancelled_share = 0.0


@contextmanager
def loop_blocked(place: Place) -> Iterator[None]:
    """Somebody's code holds the event loop for 60 ms, five times a second."""
    assert isinstance(place.load, AsyncLoad)
    loop = place.load.runner.get_loop()

    def block() -> None:
        loop.call_soon_threadsafe(time.sleep, 0.06)

    with meanwhile(block, 0.2):
        yield


@contextmanager
def gil_hogged(_: Place) -> Iterator[None]:
    """A thread computes without end."""

    def compute() -> None:
        sum(n * n for n in range(20_000))

    with meanwhile(compute, 0.0):
        yield


def spoiled(mode: str) -> Callable[[Place], AbstractContextManager[None]]:
    """The legs' answers are spoiled by the proxy that only they go through."""
    return lambda place: place.legs.spoiling(mode)


def toxic(kind: str, **attributes: int) -> Callable[[Place], AbstractContextManager[None]]:
    """The store's answers are poisoned by Toxiproxy."""
    return lambda place: place.proxy.toxic(kind, **attributes)


STORE = "the store"
LEGS = "the optional legs"
PROCESS = "the process"
STALE: tuple[tuple[str, Any], ...] = (("on_late", "stale"),)

FAULTS = (
    Fault("nothing", "no fault", lambda _: nullcontext()),
    Fault(STORE, "refuses connections", lambda place: place.proxy.refusing()),
    Fault(STORE, "stopped (SIGSTOP)", hung),
    Fault(STORE, "pauses of 400 ms (CLIENT PAUSE)", paused),
    Fault(STORE, "pauses of 400 ms, on_late = stale", paused, settings=STALE),
    Fault(STORE, "writes paused", lambda place: commands(place, "CLIENT PAUSE 600000 WRITE", "CLIENT UNPAUSE")),
    Fault(STORE, "drips a byte every 20 ms", toxic("slicer", average_size=1, size_variation=0, delay=20_000)),
    Fault(STORE, "resets connections", toxic("reset_peer", timeout=0)),
    Fault(STORE, "a black hole", toxic("timeout", timeout=0)),
    Fault(STORE, "answers garbage", lambda place: instead(place, GARBAGE)),
    Fault(STORE, "answers half a reply", lambda place: instead(place, HALF_A_REPLY)),
    Fault(STORE, "answers half a reply and closes", lambda place: instead(place, HALF_A_REPLY, then_close=True)),
    Fault(STORE, "9 ms away", toxic("latency", latency=9)),
    Fault(STORE, "40 ms away", toxic("latency", latency=40)),
    Fault(STORE, "its name takes 3 s to resolve", lambda place: names(place, place.resolver.slow(3.0))),
    Fault(STORE, "its name does not resolve", lambda place: names(place, place.resolver.failing())),
    Fault(STORE, "takes no more connections", exhausted),
    Fault(
        STORE, "memory full",
        lambda place: commands(place, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ),
    Fault(STORE, "keys of another type", wrong_types),
    Fault(STORE, "a replica that is read-only", lambda place: commands(place, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")),
    Fault(STORE, "lost, a replica promoted", failover),
    Fault(STORE, "one of three cluster nodes lost", node_lost, in_cluster=True),
    Fault(LEGS, "400", rejected),
    Fault(LEGS, "429", spoiled("429")),
    Fault(LEGS, "502", spoiled("502")),
    Fault(LEGS, "503", spoiled("503")),
    Fault(LEGS, "never answered", spoiled("silent")),
    Fault(LEGS, "cut off in the middle", spoiled("truncated")),
    Fault(LEGS, "timed_out", spoiled("timed_out")),
    Fault(LEGS, "a failed shard", spoiled("partial shards")),
    Fault(LEGS, "200 ms late", spoiled("slow")),
    Fault(LEGS, "the same hit again and again", spoiled("duplicate ids")),
    Fault(LEGS, "JSON without hits", spoiled("no hits")),
    Fault(PROCESS, "switches flipped", lambda place: switched(place, ("personalization off", "exploration off", ""), 0.6)),
    Fault(
        PROCESS, "switch file missing, corrupt, half-written",
        lambda place: switched(place, ("rollout 1", None, "personalization of", "", "\x00\xff"), 0.05),
    ),
    Fault(PROCESS, "wall clock jumps", clock_jumps),
    Fault(PROCESS, "searches cancelled", cancelled, shells=("async",)),
    Fault(PROCESS, "event loop blocked", loop_blocked, shells=("async",)),
    Fault(PROCESS, "GIL hogged", gil_hogged),
)  # fmt: skip
