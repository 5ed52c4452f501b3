"""The async shell: leg 1 on the caller's own task, the personal part on another.

Everything runs on the event loop that first searches. A read that outlives its budget is not cancelled, which would cost its
connection, but left to finish: its answer is remembered, and it keeps its place among what is in flight until then. Three tasks
do the background work; in a child after a fork, and on another loop, all of it is made anew.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import randbits
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
from rewriter.shell.legs import PLANS_SHARE, InFlight, cloned, connect_async, fault_of, hits_of, named, why_no_signals
from rewriter.shell.refresh import LOCAL_PERIOD_S, WORDS_PERIOD_S, Call, Refresh, fleet_key, load_templates
from rewriter.shell.status import CLOSED, Status, status_of
from rewriter.shell.switch_sources import refuse_wrong_switches
from rewriter.shell.track import AsyncTracker
from rewriter.shell.wrap import CURRENT_SUBJECT, Unset, Wrapped, unset
from rewriter.signals.redis_store import AsyncRedisStore, open_async_store
from rewriter.signals.store import AsyncStore, Query, Signals, joined, separated
from rewriter.subject import Subject

T = TypeVar("T")


async def drive(flow: Generator[Any, Any, T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """Run a generator to its end, as its sync twin does. A cancelled search closes it, and so gives its permit back."""
    try:
        step = next(flow)
        while True:
            try:
                result = await perform(step)
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
        self.personal: asyncio.Task[Personal] | None = None
        self.explored: asyncio.Task[Explored] | None = None


class _OnLoop:
    """What one event loop has: clients, tasks."""

    def __init__(
        self, core: Core, store: AsyncStore | None, profile_store: AsyncStore | None, legs: Any, *, owns_legs: bool
    ) -> None:
        self._pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.core = core
        self.store = store
        self.profile_store = profile_store
        self.legs = legs
        self._owns_legs = owns_legs
        self.in_flight = InFlight(core.settings.budget.max_in_flight)
        self.refresh = Refresh(core, time.monotonic, time.time, has_store=store is not None)
        self.plans_dropped = 0
        self.closing = False
        self.tracker = AsyncTracker(store, core.settings) if isinstance(store, AsyncRedisStore) else None
        self.tasks: set[asyncio.Task[Any]] = set()
        # The loop's own executor also looks up names, and a slow DNS must not keep the kill switch waiting.
        self._files = ThreadPoolExecutor(1, "rewriter-local")
        self.refresh.local()
        self.background = [
            self.loop.create_task(self._repeat("local", LOCAL_PERIOD_S, self._local)),
            self.loop.create_task(self._repeat("words", WORDS_PERIOD_S, self._words)),
            self.loop.create_task(self._repeat("facts", WORDS_PERIOD_S, self._facts)),
        ]

    def is_this_loop(self) -> bool:
        """Whether it was made in this process, on the loop that is running."""
        return self._pid == os.getpid() and self.loop is asyncio.get_running_loop()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task whose place in flight is taken already; it gives it back, and is kept from being collected half-way."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        self.in_flight.leave()
        if not task.cancelled():
            task.exception()  # seen: an abandoned part's error is nobody's

    async def _repeat(self, name: str, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do background work until all of it is closed. Whatever a round raises, the next one comes.

        Being cancelled alone would not do: redis-py 8.1 can lose a cancellation while it connects, and go on.
        """
        while not self.closing:
            try:
                await work()
                self.refresh.failed(name, None)
            except Exception as error:  # noqa: BLE001  a dead task would be a dead kill switch
                self.refresh.failed(name, error)
            await asyncio.sleep(period_s)

    async def _local(self) -> None:
        await self.loop.run_in_executor(self._files, self.refresh.local)

    async def _words(self) -> None:
        await drive(self.refresh.words(), self._perform)

    async def _facts(self) -> None:
        await drive(self.refresh.facts(), self._perform)

    async def _perform(self, call: Call) -> Any:
        profiles = self.profile_store or self.store
        match call:
            case Call("text", (key,)):
                return await self.store.read_text(key) if self.store else None
            case Call("text", (key, "profile")):
                return await profiles.read_text(key) if profiles else None
            case Call("many", (bases, fields, limit)):
                return await profiles.read_many(bases, fields, limit) if profiles else None
            case Call("announce", (key, name, text, now_s)):
                return await self.store.announce(key, name, text, now_s) if self.store else None
            case Call("mapping", (index,)):
                return await self.legs.indices.get_mapping(index=index, request_timeout=5)
            case _:
                return await self.legs.indices.get_settings(
                    index=call.arguments[0], flat_settings=True, request_timeout=5
                )

    async def close(self) -> None:
        """End tasks and connections."""
        if self.tracker is not None:
            await self.tracker.close()
        self.closing = True
        left = [*self.background, *self.tasks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._files.shutdown(wait=False)
        if self._owns_legs:
            await self.legs.close()
        for store in (self.store, self.profile_store):
            if store is not None:
                await store.close()


class AsyncRewriter:
    """The same as Rewriter, awaited, around an AsyncOpenSearch client. Use it on one loop; `async with`, or `await close()`."""

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
        for given in (self._store, self._profile_store):
            open_async_store(given)  # what cannot be one is refused now, not in the first search; nothing connects yet
        self._here: _OnLoop | None = None
        self._closed = False

    @classmethod
    def from_settings(cls, path: str | Path, **options: Any) -> AsyncRewriter:
        """Return a rewriter with clients of its own, as the file says. Raises ConfigurationError with every fault of the file."""
        settings = Settings.from_toml(path)
        rewriter = cls(connect_async(settings.opensearch, settings.budget.max_in_flight), settings=settings, **options)
        rewriter._owns_client = True
        return rewriter

    async def search(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as `client.search` would, personalised. See Rewriter.search."""
        return (await self.search_details(subject=subject, **arguments))[0]

    async def search_details(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> tuple[Any, Report]:
        """Search, and say how it went."""
        if isinstance(subject, Unset):
            subject = CURRENT_SUBJECT.get()
        try:
            here, why = self._started(), "the rewriter is closed"
        except Exception as error:  # noqa: BLE001  whatever keeps us from starting keeps nobody from searching
            here, why = None, f"internal: {type(error).__name__}"
        if here is None:
            return await self._client.search(**arguments), Report(Reason.SWITCHED_OFF, why)
        job = _Job()
        flow = answer(here.core, arguments, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic)
        response, report = await drive(flow, lambda step: self._perform(here, job, arguments, step))
        indices = named(arguments.get("index"))
        if report.policy is not None:
            here.refresh.saw(indices)
        self._hooks.tell(indices, report)
        return response, report

    async def track(self, event: Mapping[str, Any]) -> bool:
        """Take in one UBI event. See Rewriter.track."""
        here = self._started()
        return here is not None and here.tracker is not None and here.tracker.track(event)

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

    async def status(self) -> Status:
        """Return how things stand, for a health page. See Rewriter.status."""
        here = self._started()
        if here is None:
            return CLOSED
        ping: str | None = None
        fleet: dict[str, str] = {}
        if here.store is not None:
            try:
                await here.store.ping()
                fleet = await here.store.announced(fleet_key(here.core.keys.prefix))
                ping = "ok"
            except Exception as error:  # noqa: BLE001  a health page shows what is wrong
                ping = type(error).__name__
        found = status_of(
            here.core, here.refresh, here.in_flight, ping, fleet, here.plans_dropped, self._hooks, time.monotonic()
        )
        return replace(found, tracked=here.tracker.counts if here.tracker else {})

    async def close(self) -> None:
        """End everything that this rewriter began. Searches go on as the caller's own."""
        self._closed = True
        here, self._here = self._here, None
        if here is not None and here.is_this_loop():  # what was on another loop, or in a parent, is gone with it
            await here.close()
        if self._owns_client:
            await self._client.close()

    async def __aenter__(self) -> Self:
        self._started()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _started(self) -> _OnLoop | None:
        here = self._here
        if here is not None and here.is_this_loop():
            return here
        if self._closed:
            return None
        legs = self._leg_client or cloned(self._client, self.settings.budget.max_in_flight)
        core = Core(self.settings, self._templates)
        # Reads that outlive their search keep their connection, beside those that are under way.
        connections = 2 * self.settings.budget.max_in_flight
        store, profile_store = (
            open_async_store(given, connections=connections) for given in (self._store, self._profile_store)
        )
        self._here = _OnLoop(core, store, profile_store, legs, owns_legs=self._leg_client is None)
        return self._here

    async def _perform(self, here: _OnLoop, job: _Job, arguments: Mapping[str, Any], step: Any) -> Any:
        """Do what `answer` asks for, on the caller's task."""
        match step:
            case Baseline():
                return await self._client.search(**arguments)
            case Begin(part):
                job.personal = _begun(here, part, lambda inner: _perform_part(here, job, inner))
                return job.personal is not None
            case Collect(cutoff_s):
                return await _collected(job, time.monotonic() + cutoff_s)
            case SavePlan():
                _save(here, step)
                return None
        raise TypeError(f"no such step: {step!r}")


async def _perform_part(here: _OnLoop, job: _Job, step: Any) -> Any:
    """Do what a part asks for, on its task."""
    match step:
        case FetchSignals(query, budget_s):
            return await _fetched(here, query, budget_s)
        case Launch(part):
            job.explored = _begun(here, part, lambda inner: _perform_part(here, job, inner))
            return None
        case SearchLeg(arguments, timeout_s):
            try:
                return hits_of(await here.legs.search(**arguments, request_timeout=timeout_s))
            except LegFault:
                raise
            except Exception as error:  # noqa: BLE001  whatever a client raises is a fault of the leg
                raise fault_of(error) from None
    raise TypeError(f"no such step: {step!r}")


def _begun(
    here: _OnLoop, part: Generator[Any, Any, T], perform: Callable[[Any], Awaitable[Any]]
) -> asyncio.Task[T] | None:
    if not here.in_flight.try_enter():
        part.close()
        return None
    return here.spawn(drive(part, perform))


async def _collected(job: _Job, until_s: float) -> Collected:
    part = await _in_time(job.personal, until_s)
    if isinstance(part, BaseException):
        part = Personal(Reason.SEARCH_FAILED, f"internal: {type(part).__name__}")
    if part is None or part.reason is not Reason.PERSONALIZED:
        return Collected(part, None)
    explored = await _in_time(job.explored, until_s)
    if isinstance(explored, BaseException):
        explored = Explored(error=f"internal: {type(explored).__name__}")
    return Collected(part, explored)


async def _in_time(task: asyncio.Task[T] | None, until_s: float) -> T | BaseException | None:
    """Wait for a task without cancelling it."""
    if task is None:
        return None
    if not task.done():
        await asyncio.wait({task}, timeout=max(0.0, until_s - time.monotonic()))
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()


async def _fetched(here: _OnLoop, query: Query, budget_s: float) -> Fetched:
    """Read the store or both stores, and wait for `budget_s` at most. Late answers are remembered when they come."""
    if here.store is None:
        return Fetched(Signals())
    until_s = time.monotonic() + budget_s
    if here.profile_store is None:
        found = await _in_time(_reading(here, here.store, query), until_s)
        if isinstance(found, Signals):
            return Fetched(found)
        return Fetched(None, *why_no_signals(found))
    session_query, profile_query = separated(query)
    tasks = (_reading(here, here.store, session_query), _reading(here, here.profile_store, profile_query))
    session, profile = [await _in_time(task, until_s) for task in tasks]
    if not isinstance(session, Signals) and not isinstance(profile, Signals):
        return Fetched(None, *why_no_signals(session))
    return Fetched(
        joined(session if isinstance(session, Signals) else None, profile if isinstance(profile, Signals) else None)
    )


def _reading(here: _OnLoop, store: AsyncStore, query: Query) -> asyncio.Task[Signals]:
    here.in_flight.enter()
    task = here.spawn(store.read(query))
    task.add_done_callback(lambda read: _remember(here, query, read))
    return task


def _remember(here: _OnLoop, query: Query, read: asyncio.Task[Signals]) -> None:
    if not read.cancelled() and read.exception() is None:
        here.core.last_known.put(query, read.result(), time.monotonic())


def _save(here: _OnLoop, step: SavePlan) -> None:
    """Save a plan on a task, here and in the store, or not at all: the next page then is the baseline's."""
    if not here.in_flight.try_enter(PLANS_SHARE):
        here.plans_dropped += 1
        return

    async def save() -> None:
        key, plan = step.plan()
        if key is not None:
            here.core.plans.put(key, plan, len(plan), time.monotonic())
            if here.store is not None:
                await here.store.save_plan(key, plan, step.ttl_s)

    here.spawn(save())
