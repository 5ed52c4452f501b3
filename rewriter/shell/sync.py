"""The sync shell: leg 1 on the caller's own thread, the personal part on a worker.

Threads. `parts` runs personal parts, leg 3 and plan saving, `reads` the store's reads: a part waits for its read with a deadline,
because no socket option is one (a dripping answer took 203–685 ms under a 10 ms time-out). Both pools are as large as the cap on
what is in flight, and everything takes a place before it is handed over, so nothing queues. Three daemon threads do the
background work. All of it is made at the first search of a process, and made anew in a child after a fork.
"""

from __future__ import annotations

import contextvars
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import randbits
from threading import Event, Lock, Thread
from typing import Any, Self, TypeVar

from rewriter.core import Core
from rewriter.flow.answer import answer
from rewriter.flow.steps import (
    Baseline,
    Begin,
    Collect,
    Collected,
    Explored,
    Fetched,
    FetchSignals,
    Launch,
    LegFault,
    Personal,
    SavePlan,
    SearchLeg,
)
from rewriter.observe.hooks import Hook, Hooks
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.legs import PLANS_SHARE, InFlight, cloned, connect, fault_of, hits_of, named, why_no_signals
from rewriter.shell.refresh import LOCAL_PERIOD_S, WORDS_PERIOD_S, Call, Refresh, fleet_key, load_templates
from rewriter.shell.status import CLOSED, Status, status_of
from rewriter.shell.switch_sources import refuse_wrong_switches
from rewriter.shell.track import Tracker
from rewriter.shell.wrap import CURRENT_SUBJECT, Unset, Wrapped, unset
from rewriter.signals.redis_store import RedisStore, open_store
from rewriter.signals.store import Query, Signals, Store, joined, separated
from rewriter.subject import Subject

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


class _Job:
    """The parts of one search."""

    __slots__ = ("explored", "personal")

    def __init__(self) -> None:
        self.personal: Future[Personal] | None = None
        self.explored: Future[Explored] | None = None


class _Process:
    """What one process has: clients, pools, background threads."""

    def __init__(
        self,
        rewriter: Rewriter,
        core: Core,
        store: Store | None,
        profile_store: Store | None,
        legs: Any,
        *,
        owns_legs: bool,
    ) -> None:
        cap = core.settings.budget.max_in_flight
        self.core = core
        self.store = store
        self.profile_store = profile_store
        self.legs = legs
        self._owns_legs = owns_legs
        self.in_flight = InFlight(cap)
        self.parts = ThreadPoolExecutor(cap, "rewriter-part")
        self.reads = ThreadPoolExecutor(2 * cap, "rewriter-read")
        self.refresh = Refresh(core, time.monotonic, time.time, has_store=store is not None)
        self.tracker = Tracker(store, core.settings) if isinstance(store, RedisStore) else None
        self.stopping = Event()
        self.plans_dropped = 0
        self.refresh.local()
        for name, period_s, work in (
            ("local", LOCAL_PERIOD_S, self.refresh.local),
            ("words", WORDS_PERIOD_S, self._words),
            ("facts", WORDS_PERIOD_S, self._facts),
        ):
            Thread(
                target=self._repeat,
                args=(weakref.ref(rewriter), name, period_s, work),
                name=f"rewriter-{name}",
                daemon=True,
            ).start()

    def _words(self) -> None:
        drive(self.refresh.words(), self.perform)

    def _facts(self) -> None:
        drive(self.refresh.facts(), self.perform)

    def _repeat(self, rewriter: weakref.ref[Rewriter], name: str, period_s: float, work: Callable[[], None]) -> None:
        """Do background work until the rewriter is closed or gone. Whatever a round raises, the next one comes."""
        while not self.stopping.wait(period_s) and rewriter() is not None:
            try:
                work()
                self.refresh.failed(name, None)
            except Exception as error:  # noqa: BLE001  a dead thread would be a dead kill switch
                self.refresh.failed(name, error)

    def perform(self, call: Call) -> Any:
        """Do what the background asks for."""
        match call:
            case Call("text", (key,)):
                return self.store.read_text(key) if self.store else None
            case Call("text", (key, "profile")):
                store = self.profile_store or self.store
                return store.read_text(key) if store else None
            case Call("many", (bases, fields, limit)):
                store = self.profile_store or self.store
                return store.read_many(bases, fields, limit) if store else None
            case Call("announce", (key, name, text, now_s)):
                return self.store.announce(key, name, text, now_s) if self.store else None
            case Call("mapping", (index,)):
                return self.legs.indices.get_mapping(index=index, request_timeout=5)
            case _:
                return self.legs.indices.get_settings(index=call.arguments[0], flat_settings=True, request_timeout=5)

    def close(self) -> None:
        """End threads and connections. Legs that are under way end by their own time-outs."""
        self.stopping.set()
        if self.tracker is not None:
            self.tracker.close()
        self.parts.shutdown(wait=True, cancel_futures=True)
        self.reads.shutdown(wait=True, cancel_futures=True)
        if self._owns_legs:
            self.legs.close()
        for store in (self.store, self.profile_store):
            if store is not None:
                store.close()


class Rewriter:
    """Personalised search around an OpenSearch client. Thread-safe and fork-safe; close it, or use it as a context manager.

    client:      the caller's client; searches are sent with it, byte for byte, and it is never closed here.
    store:       a Redis or Valkey URL, a redis-py client, or a Store; None for no store.
    settings:    see docs/settings.md.
    leg_client:  the client of the optional legs, which stays the caller's to close; by default a clone of `client` with
                 connections of its own.
    hooks:       called with SearchDetails after each search.
    Raises ConfigurationError with every fault of the switches as they stand, or of the settings' templates.
    """

    def __init__(
        self,
        client: Any,
        store: str | Any | None = None,
        settings: Settings | None = None,
        *,
        profile_store: str | Any | None = None,
        leg_client: Any | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.settings = settings or Settings()
        self._client = client
        self._store = store if store is not None else self.settings.store.url
        self._profile_store = profile_store if profile_store is not None else self.settings.store.profile_url
        self._leg_client = leg_client
        self._owns_client = False
        self._hooks = Hooks(hooks)
        refuse_wrong_switches(self.settings, os.environ)
        self._templates = load_templates(self.settings)
        self._lock = Lock()
        self._process: _Process | None = None
        self._closed = False
        _rewriters.add(self)
        self._started()

    @classmethod
    def from_settings(cls, path: str | Path, **options: Any) -> Rewriter:
        """Return a rewriter with clients of its own, as the file says. Raises ConfigurationError with every fault of the file."""
        settings = Settings.from_toml(path)
        rewriter = cls(connect(settings.opensearch, settings.budget.max_in_flight), settings=settings, **options)
        rewriter._owns_client = True
        return rewriter

    def search(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as `client.search` would, personalised for `subject` (by default the one of the enclosing `with subject`).

        Returns what `client.search` returns; raises what it raises, and nothing else.
        """
        return self.search_details(subject=subject, **arguments)[0]

    def search_details(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> tuple[Any, Report]:
        """Search, and say how it went."""
        if isinstance(subject, Unset):
            subject = CURRENT_SUBJECT.get()
        try:
            process, why = self._started(), "the rewriter is closed"
        except Exception as error:  # noqa: BLE001  a child that can make no threads still searches
            process, why = None, f"internal: {type(error).__name__}"
        if process is None:
            return self._client.search(**arguments), Report(Reason.SWITCHED_OFF, why)
        job = _Job()
        flow = answer(process.core, arguments, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic)
        response, report = drive(flow, lambda step: self._perform(process, job, arguments, step))
        indices = named(arguments.get("index"))
        if report.policy is not None:
            process.refresh.saw(indices)
        self._hooks.tell(indices, report)
        return response, report

    def track(self, event: Mapping[str, Any]) -> bool:
        """Take in one UBI event, and append it to the store's streams in the background. Never waits, never raises.

        Returns False where it was not taken: it is no event, lacks consent, or finds neither room nor a Redis. `status().tracked`
        counts what became of all of them; only what the store acknowledged is *accepted*. `close` sends what waits.
        """
        process = self._started()
        return process is not None and process.tracker is not None and process.tracker.track(event)

    def wrap(self) -> Any:
        """Return an object that behaves as the client does, but whose `search` is personalised."""
        return Wrapped(self._client, self.search)

    @contextmanager
    def subject(self, subject: Subject | None) -> Iterator[None]:
        """Say who searches within the block; threads and tasks are apart."""
        token = CURRENT_SUBJECT.set(subject)
        try:
            yield
        finally:
            CURRENT_SUBJECT.reset(token)

    def status(self) -> Status:
        """Return how things stand, for a health page: switches, breaker, lag, store, templates, index facts, what is in flight."""
        process = self._started()
        ping: str | None = None
        fleet: dict[str, str] = {}
        if process is not None and process.store is not None:
            try:
                process.store.ping()
                fleet = process.store.announced(fleet_key(process.core.keys.prefix))
                ping = "ok"
            except Exception as error:  # noqa: BLE001  a health page shows what is wrong
                ping = type(error).__name__
        if process is None:
            return CLOSED
        found = status_of(
            process.core, process.refresh, process.in_flight, ping, fleet, process.plans_dropped, self._hooks,
            time.monotonic(),
        )  # fmt: skip
        return replace(found, tracked=process.tracker.counts if process.tracker else {})

    def close(self) -> None:
        """End everything that this rewriter began. Searches go on as the caller's own."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.close()
            if self._owns_client:
                self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> _Process | None:
        """Return what this process has, made at first use: nothing in it connects before it must."""
        process = self._process
        if process is not None or self._closed:
            return process
        with self._lock:
            if self._process is None and not self._closed:
                core = Core(self.settings, self._templates)
                legs = self._leg_client or cloned(self._client, self.settings.budget.max_in_flight)
                # Reads that outlive their search keep their connection, beside those that are under way.
                connections = 2 * self.settings.budget.max_in_flight
                store, profile_store = (
                    open_store(given, connections=connections) for given in (self._store, self._profile_store)
                )
                owns_legs = self._leg_client is None
                self._process = _Process(self, core, store, profile_store, legs, owns_legs=owns_legs)
            return self._process

    def after_fork(self) -> None:
        """In a child: threads are gone, sockets are the parent's, locks may be held for good. Start afresh at the next search."""
        self._lock = Lock()
        self._process = None

    def _perform(self, process: _Process, job: _Job, arguments: Mapping[str, Any], step: Any) -> Any:
        """Do what `answer` asks for, on the caller's thread."""
        match step:
            case Baseline():
                return self._client.search(**arguments)
            case Begin(part):
                job.personal = _begun(process, part, lambda inner: _perform_part(process, job, inner))
                return job.personal is not None
            case Collect(cutoff_s):
                return _collected(job, time.monotonic() + cutoff_s)
            case SavePlan():
                _save(process, step)
                return None
        raise TypeError(f"no such step: {step!r}")


def _perform_part(process: _Process, job: _Job, step: Any) -> Any:
    """Do what a part asks for, on a worker."""
    match step:
        case FetchSignals(query, budget_s):
            return _fetched(process, query, budget_s)
        case Launch(part):
            job.explored = _begun(process, part, lambda inner: _perform_part(process, job, inner))
            return None
        case SearchLeg(arguments, timeout_s):
            try:
                return hits_of(process.legs.search(**arguments, request_timeout=timeout_s))
            except LegFault:
                raise
            except Exception as error:  # noqa: BLE001  whatever a client raises is a fault of the leg
                raise fault_of(error) from None
    raise TypeError(f"no such step: {step!r}")


def _begun(process: _Process, part: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> Future[T] | None:
    """Start a part on a worker, in the caller's context; None where no place is left."""
    if not process.in_flight.try_enter():
        part.close()
        return None
    try:
        future = process.parts.submit(contextvars.copy_context().run, drive, part, perform)
    except RuntimeError:  # closed meanwhile
        process.in_flight.leave()
        part.close()
        return None
    future.add_done_callback(process.in_flight.leave)
    return future


def _collected(job: _Job, until_s: float) -> Collected:
    part = _in_time(job.personal, until_s)
    if isinstance(part, Exception):
        part = Personal(Reason.SEARCH_FAILED, f"internal: {type(part).__name__}")
    if part is None or part.reason is not Reason.PERSONALIZED:
        return Collected(part, None)
    explored = _in_time(job.explored, until_s)
    if isinstance(explored, Exception):
        explored = Explored(error=f"internal: {type(explored).__name__}")
    return Collected(part, explored)


def _in_time(future: Future[T] | None, until_s: float) -> T | Exception | None:
    if future is None:
        return None
    try:
        return future.result(max(0.0, until_s - time.monotonic()))
    except NotYet:
        return None
    except Exception as error:  # noqa: BLE001  nothing of ours raises into a search
        return error


def _fetched(process: _Process, query: Query, budget_s: float) -> Fetched:
    """Read the store or both stores, and wait for `budget_s` at most. Late answers are remembered when they come."""
    if process.store is None:
        return Fetched(Signals())
    until_s = time.monotonic() + budget_s
    if process.profile_store is None:
        found = _in_time(_reading(process, process.store, query), until_s)
        if isinstance(found, Signals):
            return Fetched(found)
        return Fetched(None, *why_no_signals(found))
    session_query, profile_query = separated(query)
    reads = (_reading(process, process.store, session_query), _reading(process, process.profile_store, profile_query))
    session, profile = _in_time(reads[0], until_s), _in_time(reads[1], until_s)
    if not isinstance(session, Signals) and not isinstance(profile, Signals):
        return Fetched(None, *why_no_signals(session))
    return Fetched(
        joined(session if isinstance(session, Signals) else None, profile if isinstance(profile, Signals) else None)
    )


def _reading(process: _Process, store: Store, query: Query) -> Future[Signals]:
    """Start a read. It takes a place of its own, since it may outlive the part that waits for it."""
    process.in_flight.enter()
    future = process.reads.submit(store.read, query)

    def done(read: Future[Signals]) -> None:
        process.in_flight.leave()
        if not read.cancelled() and read.exception() is None:
            process.core.last_known.put(query, read.result(), time.monotonic())

    future.add_done_callback(done)
    return future


def _save(process: _Process, step: SavePlan) -> None:
    """Save a plan on a worker, here and in the store, or not at all: the next page then is the baseline's."""
    if not process.in_flight.try_enter(PLANS_SHARE):
        process.plans_dropped += 1
        return

    def save() -> None:
        key, plan = step.plan()
        if key is not None:
            process.core.plans.put(key, plan, len(plan), time.monotonic())
            if process.store is not None:
                process.store.save_plan(key, plan, step.ttl_s)

    try:
        process.parts.submit(save).add_done_callback(process.in_flight.leave)
    except RuntimeError:
        process.in_flight.leave()


_rewriters: weakref.WeakSet[Rewriter] = weakref.WeakSet()


def _forget_parent() -> None:
    for rewriter in list(_rewriters):
        rewriter.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
