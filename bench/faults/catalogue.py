"""The list of faults, each with its name and the context manager that causes and removes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from bench.faults.bad_store import GARBAGE, HALF_A_REPLY
from bench.faults.of_legs import rejected, spoiled
from bench.faults.of_process import cancelled, clock_jumps, gil_hogged, loop_blocked, switched
from bench.faults.of_store import (
    commands,
    exhausted,
    failover,
    hung,
    instead,
    names,
    node_lost,
    paused,
    silent,
    toxic,
    wrong_types,
)
from bench.faults.rig import Rig

BOTH = ("sync", "async")
MODES = ("parallel", "rewrite")


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    on:       the part that it affects.
    shells:   the shells that it can affect.
    settings: settings of `[signals]` for this row.
    profiles_apart: whether profiles have a store of their own.
    whole:    whether what befalls the optional legs befalls the caller's own searches too.
    modes:    the modes in which it is tried.
    """

    on: str
    name: str
    how: Callable[[Rig], AbstractContextManager[None]]
    shells: tuple[str, ...] = BOTH
    settings: tuple[tuple[str, Any], ...] = ()
    in_cluster: bool = False
    profiles_apart: bool = False
    whole: bool = False
    modes: tuple[str, ...] = MODES


STORE = "the store"
LEGS = "the optional legs"
SERVER = "the search engine"
PROCESS = "the process"
STALE: tuple[tuple[str, Any], ...] = (("on_late", "stale"),)
LAG_DISABLES: tuple[tuple[str, Any], ...] = (("on_lag", "disable"), ("max_lag_s", 1.0))

FAULTS = (
    Fault("nothing", "no fault", lambda _: nullcontext()),
    Fault(STORE, "refuses connections", lambda rig: rig.proxy.refusing()),
    Fault(STORE, "stopped (SIGSTOP)", lambda rig: hung(rig.valkey)),
    Fault(STORE, "stopped (SIGSTOP), on_late = stale", lambda rig: hung(rig.valkey), settings=STALE),
    Fault(STORE, "stopped (SIGSTOP), profiles apart", lambda rig: hung(rig.valkey), profiles_apart=True),
    Fault(STORE, "stopped (SIGSTOP), the profiles' own alone", lambda rig: hung(rig.profiles), profiles_apart=True),
    Fault(STORE, "refuses connections, profiles apart", lambda rig: rig.proxy.refusing(), profiles_apart=True),
    Fault(STORE, "pauses of 400 ms (CLIENT PAUSE)", paused),
    Fault(STORE, "pauses of 400 ms, on_late = stale", paused, settings=STALE),
    Fault(STORE, "writes paused", lambda rig: commands(rig, "CLIENT PAUSE 600000 WRITE", "CLIENT UNPAUSE")),
    Fault(STORE, "drips a byte every 20 ms", toxic("slicer", average_size=1, size_variation=0, delay=20_000)),
    Fault(STORE, "resets connections", toxic("reset_peer", timeout=0)),
    Fault(STORE, "a black hole", toxic("timeout", timeout=0)),
    Fault(STORE, "answers garbage", lambda rig: instead(rig, GARBAGE)),
    Fault(STORE, "answers half a reply", lambda rig: instead(rig, HALF_A_REPLY)),
    Fault(STORE, "answers half a reply and closes", lambda rig: instead(rig, HALF_A_REPLY, then_close=True)),
    Fault(STORE, "9 ms away", toxic("latency", latency=9)),
    Fault(STORE, "40 ms away", toxic("latency", latency=40)),
    Fault(STORE, "its name takes 3 s to resolve", lambda rig: names(rig, rig.resolver.slow(3.0))),
    Fault(STORE, "its name does not resolve", lambda rig: names(rig, rig.resolver.failing())),
    Fault(STORE, "takes no more connections", exhausted),
    Fault(
        STORE, "memory full",
        lambda rig: commands(rig, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ),
    Fault(STORE, "keys of another type", wrong_types),
    Fault(STORE, "a replica that is read-only", lambda rig: commands(rig, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")),
    Fault(STORE, "lost, a replica promoted", failover),
    Fault(STORE, "one of three cluster nodes lost", node_lost, in_cluster=True),
    Fault(STORE, "its pipeline is silent, on_lag = disable", silent, settings=LAG_DISABLES),
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
    Fault(SERVER, "40 ms late, for the caller's own searches too", spoiled("later"), whole=True, modes=("rewrite",)),
    Fault(SERVER, "200 ms late, for the caller's own searches too", spoiled("slow"), whole=True, modes=("rewrite",)),
    Fault(PROCESS, "switches flipped", lambda rig: switched(rig, ("personalization off", "exploration off", ""), 0.6)),
    Fault(
        PROCESS, "switch file missing, corrupt, half-written",
        lambda rig: switched(rig, ("rollout 1", None, "personalization of", "", "\x00\xff"), 0.05),
    ),
    Fault(PROCESS, "wall clock jumps", clock_jumps),
    Fault(PROCESS, "searches cancelled", cancelled, shells=("async",)),
    Fault(PROCESS, "event loop blocked", loop_blocked, shells=("async",)),
    Fault(PROCESS, "GIL hogged", gil_hogged),
)  # fmt: skip

OF_LEGS = tuple(fault for fault in FAULTS if fault.on in ("nothing", LEGS))
"""The faults that are made on Elasticsearch too."""
