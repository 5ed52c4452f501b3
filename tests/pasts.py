"""Pasts for the tests of evaluation: events in memory, without files, an index or a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from rewriter import Settings
from rewriter.evaluate.counted_past import CountedPast
from rewriter.evaluate.past import Past
from rewriter.signals.backfill.history import History
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.counters import Counters
from rewriter.subject import pseudonym

POLICY = {
    "index": "shop",
    "class_field": "kind",
    "fields": {
        "brand": {"half_life_s": 40_000.0},
        "kind_size": {"of": ["kind", "size"]},
    },
}
EventRow = tuple[float, str, int, float, str | None]
"""Time, user, document's number, weight, session."""


def settings(**policy: Any) -> Settings:
    return Settings.model_validate({"policies": {"shop": POLICY | policy}})


def past_of(
    rows: Sequence[EventRow],
    documents: Sequence[Mapping[str, Any]],
    segments_of: Callable[[EventRow], Sequence[str]] = lambda _: (),
) -> Past:
    """A past of events, in any order. segments_of: the segments that an event names."""
    ordered = sorted(rows, key=lambda row: row[0])
    people: dict[str, int] = {}
    sessions: dict[str, int] = {}
    person = [people.setdefault(pseudonym("u", row[1], ""), len(people)) for row in ordered]
    named: dict[str, list[int]] = {}
    for at, row in enumerate(ordered):
        for name in segments_of(row):
            named.setdefault(name, []).append(at)
    session = [sessions.setdefault(row[4], len(sessions)) if row[4] else -1 for row in ordered]
    return Past(
        np.array([row[0] for row in ordered], np.float64), np.array([row[3] for row in ordered], np.float64),
        np.array(person, np.int64), np.array([row[2] for row in ordered], np.int64), np.array(session, np.int64),
        people, sessions, documents, ordered[-1][0] if ordered else 0.0, {}, (),
        cast("History", SimpleNamespace()), in_segment={name: np.array(at, np.int64) for name, at in named.items()},
    )  # fmt: skip


def counted_past(
    rows: Sequence[EventRow],
    documents: Sequence[Mapping[str, Any]],
    segments_of: Callable[[EventRow], Sequence[str]] = lambda _: (),
    **policy: Any,
) -> CountedPast:
    return CountedPast(past_of(rows, documents, segments_of), settings(**policy))


def weights_now(counters: Counters | ClassCounters, lives: Mapping[str, float], now_s: float) -> dict[str, float]:
    """Counters aged to a time, by value written as `brand|nike`."""
    return {
        "|".join(value): round(weight * 2.0 ** ((counters.landmark_s - now_s) / lives.get(value[0], lives[""])), 9)
        for value, weight in counters.weights.items()
    }
