"""A pool of daemon threads for which nothing waits: not the caller that submits work, not `close()`, not the interpreter's exit.

ThreadPoolExecutor makes them wait. Its `submit` starts threads on the caller's path, and keeps the work queued if none can be
started. The interpreter's exit joins its threads, however long their work takes.

Here a worker that takes work and leaves no idle worker starts the next one, so that the caller starts none. Work that no worker can
take at once is refused, and never queued behind other work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from rewriter.shell.drive import ELSEWHERE

T = TypeVar("T")

RETRY_S = 5.0
"""The pause before a pool that could not start a thread tries again."""

CLOSE_S = 1.0
"""How long `close` waits for work that is under way."""


class Workers:
    """A pool of at most `most` threads. `start` starts the first one; work that was submitted earlier waits for it."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = Lock()  # held for a few steps, never while work runs or a thread starts
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: set[Thread] = set()
        self._starting = 0
        self._busy = 0
        self._waiting = 0
        self._grows_from_s = float("-inf")
        self._closed = False

    def start(self) -> None:
        """Start the first thread. Raises RuntimeError if the system refuses one; work that waits is then cancelled."""
        if not self._threads and not self._grow():
            self.refuse_what_waits()
            raise RuntimeError("can't start new thread")

    def submit(self, work: Callable[[], T], future: Future[T] | None = None) -> Future[T] | None:
        """Submit work. Returns its future, or None if no thread is free and none can be started. Never waits.

        future: that of the work, if it has one already: it is new, or that of work which goes on here. It stays as it is if the
                work returns ELSEWHERE.
        """
        future = Future() if future is None else future
        with self._lock:
            free = len(self._threads) + self._starting - self._busy
            if time.monotonic() >= self._grows_from_s:
                free = self._most - self._busy
            if self._closed or self._waiting >= free:
                return None
            self._waiting += 1
            self._queue.put((future, work))
        return future

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Cancel work that waits, and wait `wait_s` at most for work under way. Threads that still work then end after it."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        self.refuse_what_waits()
        self._queue.put(None)
        until_s = time.monotonic() + wait_s
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def refuse_what_waits(self) -> None:
        """Cancel the work that no worker has taken yet."""
        while not self._queue.empty():
            try:
                item = self._queue.get_nowait()
            except Exception:  # noqa: BLE001  a worker was faster
                return
            if item is None:  # only after `close`, and nothing is put behind it
                self._queue.put(None)
                return
            with self._lock:
                self._waiting -= 1
            if not item[0].cancel():  # it goes on here, and somebody may wait for it
                item[0].set_exception(CancelledError())

    def _grow(self) -> bool:
        with self._lock:
            if self._closed or len(self._threads) + self._starting >= self._most:
                return False
            self._starting += 1
        thread = Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit of threads, or the interpreter is ending
            with self._lock:
                self._starting -= 1
                self._grows_from_s = time.monotonic() + RETRY_S
            return False
        with self._lock:
            self._starting -= 1
            self._threads.add(thread)
        return True

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            future, work = item
            with self._lock:
                self._waiting -= 1
                self._busy += 1
                none_idle = self._busy >= len(self._threads) + self._starting
            if none_idle:
                self._grow()
            if not future.running() and not future.set_running_or_notify_cancel():
                self._freed()
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  every error goes to the future
                self._freed()
                future.set_exception(error)
            else:
                self._freed()
                if result is not ELSEWHERE:
                    future.set_result(result)
                del result
            del item, future, work  # an idle thread keeps nothing alive
        self._queue.put(None)  # for the next one, also for a thread that starts while the pool is closed

    def _freed(self) -> None:
        with self._lock:
            self._busy -= 1
