"""The part of `rewriter check` that reads how often people use items again, and tells what follows for each policy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from rewriter.cli.store_check import profile_store
from rewriter.errors import StoreError
from rewriter.settings import Settings
from rewriter.signals.affinities import Population, guard_of, profile_half_lives
from rewriter.signals.packed import PackedWeights
from rewriter.signals.population_builder import PopulationBuilder
from rewriter.signals.repeats import described, in_words, largest_classes
from rewriter.signals.store import Keys

CLASSES = 10


def check_repeats(settings: Settings) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what is known of each policy's items, and a note on each policy that boosts items.

    A store that does not answer was noted before; then, as without a population, nothing is known.
    """
    population, classes, _ = stored_population(settings)
    found = {
        name: described(guard_of(population, policy), classes)
        for name, policy in settings.policies.items()
        if policy.item_field
    }
    notes = []
    for name, known in found.items():
        policy = settings.policies[name]
        notes.append(f"policy {name}: {in_words(known, policy.item_scale, policy.item_use)}{_remedy(known)}")
    return found, notes


def _remedy(known: Mapping[str, Any]) -> str:
    return "; run `rewriter backfill`, or wait for events" if known["share"] is None else ""


def stored_population(settings: Settings) -> tuple[Population, tuple[str, ...], str]:
    """Return the store's population, its largest classes, and why there is none, or "".

    After `rewriter backfill` nobody has published one until a process searches or ingests; it is then added up here.
    """
    nobody, none = Population({}, {}), tuple[str, ...]()
    store = profile_store(settings)
    if isinstance(store, str):
        return nobody, none, store
    try:
        keys = Keys(settings.store.prefix, settings.store.key_salt.get_secret_value())
        half_lives = profile_half_lives(settings.policies.values(), settings.signals)
        maker = PopulationBuilder(
            store, keys, half_lives, role="search", token="", max_counters=1, ttl_s=1.0, now_s=time.time, wait=lambda _: False
        )  # fmt: skip
        packed = maker.current(maker.reader.look().population)
        if packed is None:
            return nobody, none, "the store has no counters yet"
        weights = PackedWeights(packed.weights)
        population = Population(weights, packed.totals, packed.floor, packed.left_out)
        return population, largest_classes(packed.weights, CLASSES), ""
    except (RedisError, StoreError, OSError, ValueError):
        return nobody, none, "the store does not answer"
    finally:
        store.close()
