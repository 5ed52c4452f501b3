"""The runtime of one process: its stores, its background threads, and the workers that run parts of searches.

The workers `parts` run personal parts, exploration and plan saving; the workers `reads` read stores. A part waits for its reads
with a deadline, because no socket option is one: a dripping answer took 203–685 ms under a timeout of 10 ms. All work takes a
permit before it is submitted, and the pools are at least as large as the number of permits, so nothing queues. Daemon threads do
the background work.

No thread is started and no client is made on a caller's path: a thread that the first search begins starts the others, and a worker
makes the client of the legs. No worker takes a search before the thread that watches the kill switch runs.
"""

from __future__ import annotations

import _thread
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Event, Lock, Thread
from typing import Any, TypeVar, assert_never

from rewriter.client.seam import SearchClient
from rewriter.core import Core
from rewriter.errors import StoreError
from rewriter.flow.steps import (
    FetchSignals,
    Launch,
    PartStep,
    ReadSignals,
    SearchLeg,
    SearchLegs,
    SendRewritten,
)
from rewriter.observe.tally import Tally
from rewriter.shell.background.population import PopulationReader
from rewriter.shell.background.refresh import LOCAL_PERIOD_S, SWITCHES_PERIOD_S, Refresh
from rewriter.shell.background.sources import Announce, BackgroundStep, GetMapping, GetSettings, ReadTexts
from rewriter.shell.background.store_texts import read_texts
from rewriter.shell.beside import Beside
from rewriter.shell.bulkhead import Bulkhead
from rewriter.shell.drive import drive
from rewriter.shell.fleet import fleet_key
from rewriter.shell.plans import PlanSaver
from rewriter.shell.status import STATUS_S, store_state
from rewriter.shell.threads.deadlines import Deadlines
from rewriter.shell.threads.job import ThreadJob, in_time
from rewriter.shell.threads.legs import ThreadLegs
from rewriter.shell.threads.part import NO_THREAD, Part, Reading
from rewriter.shell.track import Tracker
from rewriter.shell.workers import CLOSE_S, RETRY_S, Workers
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Store, StoreName

T = TypeVar("T")

_START_THREAD = _thread.start_new_thread
"""As it was at the import. gevent and eventlet replace it. Locks that were imported before stay those of threads: a greenlet that
waits for one stops all others, and with them the one that it waits for."""
PATCHED = (
    "threads were replaced after `rewriter` was imported: call the monkey patch of gevent or eventlet before any import"
)


class ThreadRuntime(Beside):
    """The runtime of one process. It ends when it is closed, or by itself once `owner` is garbage-collected.

    client: the caller's client, from which that of the legs is cloned.
    leg_client: the caller's own client for legs, an unused clone, or None.
    own_stores: those of `stores` that end with this.
    """

    def __init__(
        self,
        owner: object,
        core: Core,
        stores: Mapping[StoreName, Store],
        client: SearchClient,
        leg_client: SearchClient | None,
        *,
        own_stores: Sequence[Store],
        owns_leg_client: bool,
    ) -> None:
        cap = core.settings.budget.max_in_flight
        self.core = core
        self.stores = stores
        self._own_stores = own_stores
        self.legs = ThreadLegs(client, leg_client, core.settings, owned=owns_leg_client)
        policies = len(core.settings.policies)
        at_once = core.settings.store_reads
        reads = {name: Bulkhead(at_once) for name in stores}
        self.in_flight = Bulkhead(cap, policies, reads.values())
        most = core.settings.budget.max_rewritten
        self.rewritten = Bulkhead(most, policies)
        # Of the workers, as many more than parts run may be with a read that its search does not wait for any more.
        self.parts = Workers(cap + at_once, "rewriter-part")
        self.searches = Workers(most + at_once, "rewriter-search")
        self.reads = Workers(max(1, len(stores)) * at_once, "rewriter-read")
        self.tally = Tally()
        self.refresh = Refresh(
            core, time.monotonic, time.time, has_store="store" in stores, in_flight=self.in_flight, tally=self.tally
        )
        store = stores.get("store")
        self._stopping = Event()
        self._facts_due = Event()
        self._starting = Lock()
        self._starts_from_s = float("-inf")
        self._refused = ""
        self.refresh.local()
        held = weakref.ref(owner)

        def alive() -> bool:
            return held() is not None

        self.tracker = Tracker(store, core.settings, alive) if isinstance(store, RedisStore) else None
        self.plans = PlanSaver(core, store, alive)
        self._deadlines = Deadlines(alive)
        self._reading = Reading(core, stores, reads, self._deadlines)
        signals = stores.get("profile_store") or store
        if signals is not None:
            self.refresh.population = PopulationReader(core, signals, self.refresh.errors, alive)
        core.searched.wakes(self)
        every = self._stopping.wait
        self._to_start: list[tuple[weakref.ref[object], str, Callable[[], bool], Callable[[], None]]] = [
            (held, "local", partial(every, LOCAL_PERIOD_S), self.refresh.local),
            (held, "templates", partial(every, SWITCHES_PERIOD_S), self.refresh.templates),
            (
                held,
                "store values",
                partial(every, SWITCHES_PERIOD_S),
                lambda: drive(self.refresh.store_values(), self._perform_read),
            ),
            (held, "facts", self._wait_for_facts, lambda: drive(self.refresh.facts(), self._perform_read)),
        ]

    @property
    def refused(self) -> str:
        """Why threads could not be started, or ""."""
        return self._refused

    @property
    def is_patched(self) -> bool:
        """Whether threads became something else since the import, so that nothing may be begun nor waited for here."""
        return _thread.start_new_thread is not _START_THREAD

    def start(self) -> None:
        """Start a thread that starts the others, unless they run. Never waits; Thread.start would wait until a thread runs."""
        if self.is_patched:
            self._refused = PATCHED
            self.refresh.failed("threads", RuntimeError(PATCHED), PATCHED)
            return
        if time.monotonic() < self._starts_from_s or not self._starting.acquire(blocking=False):
            return
        self._starts_from_s = float("inf")
        try:
            _thread.start_new_thread(self._start_threads, ())
        except RuntimeError as none_left:
            self._not_started(none_left)

    def _start_threads(self) -> None:
        """Start the background's threads, then the workers. Those that could not be started are tried again with a later search."""
        try:
            while self._to_start:
                name = f"rewriter-{self._to_start[0][1]}"
                Thread(target=self._repeat, args=self._to_start[0], name=name, daemon=True).start()
                del self._to_start[0]
            if self.refresh.population is not None:
                self.refresh.population.start()
            self._deadlines.start()
            self.parts.start()
            self.reads.start()
            self.plans.start()
            if self.core.hedging:
                self.searches.start()
        except Exception as error:  # noqa: BLE001  without threads, searches are the caller's own
            self._not_started(error)
        else:
            self._refused = ""
            self.refresh.failed("threads", None)

    def _not_started(self, error: Exception) -> None:
        self._refused = f"threads could not be started ({error}); tried again every {RETRY_S:g} s"
        self.refresh.failed(
            "threads", error, f"{self._refused}; the limits are `ulimit -u` and the container's of pids"
        )
        for workers in (self.parts, self.reads, self.searches):
            workers.refuse_what_waits()
        self._starts_from_s = time.monotonic() + RETRY_S
        self._starting.release()

    def wake(self) -> None:
        """Read the facts of a new index expression now. Never waits, never raises."""
        self._facts_due.set()

    def _wait_for_facts(self) -> bool:
        """Wait until facts are due to be read; return whether the thread is to end."""
        self._facts_due.wait(self.refresh.indices.wait_s)
        self._facts_due.clear()
        return self._stopping.is_set()

    def begin(self, part: Generator[Any, Any, T], job: ThreadJob) -> Future[T] | None:
        """Start a part beside the caller's own search on a worker, in the caller's context. Returns None if none is free."""
        return self._begin(part, job, self.in_flight, self.parts)

    def begin_once(self, part: Generator[Any, Any, T], job: ThreadJob) -> Future[T] | None:
        """Start the part of a search that is sent once, on a worker of its own kind. Returns None if none is free."""
        return self._begin(part, job, self.rewritten, self.searches)

    def _begin(
        self, part: Generator[Any, Any, T], job: ThreadJob, bulkhead: Bulkhead, workers: Workers
    ) -> Future[T] | None:
        if self._refused or not bulkhead.try_acquire(job.policy):
            part.close()
            return None
        held = [partial(bulkhead.give_back, job.policy)]

        def release(_: object = None) -> None:
            with suppress(IndexError):  # given back already
                held.pop()()

        try:
            future = Part(part, lambda step: self._perform(job, step), self._reading, workers).submit()
            if future is None:  # closed, or at the limit of threads
                release()
            else:
                future.add_done_callback(release)
        except BaseException:  # a KeyboardInterrupt, which strikes the caller's thread anywhere
            release()
            raise
        return future

    def looked(self) -> tuple[str | None, dict[str, str]]:
        """Return the store's state ("ok", or why it does not answer; None without a store) and the fleet's reports, as texts."""
        store = self.stores.get("store")
        if store is None:
            return None, {}

        def look() -> dict[str, str]:
            store.ping()
            return store.announced(fleet_key(self.core.keys.prefix))

        looking = None if self.is_patched else self.reads.submit(look)
        if looking is None:
            return store_state(StoreError(PATCHED) if self.is_patched else NO_THREAD)
        found: dict[str, str] | BaseException | None = in_time(looking, time.monotonic() + STATUS_S)
        return store_state(found)

    def close(self) -> None:
        """End threads and connections. Work that takes longer than a second ends by its own timeout, after this returns."""
        self._stopping.set()
        self._facts_due.set()
        if self.tracker is not None:
            self.tracker.close()
        until_s = time.monotonic() + CLOSE_S
        self._deadlines.close()
        self.plans.close(CLOSE_S)
        if self.refresh.population is not None:
            self.refresh.population.stop(CLOSE_S)
        for workers in (self.parts, self.reads, self.searches):
            workers.close(max(0.0, until_s - time.monotonic()))
        self.legs.close()
        for store in self._own_stores:
            store.close()

    def _perform(self, job: ThreadJob, step: PartStep) -> Any:
        """Perform a step of a part, on a worker."""
        match step:
            case FetchSignals(reads, budget_s):
                until_s = time.monotonic() + budget_s
                under_way = [self.reads.submit(partial(self._reading.read, one)) for one in reads]
                return [NO_THREAD if one is None else in_time(one, until_s) for one in under_way]
            case Launch(part):
                job.explored = self.begin(part, job)
                return None
            case SearchLeg():
                return self.legs.search(step)
            case SearchLegs(steps):
                return self.legs.search_together(steps)
            case SendRewritten():
                return self.legs.search_rewritten(job, step)
            case ReadSignals():
                raise TypeError("the signals of a batch are read by `flow.batch.together`")
        assert_never(step)

    def _repeat(self, owner: weakref.ref[Any], name: str, waits: Callable[[], bool], work: Callable[[], None]) -> None:
        """Repeat a background round until the owner is closed or collected. After an error of a round, the next one follows.

        waits: waits for the next round, and returns whether the thread is to end.
        """
        while not waits() and owner() is not None:
            try:
                work()
                self.refresh.failed(name, None)
            except Exception as error:  # noqa: BLE001  if this thread ended, the kill switch would not work any more
                self.refresh.failed(name, error)
        if owner() is None:  # the owner was collected without `close`
            self.parts.close(0.0)
            self.reads.close(0.0)
            self.searches.close(0.0)

    def _perform_read(self, step: BackgroundStep) -> Any:
        """Perform one step of the background."""
        store = self.stores.get("store")
        match step:
            case ReadTexts(keys):
                return read_texts(store, keys) if store else [None] * len(keys)
            case Announce(key, name, text, now_s):
                return store.announce(key, name, text, now_s) if store else None
            case GetMapping() | GetSettings():
                return self.legs.read_facts(step)
        assert_never(step)
