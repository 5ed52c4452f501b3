"""CPU of ingest for each event, of the worker and of the server, while a backlog is drained: by policies without and with classes.

    python -m bench.ingest_cpu [--events N]

Purchases of Complete Journey in the order of time, each with its product, against a Valkey of its own. CPU time, unlike
events a second, hardly depends on what else the machine does. The corpus is kept out of Python's garbage collections: one over its
millions of objects, which no worker holds, takes as long as a third of the work on 10,000 events.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ndcg import BOUGHT_AGAIN
from bench.questions import neighbours_of
from rewriter.client.registry import around
from rewriter.demo.corpus import Corpus, load
from rewriter.settings import Settings
from rewriter.signals.affinities import signal_fields
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.near_table import name_table, write_slots
from rewriter.signals.neighbours import Table as NearTable
from rewriter.signals.neighbours import slots_for
from rewriter.signals.redis_store import RedisStore
from rewriter_engines import Valkey

WARM_UP = 5_000
"""Events before the measured ones: the scripts, the products, and some history."""
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "one attribute and items": {"fields": {"manufacturer": {}}},
    "classes: items and three attributes within": BOUGHT_AGAIN,
    "… and neighbours": {**BOUGHT_AGAIN, "discovery": 1},
}


class Catalogue:
    """Answers look-ups of products from memory."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def field_caps(self, *, index: str, **_: Any) -> Any:
        """Return the index alone: the worker looks up ids only."""
        return {"indices": [index], "fields": {"_id": {"_id": {"searchable": True, "aggregatable": True}}}}

    def search(self, *, body: Any, **_: Any) -> Any:
        """Return the documents with the ids of a look-up."""
        (query,) = body["query"]["bool"]["filter"]
        hits = []
        for one in query["ids"]["values"]:
            product = self._corpus.products[one]
            names = ("product_type", "package_size", "manufacturer", "brand")
            hits.append({"_id": one, "_source": {name: getattr(product, name) for name in names}})
        return {"hits": {"total": {"value": len(hits)}, "hits": hits}}


def events_of(corpus: Corpus, count: int) -> list[dict[str, Any]]:
    """Return the latest purchases as events, moved so that the latest is of now."""
    bought = sorted(corpus.purchases, key=lambda one: one.at_s)[-count:]
    behind_s = time.time() - bought[-1].at_s
    return [
        {
            "action_name": "purchase", "event_id": f"e{number}",
            "timestamp": datetime.fromtimestamp(one.at_s + behind_s, UTC).isoformat(timespec="milliseconds"),
            "user_id": one.household_id, "session_id": f"basket-{one.basket_id}",
            "event_attributes": {"object": {"object_id": one.product_id}},
        }
        for number, one in enumerate(bought)
    ]  # fmt: skip


def measured(corpus: Corpus, policy: Mapping[str, Any], events: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return µs of CPU for each event: of the worker, of the server; and the server's share that scripts take."""
    settings = Settings.model_validate({"policies": {"shop": {"index": "products", **policy}}})
    plan = CountingRules.of(settings)
    with Valkey() as server:
        store = RedisStore(server.url)
        objects = Objects(
            around(Catalogue(corpus), is_async=False), ["products"], plan.attributes, max_objects=200_000, age_s=3_600,
            clock_s=time.monotonic,
        )  # fmt: skip
        if "discovery" in policy:
            found = neighbours_of(corpus, signal_fields(settings.policies["shop"]), 46)
            table = NearTable("bench", slots_for(len(found)), len(found))
            write_slots(store.run, plan.keys, table, found.items())
            name_table(store.run, plan.keys, table)
        worker = Worker(store, store, objects, plan, clock_s=time.monotonic, now_s=time.time)
        _append(store, settings, events[:WARM_UP])
        _drain(worker)
        _append(store, settings, events[WARM_UP:])
        before, begun_s = _server(store), time.process_time()
        _drain(worker)
        took_s, after = time.process_time() - begun_s, _server(store)
        store.close()
    own, scripts = (after[at] - before[at] for at in (0, 1))
    return tuple(one / len(events[WARM_UP:]) * 1e6 for one in (took_s, own, scripts))  # type: ignore[return-value]


def _append(store: RedisStore, settings: Settings, events: list[dict[str, Any]]) -> None:
    keys, commands = StreamKeys(settings.store.prefix), []
    for one in events:
        raw = json.dumps(one).encode()
        found = parse(raw)
        assert isinstance(found, Event), found
        commands.append(append_command(keys, found, raw, settings.ingest.partitions))
    for start in range(0, len(commands), 1_000):
        store.run(commands[start : start + 1_000])


def _drain(worker: Worker) -> None:
    worker.due()
    while worker.step() or worker.backlog.entries:
        worker.due()
    assert not worker.trouble, worker.trouble


def _server(store: RedisStore) -> tuple[float, float]:
    """Return the server's seconds of CPU, and those of its scripts."""
    cpu, commands = store.run([("INFO", "cpu"), ("INFO", "commandstats")])
    used = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
    return used, sum(float(commands.get(f"cmdstat_{name}", {}).get("usec", 0)) for name in ("eval", "evalsha")) / 1e6


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench.ingest_cpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=30_000, help="measured events, after 5,000 that warm up")
    given = parser.parse_args(arguments)
    corpus = load(popularity_until_week=45)
    events = events_of(corpus, WARM_UP + given.events)
    gc.collect()
    gc.freeze()
    table = Table("µs of CPU an event", "worker", "server", "… scripts (wall clock)")
    for name, policy in POLICIES.items():
        table.add_row(name, *(f"{one:.0f}" for one in measured(corpus, policy, events)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
