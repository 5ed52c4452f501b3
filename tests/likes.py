"""Ann, who likes one product: her subject, her search, a store that knows it, and settings with time enough for a busy machine."""

from __future__ import annotations

import threading
from typing import Any

from rewriter import Settings, Subject
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import FakeStore

ANN = Subject("ann", "s1")
SEARCH: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}
SETTINGS = Settings.model_validate(
    {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
        "policies": {"shop": {"index": "products*", "item_repeat_share": 1.0}},
    }
)


def store(*users: str) -> FakeStore:
    """A store in which each user likes one product, by the number at the end of the name; "ann" likes p7."""
    found = FakeStore()
    for user in ("ann", *users):
        item = f"p{user[3:] or 7}" if user.startswith("ann") else user
        found.write(Keys().profile(user), Counters({("item", item): 6.0}, {"item": 6.0}, 1.8e9), None)
    return found


def of_ours() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("rewriter-")}
