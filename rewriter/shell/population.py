"""The background round that reads the population and the segments from the store into the snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

from rewriter.core import Core
from rewriter.shell.sources import Call, Sources
from rewriter.signals.affinities import Population, united

MAX_POPULATION = 20_000


def read_population(core: Core, sources: Sources, now_s: Callable[[], float]) -> Generator[Call, Any, None]:
    """Read population and segments, and swap them into the snapshot."""
    prefix = core.settings.store.prefix
    partitions = int((yield from sources.asked("partitions", Call("text", (f"{prefix}:partitions", "profile")))) or 1)
    if "partitions" in sources.errors:
        return  # half a population would pass for the whole
    names = json.loads((yield from sources.asked("segments", Call("text", (f"{prefix}:segments", "profile")))) or "[]")
    bases = [core.keys.population(number) for number in range(partitions)]
    found = yield from sources.asked("population", Call("many", (bases, core.field_names, MAX_POPULATION)))
    if found is not None:
        whole = united(found, core.profile_half_lives, now_s())
        if whole is not None:
            core.swap(population=Population(whole.weights, whole.totals))
    segments = {}
    limit = core.settings.signals.max_counters
    for name in names[:1000]:
        parts = [core.keys.segment(name, number) for number in range(partitions)]
        found = yield from sources.asked("segments", Call("many", (parts, core.field_names, limit)))
        counters = united(found or (), core.profile_half_lives, now_s())
        if counters is not None:
            segments[name] = counters
    if "segments" not in sources.errors:
        core.swap(segments=segments)
