"""One part of a search on a worker. It reads the store itself; where that is late, another worker continues the part.

The worker whose read is late stays with it until it is answered: the answer goes to memory, and its connection is kept. See
`deadlines`.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from rewriter.core import Core
from rewriter.errors import StoreError
from rewriter.flow.steps import FetchSignals, PartStep, Read, ReadResult
from rewriter.shell.bulkhead import Bulkhead
from rewriter.shell.drive import ELSEWHERE, drive
from rewriter.shell.threads.deadlines import Deadlines
from rewriter.shell.workers import Workers
from rewriter.signals.store import Store, StoreName

T = TypeVar("T")

NO_THREAD = StoreError("no thread is free to read")
"""The result of a read that no worker takes. It is never raised."""


class Reading:
    """The reads of stores by workers, `store_reads` of each store at once.

    A read may outlive the search that waits for it. So a store that hangs fills only its own bound.

    reads: the permits of each store's reads, which are held from start to answer.
    """

    def __init__(
        self, core: Core, stores: Mapping[StoreName, Store], reads: Mapping[StoreName, Bulkhead], deadlines: Deadlines
    ) -> None:
        self._core = core
        self._stores = stores
        self._reads = reads
        self.deadlines = deadlines

    def read(self, read: Read) -> ReadResult:
        """Read a store, however long that takes. Returns what it raises. The answer goes to memory too.

        None, as of a read that is late, if as many reads of this store are under way as may be.
        """
        if not self._reads[read.store].try_acquire():
            return None
        try:
            found = self._stores[read.store].read(read.query)
            self._core.last_known.put(read.query, found, time.monotonic())
        except Exception as error:  # noqa: BLE001  whatever a store raises is a result
            return error
        finally:
            self._reads[read.store].give_back()
        return found


class Part(Generic[T]):
    """One part, and the worker that runs it.

    perform: performs all steps but the reading of one store.
    """

    __slots__ = ("_context", "_flow", "_future", "_perform", "_reading", "_workers")

    def __init__(
        self, flow: Generator[Any, Any, T], perform: Callable[[PartStep], Any], reading: Reading, workers: Workers
    ) -> None:
        self._flow = flow
        self._perform = perform
        self._reading = reading
        self._workers = workers
        self._context = contextvars.copy_context()
        self._future: Future[T] | None = None

    def submit(self) -> Future[T] | None:
        """Start it on a worker. Returns None, and closes its flow, if none is free."""
        self._future = Future()
        if self._workers.submit(lambda: self._context.run(self._run), self._future) is None:
            self._flow.close()
            return None
        return self._future

    def _run(self, first: Any = None) -> T:
        return drive(self._flow, self._step, first)

    def _step(self, step: PartStep) -> Any:
        if isinstance(step, FetchSignals) and len(step.reads) == 1:
            watched = self._reading.deadlines.watch(time.monotonic() + step.budget_s, self._go_on)
            found = self._reading.read(step.reads[0])
            return [found] if watched.take() else ELSEWHERE
        return self._perform(step)

    def _go_on(self) -> None:
        """Go on without the read, on another worker. The first one is still within the context, so this one has a copy."""
        context = self._context.copy()
        if self._workers.submit(lambda: context.run(self._run, [None]), self._future) is None and self._future:
            self._flow.close()
            self._future.set_exception(StoreError("no thread is free to go on without the signals"))
