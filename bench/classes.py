"""Counters by class on real households: bytes of the store for each user, and the time of a search's read, on a real Valkey.

    python -m bench.classes

Households of Complete Journey with all purchases of a year, their items, three attributes within the class, the neighbours of their
items; then an attribute of all classes together, the manufacturer. A read asks for the classes of one product type of the
household's latest basket; the first search for some words reads the items of all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ndcg import BOUGHT_AGAIN, CLASS
from bench.questions import PastPurchases, drawn, neighbours_of
from bench.reads import timed
from rewriter.demo.corpus import load
from rewriter.settings import WEEK_S, Settings
from rewriter.signals.affinities import class_combinations, profile_half_lives, signal_fields
from rewriter.signals.class_items import EveryClass
from rewriter.signals.counters import Observation, counted
from rewriter.signals.near_table import name_table, write_slots
from rewriter.signals.neighbours import Table as NearTable
from rewriter.signals.neighbours import near_class, slots_for
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys, SignalsQuery
from rewriter_engines import Valkey

MAKER = "manufacturer"
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

        def note(name: str, *keys: str) -> None:
            sizes = store.run([("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys])
            used.setdefault(name, []).append(sum(int(size or 0) for size in sizes))

        for one in questions:
            base, general = keys.profile(one.household_id), past.profile(one, settings.signals.kept_counters)
            own = past.classes(one, every)
            near = past.classes(one, [*every, *map(near_class, every)])
            for name, classes in (("", own), (" with neighbours", near)):
                store.write(base, general, None, classes)
                note(f"counters by class{name}", f"{base}:c")
                note(f"all of a profile{name}", *(f"{base}:{part}" for part in "zcm"))
            shared = counted(
                (Observation(((MAKER, corpus.products[bought].manufacturer),), 1.0, at_s) for bought, at_s in past.bought(one)),
                half_lives, one.at_s, settings.signals.kept_counters,
            )  # fmt: skip
            store.write(base, shared, None, own)
            note(f"all of a profile with each {MAKER} in all classes", *(f"{base}:{part}" for part in "zcm"))
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
        for name, classes_of, of_all in _rows(past.populations[WEEKS.start].class_names):
            times = []
            most = settings.signals.kept_counters if of_all else settings.signals.max_counters
            for one in questions:
                query = SignalsQuery(
                    None,
                    keys.profile(one.household_id),
                    None,
                    tuple(fields),
                    most,
                    classes=classes_of(one),
                    every=of_all,
                )
                times += timed(lambda query=query: store.read(query), ROUNDS)  # type: ignore[misc]
            times.sort()
            reads.add_row(name, f"{median(times):,.0f}", f"{times[int(0.99 * len(times))]:,.0f}")
        store.close()
    console = Console(width=100)
    console.print(bytes_table)
    console.print(f"Table of neighbours: {len(found):,} items, {per_item:.0f} bytes an item.")
    console.print(reads)


def _rows(names: Mapping[bytes, str]) -> list[tuple[str, Any, EveryClass | None]]:
    return [
        ("no class", lambda _: (), None),
        ("the items of all classes: a first search", lambda _: (), EveryClass(16 * WEEK_S, names)),
        ("the query's class", lambda one: (one.words,), None),
        ("  … with its neighbours", lambda one: (one.words, near_class(one.words)), None),
    ]


if __name__ == "__main__":
    main()
