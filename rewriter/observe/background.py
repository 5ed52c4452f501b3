"""A bounded queue with a thread of its own, for observers whose work must not run on a search's thread.

`put` appends to a deque: it takes no lock, wakes no thread and never waits, so a slow or hung backend costs a search nothing. The
thread polls four times a second. Items beyond the bound are dropped and counted; errors of `take` are counted. After each item the
thread yields the interpreter, so that a burst of a thousand items does not delay a search by the interpreter's switching interval.

After a fork the child's queue is empty, since the parent delivers its items. The child's next `put` starts its thread.
"""

from __future__ import annotations

import _thread
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PERIOD_S = 0.25
MAX_WAITING = 10_000
CLOSE_S = 1.0


class Background(Generic[T]):
    """A bounded queue with a thread; see the module. `dropped` and `errors` count lost items, and errors of `take` and `idle`.

    take:  called with each item, in order, by one thread.
    ready: whether `take` can take more; while it cannot, items wait in the queue, and are dropped once that is full.
    idle:  called each time the queue is empty again, and every `PERIOD_S` seconds; to finish batches of items.
    """

    def __init__(
        self,
        take: Callable[[T], object],
        *,
        idle: Callable[[], object] | None = None,
        ready: Callable[[], bool] = lambda: True,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._take = take
        self._idle = idle
        self._ready = ready
        self._max_waiting = max_waiting
        self._waiting: deque[T] = deque()
        self._stop = Event()
        self._ended = Event()
        self._rounds = 0
        self._begun = self._closed = False
        self.dropped = 0
        self.errors = 0
        _all.add(self)

    def __len__(self) -> int:
        """Return the number of waiting items."""
        return len(self._waiting)

    def put(self, item: T) -> bool:
        """Append an item. Returns False if it is dropped. Never waits or raises."""
        if self._closed or len(self._waiting) >= self._max_waiting:
            self.dropped += 1
            return False
        self._waiting.append(item)
        if not self._begun:
            self._begin()
        return True

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until all earlier items were taken. Returns False after `timeout_s` seconds. Not for a search's path."""
        if not self._begun:
            return not self._waiting
        until_s = time.monotonic() + timeout_s
        since = self._rounds
        while self._waiting or self._rounds < since + 2:  # a round that began before may have missed the last item
            self._stop.set()  # wakes the thread; it is closed by `_closed`
            if self._ended.wait(0.002) or time.monotonic() >= until_s:
                return not self._waiting
        return True

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Take waiting items for `timeout_s` seconds at most, and end the thread. The remaining ones are dropped and counted."""
        if not self._closed:
            self.flush(timeout_s)
            self._closed = True
            self._stop.set()
            self.dropped += len(self._waiting)
            self._waiting.clear()

    def _begin(self) -> None:
        self._begun = True
        try:
            _thread.start_new_thread(_run, (weakref.ref(self),))  # Thread.start would wait for the thread to begin
        except RuntimeError:  # at the limit of threads: the next item tries again
            self._begun = False

    def round(self) -> None:
        """Take all waiting items, then call `idle`."""
        while self._waiting and not self._closed and self._ready():
            with suppress(IndexError):
                item = self._waiting.popleft()
                try:
                    self._take(item)
                except Exception:  # noqa: BLE001  a broken backend is counted, and the next item is tried
                    self.errors += 1
            time.sleep(0)
        if self._idle is not None:
            try:
                self._idle()
            except Exception:  # noqa: BLE001  as above
                self.errors += 1
        self._rounds += 1

    def woke(self) -> bool:
        """Note that the thread is awake. Returns False once the queue is closed."""
        if self._closed:
            self._ended.set()
            return False
        self._stop.clear()
        return True

    def after_fork(self) -> None:
        """Reset the queue in a child: its thread does not exist there, and the parent delivers the waiting items."""
        self._waiting = deque()
        self._stop, self._ended = Event(), Event()
        self._begun = False
        self.dropped = self.errors = 0


def _run(held: weakref.ref[Background[T]]) -> None:
    """Run rounds until the queue is closed or garbage-collected."""
    while (queue := held()) is not None:
        queue.round()
        stop = queue._stop  # noqa: SLF001  waited for without holding the queue
        del queue
        stop.wait(PERIOD_S)
        queue = held()
        if queue is None or not queue.woke():
            return
        del queue


_all: weakref.WeakSet[Background[Any]] = weakref.WeakSet()


def _forget_parent() -> None:
    for queue in list(_all):
        with suppress(Exception):
            queue.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
