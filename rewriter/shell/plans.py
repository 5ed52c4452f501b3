"""The savers of plans: they make the plans of several searches at a time and write them to the store in one round trip.

A plan is needed once its list's next page is asked for, seconds later. If it were made and written at once, that would compete with
the caller's own work for the interpreter, just when the answer has arrived: 0.4 ms of CPU a search, of which 0.17 ms delayed the
caller's next search. So a plan waits up to LINGER_S in memory (`PlanMemory.wait`), where this process's later pages find it.

While the store does not answer, at most `plan_memory.MAX_WAITING` plans wait. Further ones are made at once, kept in this
process's memory alone, and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from rewriter.core import Core
from rewriter.explore.plan import united
from rewriter.explore.plan_memory import PlanKey, WaitingPlan
from rewriter.flow.steps import SavePlan
from rewriter.signals.store import AsyncStore, NewPlan, SavedPlans, Store

LINGER_S = 0.02
"""How long plans wait for others."""

ALIVE_S = 1.0
"""How often an idle saver looks whether its rewriter still exists."""

AT_ONCE = 64
"""Plans of one round trip: about 60 KB."""


class _Saver:
    """What both savers share. dropped: the number of plans that the store has not, because too many waited or it refused them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.dropped = 0

    def _waits(self, step: SavePlan) -> bool:
        """Have a plan wait to be saved, and return whether it does: a subject without a key has none, and too many may wait."""
        if step.key is None:
            return False
        if self._core.plans.wait(
            step.key, step.plan, in_store=step.in_store, forgotten_s=step.forgotten_s, base=step.base
        ):
            return True
        self.dropped += 1
        _keep_here(self._core, step.key, step)
        return False

    def _stored(
        self,
        some: Mapping[WaitingPlan, NewPlan],
        saved: SavedPlans,
        again: Sequence[tuple[WaitingPlan, NewPlan]],
        last: SavedPlans,
    ) -> Collection[PlanKey]:
        """Return the keys of the plans that the store was sent and has not found changed, and count the others.

        saved: what became of `some`. last: what became of those that were sent once more, `again`.
        """
        self.dropped += saved.refused + last.refused + len(last.changed)
        first = {one.key for one, plan in some.items() if plan.key not in saved.changed}
        return first | {one.key for one, plan in again if plan.key not in last.changed}


class PlanSaver(_Saver):
    """The saver on a daemon thread. It ends when it is closed, or by itself once `alive` returns False."""

    def __init__(self, core: Core, store: Store | None, alive: Callable[[], bool]) -> None:
        super().__init__(core)
        self._store = store
        self._alive = alive
        self._some = Event()
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it was started. Raises RuntimeError at the limit of threads."""
        if self._thread is None:
            thread = Thread(target=self._run, name="rewriter-plans", daemon=True)
            thread.start()
            self._thread = thread

    def save(self, step: SavePlan) -> None:
        """Have a plan saved. Never waits."""
        if self._waits(step) and not self._some.is_set():
            self._some.set()

    def close(self, wait_s: float) -> None:
        """Save the plans that wait, and wait `wait_s` seconds at most for that."""
        self._stopping.set()
        self._some.set()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        while self._alive():
            if self._some.wait(ALIVE_S):
                closing = self._stopping.wait(LINGER_S)
                self._some.clear()
                self._save()
                if closing:
                    return

    def _save(self) -> None:
        plans = self._core.plans.all_waiting()
        for start in range(0, len(plans), AT_ONCE):
            some = plans[start : start + AT_ONCE]
            for one in some:
                one.made()
                time.sleep(0)  # gives the interpreter to a caller who waits for it
            kept = self._write(storable(self._core, some))
            self._core.plans.saved(some, time.monotonic(), stored=kept)

    def _write(self, some: Mapping[WaitingPlan, NewPlan]) -> Collection[PlanKey]:
        """Write plans, and return the keys of those that the store was sent and did not fail on."""
        if self._store is None or not some:
            return ()
        try:
            saved = self._store.save_plans(list(some.values()))
            again = reconciled(some, saved)
            last = self._store.save_plans([plan for _, plan in again]) if again else SavedPlans()
        except Exception:  # noqa: BLE001  counted; later pages of these lists are served from memory
            self.dropped += len(some)
            return ()
        return self._stored(some, saved, again, last)


def _keep_here(core: Core, key: PlanKey, step: SavePlan) -> None:
    """Make a plan at once and keep it in memory, where too many wait: the store takes no writes. It takes 0.1 to 0.4 ms."""
    plan = WaitingPlan(key, step.plan, in_store=False, forgotten_s=step.forgotten_s, base=step.base)
    core.plans.saved([plan], time.monotonic())


def storable(core: Core, plans: Iterable[WaitingPlan]) -> dict[WaitingPlan, NewPlan]:
    """Return the plans that the store is to have, and that its share has room for."""
    ttl_s, now_s = core.settings.store.plan_ttl_s, time.monotonic()
    made = [(one, plan) for one in plans if one.in_store and (plan := one.made()) is not None]
    return {
        one: NewPlan(one.key.store, plan, ttl_s, one.forgotten_s, one.base or b"")
        for one, plan in made
        if core.plans.may_store(one.key, plan, now_s)
    }


def reconciled(some: Mapping[WaitingPlan, NewPlan], saved: SavedPlans) -> list[tuple[WaitingPlan, NewPlan]]:
    """Return the plans to be stored once more: of lists of which another process has shown a page at the same time.

    A plan that is older than another list's under its key is not among them, and stays in memory.
    """
    again = []
    for one, plan in some.items():
        if (there := saved.changed.get(plan.key)) is not None and (both := united(plan.plan, there)) != there:
            one.replace(both)
            again.append((one, plan._replace(plan=both, base=there)))
    return again


class AsyncPlanSaver(_Saver):
    """The saver on an event loop, in a task that lasts while plans wait. See PlanSaver."""

    def __init__(
        self, core: Core, store: AsyncStore | None, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        super().__init__(core)
        self._store = store
        self._spawn = spawn
        self._runs = False

    def save(self, step: SavePlan) -> None:
        """Have a plan saved. Never waits."""
        if self._waits(step) and not self._runs:
            self._runs = True
            self._spawn(self._run())

    async def close(self, wait_s: float) -> None:
        """Save the plans that wait, for `wait_s` seconds at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._save(), wait_s)

    async def _run(self) -> None:
        try:
            while self._core.plans.waiting:
                await asyncio.sleep(LINGER_S)
                await self._save()
        finally:
            self._runs = False

    async def _save(self) -> None:
        plans = self._core.plans.all_waiting()
        for start in range(0, len(plans), AT_ONCE):
            some = plans[start : start + AT_ONCE]
            for one in some:
                one.made()
                await asyncio.sleep(0)  # one plan takes 0.1 ms; other tasks run in between
            kept = await self._write(storable(self._core, some))
            self._core.plans.saved(some, time.monotonic(), stored=kept)

    async def _write(self, some: Mapping[WaitingPlan, NewPlan]) -> Collection[PlanKey]:
        """See PlanSaver._write."""
        if self._store is None or not some:
            return ()
        try:
            saved = await self._store.save_plans(list(some.values()))
            again = reconciled(some, saved)
            last = await self._store.save_plans([plan for _, plan in again]) if again else SavedPlans()
        except Exception:  # noqa: BLE001  counted; later pages of these lists are served from memory
            self.dropped += len(some)
            return ()
        return self._stored(some, saved, again, last)
