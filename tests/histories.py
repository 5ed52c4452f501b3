"""Histories for the tests of history files: settings with a brand and the item, no index, no store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rewriter.client.registry import around
from rewriter.settings import Settings
from rewriter.signals.backfill.history import History
from rewriter.signals.counters import Counters
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.objects import Objects
from rewriter.subject import pseudonym

DAY_S = 86_400.0
NOW_S = 1_780_000_000.0  # 2026-05-28
T = "2026-05-01T10:00:00Z"
T_S = 1_777_629_600.0


class NoObjects(Objects):
    """The look-up in an index that has nothing."""

    def __init__(self) -> None:
        super().__init__(around(None, is_async=False), (), (), max_objects=1, age_s=1.0, clock_s=lambda: 0.0)


def plan(**signals: Any) -> CountingRules:
    policy = {"index": "products", "fields": {"brand": {}}}
    return CountingRules.of(Settings.model_validate({"signals": signals, "policies": {"shop": policy}}))


def added_up(
    *files: Path,
    until_s: float | None = None,
    of: CountingRules | None = None,
    forgotten: Mapping[str, float] | None = None,
) -> History:
    """A history that is added up, without streams behind it."""
    used = of or plan()
    history = History([str(file) for file in files], used, 4, until_s, forgotten or {}, now_s=NOW_S)
    history.add_up(NoObjects(), lambda *_: None)
    history.sums.add_live({})
    return history


def profiles(history: History) -> Mapping[str, Counters]:
    """The counters by pseudonym."""
    return {person: counters for person, _, counters, _ in history.sums.profiles()}


def of_users(history: History, users: Collection[str]) -> dict[str, dict[str, float] | None]:
    """The weights of users, by value written as `brand|nike`, without the strengths in items' last bits. No other user has any."""
    found = profiles(history)
    digests = {user: pseudonym("u", user, "") for user in users}
    assert set(found) <= set(digests.values())
    return {
        user: {"|".join(value): float(f"{weight:.7g}") for value, weight in found[digest].weights.items()}
        if digest in found
        else None
        for user, digest in digests.items()
    }


def left_out(history: History) -> dict[str, int]:
    """The reasons for which rows were left out; the row counts add up."""
    counts = history.row_counts
    assert counts.rows == counts.events + sum(counts.left_out.values())
    return {reason: count for reason, count in counts.left_out.items() if count}
