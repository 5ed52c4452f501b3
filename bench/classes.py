"""Counters by class on real households: bytes of the store for each user, and the time of a search's read, on a real Valkey.

    python -m bench.classes

Households of Complete Journey with all purchases of a year, their items, three attributes within the class, and the neighbours of
their items. A read asks for the classes of one product type of the household's latest basket.
"""

from __future__ import annotations

from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ndcg import BOUGHT_AGAIN, CLASS
from bench.questions import PastPurchases, drawn, neighbours_of
from bench.reads import timed
from rewriter.demo.corpus import load
from rewriter.settings import Settings
from rewriter.signals.affinities import class_combinations, profile_half_lives, signal_fields
from rewriter.signals.near_table import name_table, write_slots
from rewriter.signals.neighbours import Table as NearTable
from rewriter.signals.neighbours import near_class, slots_for
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys, SignalsQuery
from rewriter_engines import Valkey

HOUSEHOLDS = 100
ROUNDS = 3
WEEKS = range(46, 47)


def main() -> None:
    """Print both tables."""
    settings = Settings.model_validate({"policies": {"shop": {"index": "x", **BOUGHT_AGAIN, "discovery": 1}}})
    policy, keys, corpus = settings.policies["shop"], Keys(), load(popularity_until_week=WEEKS.start - 1)
    fields = signal_fields(policy)
    half_lives = profile_half_lives([policy], settings.signals)
    combinations = class_combinations(fields, CLASS)
    questions = list({one.household_id: one for one in drawn(corpus, WEEKS, 4 * HOUSEHOLDS, 1)}.values())[:HOUSEHOLDS]
    past = PastPurchases(corpus, WEEKS, {one.household_id for one in questions}, fields, half_lives, combinations)
    every = sorted({product.product_type for product in corpus.products.values() if product.product_type})
    with Valkey() as server:
        store = RedisStore(server.url)
        used: dict[str, list[int]] = {}

        def note(name: str, key: str) -> None:
            (size,) = store.run([("MEMORY", "USAGE", key, "SAMPLES", 0)])
            used.setdefault(name, []).append(int(size or 0))

        for one in questions:
            base, general = keys.profile(one.household_id), past.profile(one, settings.signals.kept_counters)
            own = past.classes(one, every)
            near = past.classes(one, [*every, *map(near_class, every)])
            for name, classes in (("counters by class", own), ("  … with neighbours", near)):
                store.write(base, general, None, classes)
                note(name, f"{base}:c")
            note("heaviest counters of all classes", f"{base}:z")
        found = neighbours_of(corpus, fields, WEEKS.start)
        table = NearTable("bench", slots_for(len(found)), len(found))
        before = int(store.run([("INFO", "memory")])[0]["used_memory"])
        write_slots(store.run, keys, table, found.items())
        name_table(store.run, keys, table)
        per_item = (int(store.run([("INFO", "memory")])[0]["used_memory"]) - before) / len(found)
        bytes_table = Table("KiB a user", "mean", "median", "p95", title=f"{len(questions)} households in the store")
        for name, sizes in used.items():
            p95 = sorted(sizes)[int(0.95 * len(sizes))]
            bytes_table.add_row(name, *(f"{one / 1024:.1f}" for one in (mean(sizes), median(sizes), p95)))
        reads = Table("µs of a read", "p50", "p99", title="One pipelined read of a profile")
        for name, limit, classes_of in _rows(settings):
            times = []
            for one in questions:
                query = SignalsQuery(
                    None, keys.profile(one.household_id), None, tuple(fields), limit, classes=classes_of(one)
                )
                times += timed(lambda query=query: store.read(query), ROUNDS)  # type: ignore[misc]
            times.sort()
            reads.add_row(name, f"{median(times):,.0f}", f"{times[int(0.99 * len(times))]:,.0f}")
        store.close()
    console = Console(width=100)
    console.print(bytes_table)
    console.print(f"Table of neighbours: {len(found):,} items, {per_item:.0f} bytes an item.")
    console.print(reads)


def _rows(settings: Settings) -> list[tuple[str, int, Any]]:
    most = settings.signals.max_counters
    return [
        (f"the {most} heaviest counters", most, lambda _: ()),
        (f"all {2 * most} that are kept: a first search", 2 * most, lambda _: ()),
        (f"the {most} heaviest, and the query's class", most, lambda one: (one.words,)),
        ("  … with its neighbours", most, lambda one: (one.words, near_class(one.words))),
    ]


if __name__ == "__main__":
    main()
