"""Runs the catalogue: one trial for each fault and shell, each with a rewriter, a Toxiproxy and a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from opensearchpy import OpenSearch

from bench.faults.catalogue import FAULTS, Fault, Place, cluster_url, rewritten
from bench.faults.leg_proxy import LegProxy
from bench.faults.load import AsyncLoad, SyncLoad
from bench.faults.resolver import HOST, Resolver
from bench.faults.scene import Judge, settings, shop
from bench.faults.toxiproxy import Toxiproxy
from bench.faults.trial import Row, trial
from rewriter.demo.engines import Valkey, ValkeyCluster

SHELLS = {"sync": SyncLoad, "async": AsyncLoad}


def rows(
    opensearch_url: str,
    *,
    searches: int,
    rate: float,
    window: int = 100,
    open_s: float = 5.0,
    faults: Sequence[Fault] = FAULTS,
    shells: Sequence[str] = tuple(SHELLS),
) -> Iterator[Row]:
    """Yield what each trial found. `open_s` is how long the breaker first stays open. Raises EngineUnavailable."""
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
        proxy = stack.enter_context(Toxiproxy(f"127.0.0.1:{valkey.port}"))
        legs = stack.enter_context(LegProxy(opensearch_url.removeprefix("http://").rstrip("/")))
        for fault in faults:
            for shell in fault.shells:
                if shell not in shells:
                    continue
                with TemporaryDirectory(prefix="faults-") as folder, ExitStack() as after:
                    store_url = cluster_url(cluster) if cluster and fault.in_cluster else f"redis://{HOST}:{proxy.port}"
                    own = settings(Path(folder), index, open_s=open_s, **dict(fault.settings))
                    load = SHELLS[shell](opensearch_url, legs.url, store_url, own, index, judge, rate)
                    place = Place(valkey, proxy, legs, resolver, Path(folder), cluster, load, after)
                    yield trial(fault.name, shell, load, fault.how(place), searches, window=window)
