"""What one process has, and how it performs what the flow asks for: workers, clients, background threads.

`parts` runs personal parts, leg 3 and plan saving, `reads` the stores' reads: a part waits for its reads with a deadline, because
no socket option is one (a dripping answer took 203–685 ms under a 10 ms time-out). Both pools are as large as the cap on what is
in flight, and everything takes a place before it is handed over, so nothing queues. Four daemon threads do the background work.
"""

from __future__ import annotations

import contextvars
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from threading import Event, Thread
from typing import Any, TypeVar

from rewriter.core import Core
from rewriter.flow.steps import (
    Collected,
    Explored,
    FetchSignals,
    Launch,
    LegFault,
    Personal,
    Read,
    SavePlan,
    SearchLeg,
)
from rewriter.observe.tally import Tally
from rewriter.report import Reason
from rewriter.shell.legs import PLANS_SHARE, InFlight, fault_of, hits_of
from rewriter.shell.refresh import LOCAL_PERIOD_S, WORDS_PERIOD_S, Refresh, fleet_key
from rewriter.shell.sources import Call
from rewriter.shell.status import STATUS_S, store_said
from rewriter.shell.track import Tracker
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Signals, Store, StoreName

T = TypeVar("T")


def drive(flow: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Run a generator to its end: perform each step, send in the result or throw in the error. It is closed in any case."""
    try:
        step = next(flow)
        while True:
            try:
                result = perform(step)
            except BaseException as error:  # noqa: BLE001  whatever it is, the generator says what it means
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()


class Job:
    """The parts of one search."""

    __slots__ = ("explored", "personal")

    def __init__(self) -> None:
        self.personal: Future[Personal] | None = None
        self.explored: Future[Explored] | None = None


class Process:
    """What one process has. It ends by itself once nobody holds `owner`, or when it is closed."""

    def __init__(
        self, owner: object, core: Core, stores: Mapping[StoreName, Store], legs: Any, *, owns_legs: bool
    ) -> None:
        cap = core.settings.budget.max_in_flight
        self.core = core
        self.stores = stores
        self.legs = legs
        self._owns_legs = owns_legs
        self.in_flight = InFlight(cap)
        self.parts = ThreadPoolExecutor(cap, "rewriter-part")
        self.reads = ThreadPoolExecutor(2 * cap, "rewriter-read")
        self.tally = Tally()
        self.refresh = Refresh(
            core, time.monotonic, time.time, has_store="store" in stores, in_flight=self.in_flight, tally=self.tally
        )
        store = stores.get("store")
        self.tracker = Tracker(store, core.settings) if isinstance(store, RedisStore) else None
        self.plans_dropped = 0
        self._stopping = Event()
        self.refresh.local()
        held = weakref.ref(owner)
        for name, period_s, work in (
            ("local", LOCAL_PERIOD_S, self.refresh.local),
            ("templates", WORDS_PERIOD_S, self.refresh.templates),
            ("words", WORDS_PERIOD_S, lambda: drive(self.refresh.words(), self._ask)),
            ("facts", WORDS_PERIOD_S, lambda: drive(self.refresh.facts(), self._ask)),
        ):
            Thread(target=self._repeat, args=(held, name, period_s, work), name=f"rewriter-{name}", daemon=True).start()

    def begin(self, part: Generator[Any, Any, T], job: Job) -> Future[T] | None:
        """Start a part on a worker, in the caller's context; None where no place is left."""
        if not self.in_flight.try_enter():
            part.close()
            return None
        try:
            future = self.parts.submit(
                contextvars.copy_context().run, drive, part, lambda step: self._perform(job, step)
            )
        except RuntimeError:  # closed meanwhile
            self.in_flight.leave()
            part.close()
            return None
        future.add_done_callback(self.in_flight.leave)
        return future

    def save(self, step: SavePlan) -> None:
        """Save a plan on a worker, here and in the store, or not at all: the next page then is the baseline's."""
        if not self.in_flight.try_enter(PLANS_SHARE):
            self.plans_dropped += 1
            return

        def save() -> None:
            key, plan = step.plan()
            if key is not None:
                self.core.plans.put(key, plan, len(plan), time.monotonic())
                if step.in_store:
                    self.stores["store"].save_plan(key, plan, step.ttl_s)

        try:
            self.parts.submit(save).add_done_callback(self.in_flight.leave)
        except RuntimeError:
            self.in_flight.leave()

    def looked(self) -> tuple[str | None, dict[str, str]]:
        """Return whether the store answers ("ok", or why not; None without one), and what the fleet's processes say."""
        store = self.stores.get("store")
        if store is None:
            return None, {}

        def look() -> dict[str, str]:
            store.ping()
            return store.announced(fleet_key(self.core.keys.prefix))

        try:
            found = in_time(self.reads.submit(look), time.monotonic() + STATUS_S)
        except RuntimeError as closed:
            found = closed
        return store_said(found)

    def close(self) -> None:
        """End threads and connections. Legs that are under way end by their own time-outs."""
        self._stopping.set()
        if self.tracker is not None:
            self.tracker.close()
        self.parts.shutdown(wait=True, cancel_futures=True)
        self.reads.shutdown(wait=True, cancel_futures=True)
        if self._owns_legs:
            self.legs.close()
        for store in self.stores.values():
            store.close()

    def _perform(self, job: Job, step: Any) -> Any:
        """Do what a part asks for, on a worker."""
        match step:
            case FetchSignals(reads, budget_s):
                until_s = time.monotonic() + budget_s
                return [in_time(read, until_s) for read in [self._reading(one) for one in reads]]
            case Launch(part):
                job.explored = self.begin(part, job)
                return None
            case SearchLeg(arguments, timeout_s):
                try:
                    return hits_of(self.legs.search(**arguments, request_timeout=timeout_s))
                except LegFault:
                    raise
                except Exception as error:  # noqa: BLE001  whatever a client raises is a fault of the leg
                    raise fault_of(error) from None
        raise TypeError(f"no such step: {step!r}")

    def _reading(self, read: Read) -> Future[Signals]:
        """Start a read. It takes a place of its own, since it may outlive the part that waits for it; its answer is remembered."""
        self.in_flight.enter()
        try:
            future = self.reads.submit(self.stores[read.store].read, read.query)
        except RuntimeError:  # closed meanwhile
            self.in_flight.leave()
            raise

        def done(answered: Future[Signals]) -> None:
            self.in_flight.leave()
            if not answered.cancelled() and answered.exception() is None:
                self.core.last_known.put(read.query, answered.result(), time.monotonic())

        future.add_done_callback(done)
        return future

    def _repeat(self, owner: weakref.ref[Any], name: str, period_s: float, work: Callable[[], None]) -> None:
        """Do background work until the owner is closed or gone. Whatever a round raises, the next one comes."""
        while not self._stopping.wait(period_s) and owner() is not None:
            try:
                work()
                self.refresh.failed(name, None)
            except Exception as error:  # noqa: BLE001  a dead thread would be a dead kill switch
                self.refresh.failed(name, error)

    def _ask(self, call: Call) -> Any:
        """Do what the background asks for."""
        store = self.stores.get("store")
        profiles = self.stores.get("profile_store") or store
        match call:
            case Call("text", (key,)):
                return store.read_text(key) if store else None
            case Call("text", (key, "profile")):
                return profiles.read_text(key) if profiles else None
            case Call("many", (bases, fields, limit)):
                return profiles.read_many(bases, fields, limit) if profiles else None
            case Call("announce", (key, name, text, now_s)):
                return store.announce(key, name, text, now_s) if store else None
            case Call("mapping", (index,)):
                return self.legs.indices.get_mapping(index=index, request_timeout=5)
            case _:
                return self.legs.indices.get_settings(index=call.arguments[0], flat_settings=True, request_timeout=5)


def collected(job: Job, until_s: float) -> Collected:
    """Wait for the parts of a search until the cut-off."""
    part = in_time(job.personal, until_s)
    if isinstance(part, Exception):
        part = Personal(Reason.SEARCH_FAILED, f"internal: {type(part).__name__}")
    if part is None or part.reason is not Reason.PERSONALIZED:
        return Collected(part, None)
    explored = in_time(job.explored, until_s)
    if isinstance(explored, Exception):
        explored = Explored(error=f"internal: {type(explored).__name__}")
    return Collected(part, explored)


def in_time(future: Future[T] | None, until_s: float) -> T | Exception | None:
    """Return what came of a future until then: its result, what it raised, or None."""
    if future is None:
        return None
    try:
        return future.result(max(0.0, until_s - time.monotonic()))
    except NotYet:
        return None
    except Exception as error:  # noqa: BLE001  nothing of ours raises into a search
        return error
