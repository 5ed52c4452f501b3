"""Where plans are kept, and how much of the store they may take: a store that holds events must never be full of them.

Three bounds make it so, none of which needs a script. A plan goes after `plan_ttl_s`. A subject has `plans_per_subject` keys for
plans and no more: a list's key is one of them by the hash of its search, and a later list may replace an earlier one. And a process
has at most `plans_max_bytes` of plans alive in the store: it adds up what it wrote within `plan_ttl_s`.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import NamedTuple

from rewriter.bounded import Bounded
from rewriter.settings import StoreSettings
from rewriter.signals.store import Keys
from rewriter.subject import Subject

MEMORY_BYTES = 16 * 2**20
"""Of the plans that a process keeps beside the store's, for next pages while the store is away: about 20,000 lists."""

KEY_BYTES = 128
"""What the server takes for a key with a time to live, beside the plan and the text of the key: 70 to 90 bytes on Valkey 9.1, and a
share of its tables, which double when they are full."""

STEPS = 30
"""Of the count of bytes written: after this part of `plan_ttl_s` a plan is no longer counted."""


class PlanKey(NamedTuple):
    """The key of a plan in a store, and the search whose plan it is."""

    store: str
    search: str


class PlanMemory:
    """The plans of one process. Called from many threads; time is an argument (monotonic seconds).

    refused: how many plans did not go to the store because of the bound.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._kept: Bounded[PlanKey, bytes] = Bounded(max_bytes=MEMORY_BYTES, max_age_s=settings.plan_ttl_s)
        self._step_s = settings.plan_ttl_s / STEPS
        self._written: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._lock = Lock()
        self.refused = 0

    def key(self, keys: Keys, subject: Subject, search: str) -> PlanKey | None:
        """Return the key of a subject's plan for a search; None for a subject without a name."""
        number = int(search[:8], 16) % self._settings.plans_per_subject
        store = keys.plan(subject, str(number))
        return PlanKey(store, search) if store else None

    def get(self, key: PlanKey, now_s: float) -> bytes | None:
        """Return the plan that this process kept, if any."""
        return self._kept.get(key, now_s)

    def put(self, key: PlanKey, plan: bytes, now_s: float) -> None:
        """Keep a plan in this process."""
        self._kept.put(key, plan, len(plan) + KEY_BYTES, now_s)

    def clear(self) -> None:
        """Drop the plans that this process kept."""
        self._kept.clear()

    def may_store(self, key: PlanKey, plan: bytes, now_s: float) -> bool:
        """Count a plan that is about to be written to the store; return False where there is no room for it."""
        size = len(plan) + len(key.store) + KEY_BYTES
        step = int(now_s // self._step_s)
        with self._lock:
            while self._written and self._written[0][0] < step - STEPS:
                self._bytes -= self._written.popleft()[1]
            if self._bytes + size > self._settings.plans_max_bytes:
                self.refused += 1
                return False
            self._bytes += size
            if self._written and self._written[-1][0] == step:
                size += self._written.pop()[1]
            self._written.append((step, size))
            return True
