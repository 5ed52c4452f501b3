"""The run of the catalogue: one trial for each fault and shell, each with its own rewriter, Toxiproxy and folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from opensearchpy import OpenSearch

from bench.faults.catalogue import FAULTS, Fault
from bench.faults.engine import EngineName
from bench.faults.leg_proxy import LegProxy
from bench.faults.load import AsyncLoad, SyncLoad
from bench.faults.resolver import SEARCH, STORE, Resolver
from bench.faults.rig import Rig, cluster_url, rewritten
from bench.faults.scene import Judge, settings, shop
from bench.faults.toxiproxy import Toxiproxy
from bench.faults.trial import WINDOW, Row, trial
from rewriter.settings import BudgetSettings
from rewriter_engines import Valkey, ValkeyCluster

SHELLS = {"sync": SyncLoad, "async": AsyncLoad}
WARM_UP = 4_000
AT_ONCE = 1e4
PATIENT = BudgetSettings(signals_ms=1_000, cutoff_ms=1_000)


def rows(
    opensearch_url: str,
    *,
    searches: int,
    rate: float,
    window: int = WINDOW,
    warm_up: int = WARM_UP,
    open_s: float = 5.0,
    faults: Sequence[Fault] = FAULTS,
    shells: Sequence[str] = tuple(SHELLS),
    mode: str = "parallel",
    engine: EngineName = "opensearch",
    budget: BudgetSettings | None = None,
    tries: int = 1,
    awaits_recovery: bool = True,
) -> Iterator[Row]:
    """Yield the result of each trial in a mode. Raises EngineUnavailable.

    open_s: the time that a breaker first stays open. engine: the kind of the server at `opensearch_url`.
    budget: other limits than the default, where answers are judged and not times.
    tries:  how often a trial is made that breaks a promise about times and no other, since a stall of the machine breaks it too.
    awaits_recovery: whether a trial goes on until the fault is overcome, where its time is judged.
    """
    with ExitStack() as stack:
        client = stack.enter_context(OpenSearch(opensearch_url, timeout=10))
        index = f"faults-{uuid4().hex[:8]}"
        stack.enter_context(shop(client, index))
        judge = Judge(client, index)
        resolver = Resolver()
        stack.enter_context(resolver.installed())
        valkey = stack.enter_context(Valkey())
        rewritten(valkey.url)
        cluster = None
        if any(fault.in_cluster for fault in faults):
            cluster = stack.enter_context(ValkeyCluster())
            rewritten(cluster_url(cluster))
        profiles = None
        if any(fault.profiles_apart for fault in faults):
            profiles = stack.enter_context(Valkey())
            rewritten(profiles.url)
        proxy = stack.enter_context(Toxiproxy(f"127.0.0.1:{valkey.port}"))
        legs = stack.enter_context(LegProxy(opensearch_url.removeprefix("http://").rstrip("/")))
        by_name = opensearch_url.replace("127.0.0.1", SEARCH).replace("localhost", SEARCH)
        # A server compiles what searches run through while they run: its first five thousand went from 10 ms to 3, ours and the
        # caller's alike, and would pause a policy for their own sake.
        with TemporaryDirectory(prefix="faults-") as folder:
            own = settings(Path(folder), index, open_s=open_s, mode=mode).model_copy(update={"budget": PATIENT})
            with SyncLoad(by_name, legs.url, (valkey.url, None), own, index, judge, AT_ONCE, engine) as warming:
                warming.batch(warm_up)

        def made(fault: Fault, shell: str) -> Row:
            store_url = cluster_url(cluster) if cluster and fault.in_cluster else f"redis://{STORE}:{proxy.port}"
            store_urls = store_url, profiles.url if profiles and fault.profiles_apart else None
            with TemporaryDirectory(prefix="faults-") as folder, ExitStack() as after:
                own = settings(Path(folder), index, open_s=open_s, mode=mode, **dict(fault.settings))
                own = own if budget is None else own.model_copy(update={"budget": budget})
                load = SHELLS[shell](
                    legs.url if fault.whole else by_name, legs.url, store_urls, own, index, judge, rate, engine
                )
                rig = Rig(valkey, proxy, legs, resolver, Path(folder), cluster, profiles, load, after)
                return trial(
                    fault.name,
                    shell,
                    load,
                    fault.how(rig),
                    after,
                    searches,
                    window=window,
                    is_well=not fault.whole,
                    awaits_recovery=awaits_recovery,
                )

        for fault in faults:
            for shell in fault.shells:
                if shell in shells and mode in fault.modes:
                    yield tried(partial(made, fault, shell), tries)


def tried(made: Callable[[], Row], tries: int) -> Row:
    """Return the first row that breaks no promise, or one of another kind than times; the last of `tries` if all break those."""
    row, earlier = made(), []
    for _ in range(tries - 1):
        if not row.broken or row.broken != row.timed:
            break
        earlier.append("; ".join(row.timed))
        row = made()
    return replace(row, earlier=tuple(earlier))
