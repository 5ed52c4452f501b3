"""Plan memory: the keys of page plans, their copies in process memory, and the limit of their share of the store.

Plans must never fill a store that also holds events. Three limits ensure that, without a script. A plan expires after `plan_ttl_s`.
A subject has `plans_per_subject` keys: the hash of a search selects one, and a later list may replace an earlier one. A process has
at most `plans_max_bytes` of live plans in the store, counted as the bytes that it wrote within `plan_ttl_s`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from rewriter.bounded import Bounded
from rewriter.explore.plan import united
from rewriter.settings import StoreSettings
from rewriter.signals.store import Keys
from rewriter.subject import Subject

MEMORY_BYTES = 16 * 2**20
"""Limit of the plans in process memory, which serve later pages while the store is unavailable: about 18,000 lists."""

BYTES_OF_AN_ENTRY = 360
"""Memory of a plan in process memory besides its bytes and those of its name. Measured with tracemalloc."""

KEY_BYTES = 128
"""The server's overhead of a key with a time to live, besides plan and key: 70 to 90 bytes on Valkey 9.1, and a share of its
tables, which double when they are full."""

MAX_WAITING = 128
"""Limit of the plans that are not saved yet. Each holds its search's answer until it is made."""

MAX_EARLIER = 4
"""Limit of the pages of one list that are asked for at the same time, each of which records what the others have shown."""

STEPS = 30
"""Steps per `plan_ttl_s` in which written bytes are counted: a plan is dropped from the count at most one step late."""


class PlanKey(NamedTuple):
    """A plan's key in the store, and its list's search key."""

    store: str
    search: str

    @property
    def name(self) -> bytes:
        """Both as one object, which takes a third of the memory."""
        return f"{self.store}\x1f{self.search}".encode("utf-8", "surrogatepass")


class _Stored(bytes):
    """A plan that the store has too."""

    __slots__ = ()


class WaitingPlan:
    """A plan that is made when it is first needed. From any thread; two may make it, which gives the same.

    base:    the plan that it continues; None if the list begins anew.
    earlier: a plan of the same list that still waits and is not its base: another page, asked for at the same time.
    """

    __slots__ = ("_earlier", "_make", "_plan", "base", "depth", "forgotten_s", "in_store", "key")

    def __init__(
        self,
        key: PlanKey,
        make: Callable[[], bytes],
        in_store: bool,
        forgotten_s: float,
        base: bytes | None = None,
        earlier: WaitingPlan | None = None,
    ) -> None:
        self.key = key
        self.base = base
        self._earlier = earlier
        self.depth: int = 0 if earlier is None else earlier.depth + 1
        self.forgotten_s = forgotten_s
        self.in_store = in_store
        self._make: Callable[[], bytes] | None = make
        self._plan: bytes | None = None

    def made(self) -> bytes | None:
        """Return the plan; None if it cannot be made, for hits of an odd form: the next page is the baseline then."""
        if (make := self._make) is not None:
            earlier = self._earlier
            with suppress(Exception):
                made = make()
                self._plan = united(made, earlier.made() or b"") if earlier else made
            self._make = self._earlier = None  # and with them the answers that they hold
        return self._plan

    def replace(self, plan: bytes) -> None:
        """Take another plan instead of the one that was made."""
        self._plan = plan

    def precedes(self, base: bytes | None) -> bool:
        """Whether a plan that continues `base` lacks what this one has recorded of the same list."""
        return base is not None and self.depth < MAX_EARLIER and (self._make is not None or self._plan != base)


class PlanMemory:
    """The plans of one process. Methods are called from many threads; time is an argument (monotonic seconds).

    A plan is made and written off its caller's path: `wait` holds what makes it until then, and a later page finds it here.

    refused: number of plans not written to the store because of `plans_max_bytes`.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._kept: Bounded[bytes, bytes] = Bounded(max_bytes=MEMORY_BYTES, max_age_s=settings.plan_ttl_s)
        self._step_s = settings.plan_ttl_s / STEPS
        self._written: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._lock = Lock()
        self._waiting: dict[PlanKey, WaitingPlan] = {}
        self.refused = 0

    @property
    def waiting(self) -> int:
        """The number of plans that are not saved yet."""
        return len(self._waiting)

    def wait(
        self,
        key: PlanKey,
        make: Callable[[], bytes],
        *,
        in_store: bool,
        forgotten_s: float = 0.0,
        base: bytes | None = None,
    ) -> bool:
        """Hold what makes a plan, instead of an earlier one of the same key. Returns False, and drops it, if too many wait.

        in_store: whether it is to be written to the store as well.
        forgotten_s, base: see SavePlan.
        """
        with self._lock:
            earlier = self._waiting.get(key)
            if earlier is None and len(self._waiting) >= MAX_WAITING:
                return False
            if earlier is not None and not earlier.precedes(base):
                earlier = None
            self._waiting[key] = WaitingPlan(key, make, in_store, forgotten_s, base, earlier)
            return True

    def unstored(self, key: PlanKey, now_s: float) -> bytes | None:
        """Return the plan if it is not in the store yet, or could not be written there; otherwise None.

        Ask before the store is read: while it is read, the plan may be written. The store's is newer if another process has served
        the list since (see `PagePlan.at_s`).
        """
        plan, stored = self._held(key, now_s)
        return None if stored else plan

    def all_waiting(self) -> list[WaitingPlan]:
        """Return the plans that are not saved yet. They are still waiting then: see `saved`."""
        with self._lock:
            return list(self._waiting.values())

    def saved(self, plans: Iterable[WaitingPlan], now_s: float, *, stored: Collection[PlanKey] = ()) -> None:
        """Keep plans that no longer wait in memory alone. `stored` are those that the store has now."""
        for one in plans:
            if (plan := one.made()) is not None:
                name = one.key.name
                size = len(plan) + len(name) + BYTES_OF_AN_ENTRY
                self._kept.put(name, _Stored(plan) if one.key in stored else plan, size, now_s)
            with self._lock:
                if self._waiting.get(one.key) is one:
                    del self._waiting[one.key]

    def key(self, keys: Keys, subject: Subject, search: str) -> PlanKey | None:
        """Return the key of a subject's plan for a search; None for a subject without user and session."""
        number = int(search[:8], 16) % self._settings.plans_per_subject
        store = keys.plan(subject, str(number))
        return PlanKey(store, search) if store else None

    def get(self, key: PlanKey, now_s: float) -> bytes | None:
        """Return the plan from process memory, or None."""
        plan, _ = self._held(key, now_s)
        return plan

    def _held(self, key: PlanKey, now_s: float) -> tuple[bytes | None, bool]:
        """Return the plan from process memory, and whether the store has it; (None, True) without one."""
        if (waiting := self._waiting.get(key)) is not None:
            return waiting.made(), False
        plan = self._kept.get(key.name, now_s)
        return plan, plan is None or isinstance(plan, _Stored)

    def clear(self) -> None:
        """Drop all plans from process memory."""
        with self._lock:
            self._waiting.clear()
        self._kept.clear()

    def may_store(self, key: PlanKey, plan: bytes, now_s: float) -> bool:
        """Count a plan that is about to be written to the store; return False if it would exceed `plans_max_bytes`."""
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
