"""The senders behind `track`: they append events of the shop's own process to the streams, without making a caller wait.

`track` checks the event, puts it into a bounded buffer (`outbox`) and returns. A thread or task appends the buffered events, many
at once. While the store is away or full, events stay and are tried again; once the buffer is full, new events are dropped and
counted. *Accepted* are events that the store acknowledged. Every event gets an `event_id`, so that it counts once if it is sent
again after a lost acknowledgement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from logging import getLogger
from threading import Condition, Thread
from typing import Any

from rewriter.settings import Settings
from rewriter.shell.outbox import Outbox
from rewriter.shell.plans import ALIVE_S
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore

CLOSE_S = 2.0
"""How long `close` sends events that wait."""
CLOSE_MORE_S = 3.0
"""How long `close` waits beyond `CLOSE_S` for an attempt that hangs."""
CLOSE_POLL_S = 0.1

_log = getLogger("rewriter")


class Tracker:
    """Appends events from a daemon thread, which starts with the first event.

    It ends when it is closed, or by itself once `alive` returns False: it then sends the events that wait, as `close` does.
    """

    def __init__(self, store: RedisStore, settings: Settings, alive: Callable[[], bool] = lambda: True) -> None:
        self._store = store
        self._alive = alive
        self._outbox = Outbox(settings)
        self._changed = Condition()
        self._thread: Thread | None = None
        self._closed = False
        self._gave_up = False
        self._is_logged = False

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of events by outcome, and `waiting`."""
        return {**self._outbox.counts, "waiting": len(self._outbox)}

    def track(self, event: Mapping[str, Any]) -> bool:
        """See Outbox.put."""
        with self._changed:
            if self._closed or not self._outbox.put(event):
                return False
            if self._thread is None:
                self._start()
            self._changed.notify()
        return True

    def close(self) -> None:
        """Send the events that wait, for two seconds; the remaining ones are dropped and counted."""
        with self._changed:
            self._closed = True
            self._outbox.hurry()
            self._changed.notify()
        if self._thread is None:
            self._work()
        else:
            self._thread.join(CLOSE_S + CLOSE_MORE_S)
        with self._changed:
            self._gave_up = True
            self._outbox.drop()

    def _start(self) -> None:
        thread = Thread(target=self._work, name="rewriter-track", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # at the limit of threads: the event waits, and the next one tries again
            if not self._is_logged:
                self._is_logged = True
                _log.warning("events wait until a thread can be started: %s (this is logged once)", error)
        else:
            self._thread, self._is_logged = thread, False

    def _work(self) -> None:
        give_up_s: float | None = None
        while True:
            with self._changed:
                if not self._closed and not self._alive():  # nobody can give events any more, nor close this
                    self._closed = True
                    self._outbox.hurry()
                shipment = self._outbox.take(time.monotonic())
                if self._closed:
                    give_up_s = give_up_s or time.monotonic() + CLOSE_S
                    if not len(self._outbox) or time.monotonic() >= give_up_s:
                        self._outbox.drop()
                        return
                if shipment is None:
                    pause_s = self._outbox.pause_s(time.monotonic())
                    due_s = ALIVE_S if pause_s is None else min(pause_s, ALIVE_S)
                    self._changed.wait(CLOSE_POLL_S if self._closed else due_s)
                    continue
            try:
                replies = self._store.run(shipment.commands)
            except Exception:  # noqa: BLE001  without an answer of the store, the events stay
                replies = None
            with self._changed:
                if self._gave_up:
                    return
                self._outbox.finish(shipment, replies, time.monotonic())


class AsyncTracker:
    """Appends events from a task, which starts with the first event."""

    def __init__(self, store: AsyncRedisStore, settings: Settings) -> None:
        self._store = store
        self._outbox = Outbox(settings)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of events by outcome, and `waiting`."""
        return {**self._outbox.counts, "waiting": len(self._outbox)}

    def track(self, event: Mapping[str, Any]) -> bool:
        """See Outbox.put."""
        if self._closed or not self._outbox.put(event):
            return False
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(self._ended)
        return True

    async def close(self) -> None:
        """Send the events that wait, for two seconds; the remaining ones are dropped and counted."""
        self._closed = True
        self._outbox.hurry()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_S)
            self._task.cancel()
        self._outbox.drop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Drop what waits where the loop ended without `close`: nobody sends it any more. The task may not have begun."""
        if task.cancelled() and not self._closed:
            self._outbox.drop()

    async def _work(self) -> None:
        while len(self._outbox):
            shipment = self._outbox.take(time.monotonic())
            if shipment is None:
                pause_s = self._outbox.pause_s(time.monotonic()) or 0.0
                await asyncio.sleep(min(pause_s, CLOSE_POLL_S))
                continue
            try:
                replies = await self._store.run(shipment.commands)
            except Exception:  # noqa: BLE001  without an answer of the store, the events stay
                replies = None
            self._outbox.finish(shipment, replies, time.monotonic())
