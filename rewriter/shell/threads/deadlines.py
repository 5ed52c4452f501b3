"""The thread that watches the deadlines of store reads, so that the worker of a search reads the store itself.

No socket option is a deadline, and a thread that waits in `recv` cannot be interrupted. If another worker read the store and this
one waited for it, each search would pay for two more hand-overs between threads (80 to 200 µs). So the worker reads, and where its
read is late, another one continues its search: of worker and watching thread, the first to take the `Watched` has the search.

All reads have the same budget, so the deadlines come in order, and the thread sleeps until the first of them: it wakes once per
budget at most, not once per search.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

IDLE_S = 1.0
"""How often the thread looks whether its rewriter still exists."""


class Watched:
    """One read that is under way. `late` is called on the watching thread, if no thread has taken it at `until_s` (monotonic)."""

    __slots__ = ("_late", "until_s")

    def __init__(self, until_s: float, late: Callable[[], None]) -> None:
        self.until_s = until_s
        self._late = [late]

    @property
    def taken(self) -> bool:
        """Whether a thread has taken it."""
        return not self._late

    def take(self) -> Callable[[], None] | None:
        """Return `late` to the first caller, None to all later ones. From any thread."""
        try:
            return self._late.pop()
        except IndexError:
            return None


class Deadlines:
    """The watching thread. It ends when it is closed, or by itself once `alive` returns False."""

    def __init__(self, alive: Callable[[], bool]) -> None:
        self._alive = alive
        self._reads: deque[Watched] = deque()
        self._wake = Event()
        self._idle = False
        self._closed = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it was started. Raises RuntimeError at the limit of threads."""
        if self._thread is None:
            thread = Thread(target=self._run, name="rewriter-deadlines", daemon=True)
            thread.start()
            self._thread = thread

    def watch(self, until_s: float, late: Callable[[], None]) -> Watched:
        """Have `late` called at `until_s` (monotonic), unless the read is taken before. Its budget must be that of all others."""
        read = Watched(until_s, late)
        self._reads.append(read)
        if self._idle:  # in this order: the thread sets `_idle` before it looks for reads a last time
            self._wake.set()
        return read

    def close(self) -> None:
        """End the thread. Reads that are under way are no longer watched."""
        self._closed = True
        self._wake.set()

    def _run(self) -> None:
        while self._alive():
            self._wake.clear()
            if self._closed:
                return
            if self._reads:
                self._wait_for(self._reads[0])
                continue
            self._idle = True
            if not self._reads:
                self._wake.wait(IDLE_S)
            self._idle = False

    def _wait_for(self, read: Watched) -> None:
        """Wait until a read is late or the thread is to end. A read that is taken meanwhile wakes no thread."""
        if not read.taken and (left_s := read.until_s - time.monotonic()) > 0.0:
            self._wake.wait(left_s)
            return
        self._reads.popleft()
        if late := read.take():
            with suppress(Exception):  # whatever happens to one search, the next ones are watched
                late()
