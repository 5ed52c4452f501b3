"""The async shell: the baseline on the caller's own task, the personal part on another (see `tasks`).

The caller's own search goes first: the rewriter's work begins once that search waits for the server (`tasks.Underway`).

Each event loop has tasks and connections of its own, made at its first search. All loops of a process share one `Core`; a child
makes its own after a fork. Closed loops are dropped. Beyond MAX_LOOPS at a time, a loop's searches are the caller's own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import randbits
from typing import Any, Generic, Self, assert_never, cast

from rewriter.client.batch import error_of
from rewriter.client.registry import around
from rewriter.client.seam import SearchClient
from rewriter.core import Core
from rewriter.expression import parsed_indices
from rewriter.flow.answer import answer
from rewriter.flow.batch import MAX_SEARCHES
from rewriter.flow.rewrite_way import may_be_sent_once
from rewriter.flow.steps import (
    AwaitOwn,
    AwaitPart,
    AwaitPool,
    Baseline,
    CallerStep,
    Collect,
    SavePlan,
    SendOnce,
    SendOwn,
    Sent,
    first_of_batch,
    first_step,
)
from rewriter.observe.hooks import Hook, Hooks
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.batch import Batch, failed, items_of, with_items
from rewriter.shell.given import checked_hooks, clone_of
from rewriter.shell.legs import connect
from rewriter.shell.own_search import OwnSearch
from rewriter.shell.ready import POLL_S, ever, missing, wanted
from rewriter.shell.status import CLOSED, Status, status_of
from rewriter.shell.switch_sources import SwitchSources
from rewriter.shell.task_jobs import Job, collected, ended_part, ended_pool
from rewriter.shell.task_parts import drive
from rewriter.shell.tasks import TaskRuntime
from rewriter.shell.template_files import load_templates
from rewriter.shell.underway import Underway
from rewriter.shell.wrap import Client, Unset, WrappedAsync, given_or_current, searching, unset
from rewriter.signals.redis_store import open_async_store, open_async_stores
from rewriter.signals.store import StoreName
from rewriter.subject import Subject

CLOSE_ELSEWHERE_S = 5.0
"""How long `close` waits for the tasks of another loop."""

MAX_LOOPS = 8
"""How many event loops one AsyncRewriter serves at a time. Each has its own clients, background tasks and threads."""


class AsyncRewriter(Generic[Client]):
    """The same as Rewriter, awaited, around an AsyncOpenSearch or AsyncElasticsearch client: `async with`, or `await close()`.

    The arguments are those of Rewriter. If a loop ends without `close`, as after an error in `asyncio.run`, the rewriter's work on
    it ends with the loop's tasks. Several loops are served as long as `client` serves them.
    Raises ConfigurationError as Rewriter does.
    """

    def __init__(
        self,
        client: Client,
        store: str | Any | None = None,
        settings: Settings | None = None,
        *,
        profile_store: str | Any | None = None,
        leg_client: Any | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        read_hooks = checked_hooks("AsyncRewriter", client, leg_client, settings, hooks)
        self.settings = settings or Settings()
        self._client = around(client, leg_client, is_async=True)
        url, profile_url = self.settings.store.plain_urls
        self._store = store if store is not None else url
        self._profile_store = profile_store if profile_store is not None else profile_url
        self._leg_client = around(leg_client, client, is_async=True) if leg_client is not None else None
        self._owns_client = False
        self._hooks = Hooks(read_hooks)
        self._templates = load_templates(self.settings)
        for given in (self._store, self._profile_store):
            open_async_store(given)  # refuses a wrong store now, not in the first search; connects nothing
        if leg_client is None:
            # Refuses a client that cannot be cloned; it is cheap.
            clone_of("AsyncRewriter", client, self._client, self.settings.leg_connections)
        self._shared: dict[int, tuple[Core, SwitchSources]] = {}
        self._shared[os.getpid()] = self._learning()
        self._loops: dict[int, dict[asyncio.AbstractEventLoop, TaskRuntime]] = {}
        self._closed = False

    @classmethod
    def from_settings(
        cls, path: str | Path, client: Any | None = None, store: Any | None = None, **options: Any
    ) -> AsyncRewriter[Any]:
        """Return a rewriter as the file says, around `client` and `store` or, without them, around its own.

        client, store: those to use; by default the ones that the file describes.
        options:       further arguments of the constructor.
        Raises ConfigurationError with every fault of the file, or of the arguments.
        """
        settings = Settings.from_toml(path)
        own = client is None
        searched_by: Any = (
            connect(settings.opensearch, settings.budget.max_in_flight, is_async=True).raw if own else client
        )
        rewriter = cls(searched_by, store, settings, **options)
        rewriter._owns_client = own
        return rewriter

    async def search(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as `client.search` would, personalized. See Rewriter.search."""
        return (await self.search_details(subject=subject, **arguments))[0]

    async def search_details(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> tuple[Any, Report]:
        """Search, and return the response with its report. See Rewriter.search_details."""
        return await self._search(self._client, subject, arguments)

    async def _search(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Search by `client`: the caller's, or the same with other options."""
        job = Job()
        if may_be_sent_once(self.settings, arguments.get("index")):
            self._begin(job, client, subject, arguments)
            if job.once is not None:
                return await self._sent_once(client, job, job.once, arguments)
        started_s = time.monotonic()

        def begin() -> None:
            if job.begun:
                self._begin_first(job)
            else:
                self._begin(job, client, subject, arguments)

        try:
            response = await Underway(client.raw.search(**arguments), begin)
        except BaseException as error:
            job.abandon()
            self._failed(arguments, error, started_s)
            raise
        try:
            if not job.begun:  # the search had nothing to wait for
                begin()
            self._begin_first(job)
            body = client.body_of(response)
            shown, report = await self._finished(job, arguments, Sent(body, started_s, job.refused))
            return response if shown is body else client.with_body(response, shown), report
        except Exception as error:  # noqa: BLE001  the caller's answer has arrived: a fault of ours must not lose it
            return response, Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")
        finally:
            job.abandon()

    async def msearch(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search a batch as `client.msearch` would, each search personalized. See Rewriter.msearch."""
        return (await self.msearch_details(subject=subject, **arguments))[0]

    async def msearch_details(
        self, *, subject: Subject | Unset | None = unset, **arguments: Any
    ) -> tuple[Any, list[Report]]:
        """Search a batch, and return a report for each of its searches, in their order."""
        return await self._search_batch(self._client, subject, arguments)

    async def _search_batch(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, list[Report]]:
        """Search a batch by `client`: the caller's, or the same with other options."""
        batch: Batch[Job] = Batch()
        begun: list[bool] = []
        started_s = time.monotonic()

        def begin() -> None:
            begun.append(True)
            self._begin_batch(batch, client, subject, arguments)

        try:
            response = await Underway(client.raw.msearch(**arguments), begin)
        except BaseException as error:
            abandon(batch)
            self._failed(arguments, error, started_s)
            raise
        reports: list[Report] = []
        try:
            if not begun:  # the searches had nothing to wait for
                begin()
            self._begin_first_batch(batch)
            body, arrived_s = client.body_of(response), time.monotonic()
            if (items := items_of(body)) is None:
                return response, batch.reports_without_answers
            shown = [
                await self._answered(batch, number, item, started_s, arrived_s, reports)
                for number, item in enumerate(items)
            ]
            unchanged = all(one is item for one, item in zip(shown, items, strict=True))
            return response if unchanged else client.with_body(response, with_items(body, shown)), reports
        except Exception as error:  # noqa: BLE001  the caller's answers are here: a fault of ours must not take them away
            missing = len(items_of(client.body_of(response)) or ()) - len(reports)
            return response, [*reports, *[Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")] * missing]
        finally:
            abandon(batch)

    async def track(self, event: Mapping[str, Any]) -> bool:
        """Accept one UBI event. See Rewriter.track."""
        here = self._started()
        return here is not None and here.tracker is not None and here.tracker.track(event)

    def wrap(self) -> Client:
        """Return an object that behaves as the client does, but whose searches are personalized. Its type is the client's."""

        async def search(client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]) -> Any:
            return (await self._search(client, subject, arguments))[0]

        async def msearch(client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]) -> Any:
            return (await self._search_batch(client, subject, arguments))[0]

        return cast("Client", WrappedAsync(self._client, search=search, msearch=msearch))

    def subject(self, subject: Subject | None) -> AbstractContextManager[None]:
        """Set the subject of the searches within the block. See Rewriter.subject."""
        return searching(subject)

    async def status(self) -> Status:
        """Return the state of this process's personalization, for a health page. See Rewriter.status."""
        here = self._started()
        if here is None:
            return CLOSED
        store, fleet = await here.looked()
        found = status_of(
            here.core,
            here.refresh,
            here.in_flight,
            here.rewritten,
            store,
            fleet,
            here.plans,
            self._hooks,
            time.monotonic(),
        )
        return replace(found, tracked=here.tracker.counts if here.tracker else {})

    def local_status(self) -> Status:
        """Return the state from memory alone, of the loop that searched last. See Rewriter.local_status."""
        here = self._here
        if here is None or self._closed:
            return CLOSED
        found = status_of(
            here.core,
            here.refresh,
            here.in_flight,
            here.rewritten,
            None,
            {},
            here.plans,
            self._hooks,
            time.monotonic(),
        )
        return replace(found, tracked=here.tracker.counts if here.tracker else {})

    async def wait_ready(self, timeout_s: float = 10.0, *, index: str | Sequence[str] | None = None) -> bool:
        """Wait until this loop has read what searches need. See Rewriter.wait_ready."""
        until_s = time.monotonic() + timeout_s
        while (here := self._started()) is not None:
            expression = wanted(here.core, index, time.monotonic())
            found = missing(here.core, here.refresh, expression)
            if not found or not ever(found) or time.monotonic() >= until_s:
                return not found
            await asyncio.sleep(POLL_S)
        return False

    async def close(self) -> None:
        """End all tasks, threads and connections of this rewriter, on all loops. Later searches are the caller's own.

        If it is cancelled, as by a time limit, they end all the same.
        """
        self._closed = True
        loops, this = self._loops.get(os.getpid(), {}), asyncio.get_running_loop()
        elsewhere: set[asyncio.Future[None]] = set()
        for loop, here in list(loops.items()):  # all begin to end before any is waited for: this may be cancelled
            if loop is this:
                here.end()
            elif loop.is_running():
                elsewhere.add(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(here.close(), loop)))
            else:
                here.drop()
        if this in loops:
            await loops[this].close()
        if elsewhere:
            await asyncio.wait(elsewhere, timeout=CLOSE_ELSEWHERE_S)
        self._loops.clear()
        if self._owns_client:
            await self._client.raw.close()

    async def __aenter__(self) -> Self:
        self._started()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def _here(self) -> TaskRuntime | None:
        """The runtime of the loop that searched last, or None."""
        return next(reversed(self._loops.get(os.getpid(), {}).values()), None)

    def _learning(self) -> tuple[Core, SwitchSources]:
        """Return what the loops of a process share, with the switches that file and environment set now."""
        given: dict[StoreName, Any] = {"store": self._store, "profile_store": self._profile_store}
        stores = [name for name, store in given.items() if store is not None]
        before = next((core for core, _ in self._shared.values()), None)
        core = Core(self.settings, self._templates, stores, self._client.write, before)
        switches = SwitchSources(self.settings)
        switches.read_local(os.environ)
        core.swap(switches=switches.combine_sources(core.snapshot.switches))
        return core, switches

    def _started(self) -> TaskRuntime | None:
        """Return the running loop's runtime, made at first use; None once the rewriter is closed, and beyond MAX_LOOPS."""
        loop = asyncio.get_running_loop()
        if self._closed:
            return None
        loops = self._loops.setdefault(os.getpid(), {})  # in one step, since loops begin on several threads
        if (here := loops.get(loop)) is not None and not here.closed:
            return here
        if len(self._loops) > 1:  # a child after a fork
            self._loops = {os.getpid(): loops}
        for other, ended in list(loops.items()):
            if other.is_closed() or ended.closed:
                loops.pop(other, ended).drop()
        if len(loops) >= MAX_LOOPS:
            return None
        # A read that outlives its search keeps its connection, so there are twice as many as permits.
        connections = 2 * self.settings.budget.max_in_flight
        stores = open_async_stores(
            self._store,
            self._profile_store,
            connections=connections,
            max_answer_bytes=self.settings.store.max_answer_bytes,
        )
        loops[loop] = here = TaskRuntime(*self._of_this_process(), stores, self._client, self._leg_client)
        return here

    def _of_this_process(self) -> tuple[Core, SwitchSources]:
        shared = self._shared.get(os.getpid())
        if shared is None:  # a child after a fork: the parent's locks may be locked forever
            self._shared = {os.getpid(): (shared := self._learning())}
        return shared

    def _begin(
        self, job: Job, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> None:
        """Decide, and start the parts beside the caller's own search, which is under way. Never raises, waits or connects.

        On a loop's first search, the loop's runtime is made one turn of the loop later, after the caller's own search was sent.
        """
        job.begun = True
        try:
            if self._closed:
                job.refused = "the rewriter is closed"
                return
            job.subject = subject = given_or_current(subject)
            core = self._of_this_process()[0]
            given = client.read(arguments)
            job.flow = answer(core, given, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic)
            step = first_step(job.flow)
            if isinstance(step, SendOnce):
                job.once, job.here = step, self._known_here()
                return
            if may_be_sent_once(self.settings, arguments.get("index")):  # it is not under way yet
                job.first = step, core.snapshot.switches
                return
            job.here = self._known_here()
            if job.here is not None:
                job.here.beside(step, job)
            else:
                job.first = step, core.snapshot.switches
                asyncio.get_running_loop().call_soon(self._begin_first, job)
        except Exception as error:  # noqa: BLE001  the caller's own search is under way and must not fail with it
            job.abandon()
            job.refused = f"internal: {type(error).__name__}"

    def _known_here(self) -> TaskRuntime | None:
        """What the running loop has, if anything yet."""
        here = self._loops.get(os.getpid(), {}).get(asyncio.get_running_loop())
        return None if here is None or here.closed else here

    def _begin_first(self, job: Job) -> None:
        """Start the parts beside the first search of a loop, unless they were started."""
        if job.first is None:
            return
        (step, switches), job.first = job.first, None
        try:
            job.here = self._started()
            if job.here is None:
                job.refused = "the rewriter is closed" if self._closed else f"more than {MAX_LOOPS} event loops"
            elif job.here.core.snapshot.switches != switches:
                job.refused = (
                    "a switch has changed since the rewriter was made"  # `_started` has just read the switches
                )
            else:
                job.here.beside(step, job)
        except Exception as error:  # noqa: BLE001  as in `_begin`
            job.refused = f"internal: {type(error).__name__}"

    def _begin_batch(
        self, batch: Batch[Job], client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> None:
        """Decide on each search of a batch that is under way, and start what runs beside it. Never raises, waits or connects."""
        try:
            if self._closed:
                batch.refused = "the rewriter is closed"
                return
            batch.subject = subject = given_or_current(subject)
            given = client.read_batch(arguments)
            if isinstance(given, str):
                batch.unread = given
                return
            batch.given = given
            core = self._of_this_process()[0]
            steps = []
            for one in given[:MAX_SEARCHES]:
                job = Job()
                batch.jobs.append(job)
                job.subject = subject
                job.flow = answer(
                    core, one, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic, batched=True
                )
                steps.append(first_of_batch(job.flow))
            here = self._loops.get(os.getpid(), {}).get(asyncio.get_running_loop())
            if here is not None and not here.closed:
                self._beside_batch(here, steps, batch)
            else:
                batch.first = steps, core.snapshot.switches
                asyncio.get_running_loop().call_soon(self._begin_first_batch, batch)
        except Exception as error:  # noqa: BLE001  whatever fails here, the caller's own searches are under way
            abandon(batch)
            batch.refused = f"internal: {type(error).__name__}"

    def _begin_first_batch(self, batch: Batch[Job]) -> None:
        """Start what runs beside the first batch of a loop, unless that is done."""
        if batch.first is None:
            return
        (steps, switches), batch.first = batch.first, None
        try:
            here = self._started()
            if here is None:
                batch.refused = "the rewriter is closed" if self._closed else f"more than {MAX_LOOPS} event loops"
            elif here.core.snapshot.switches != switches:
                batch.refused = "a switch has changed since the rewriter was made"  # it is read again only here
            else:
                self._beside_batch(here, steps, batch)
        except Exception as error:  # noqa: BLE001  as above
            batch.refused = f"internal: {type(error).__name__}"

    def _beside_batch(self, here: TaskRuntime, steps: Sequence[Baseline], batch: Batch[Job]) -> None:
        for job in batch.jobs:
            job.here = here
        here.beside_batch(steps, batch.jobs)

    async def _answered(
        self, batch: Batch[Job], number: int, item: Any, started_s: float, arrived_s: float, reports: list[Report]
    ) -> Any:
        """Return the page of one search of a batch, and add its report. Never raises: the caller's own answer is here."""
        job = batch.job(number)
        arguments = batch.arguments(number)
        try:
            report = batch.report(number) if job is None else failed(item)
            if job is None or report is not None:
                shown, report = item, report or batch.report(number)
                self._hooks.of_batch(
                    parsed_indices(arguments.get("index")), arguments, batch.subject, shown, report, error_of(item),
                    (arrived_s - started_s) * 1000.0,
                )  # fmt: skip
            else:
                job.arrived_s = arrived_s
                shown, report = await self._finished(
                    job, arguments, Sent(item, started_s, job.refused or batch.refused)
                )
        except Exception as error:  # noqa: BLE001  as above
            shown, report = item, Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")
        reports.append(report)
        return shown

    async def _sent_once(
        self, client: SearchClient, job: Job, first: SendOnce, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Answer a search that is sent once, with boosts in it; the caller's own is sent where that does not serve."""
        own, flow = OwnSearch(client, arguments, job), job.flow
        assert flow is not None
        try:
            if job.here is not None:
                refused = job.here.send_once(first, job)
            else:  # what the loop needs is made once the caller's own search is under way
                first.part.close()
                refused = "nothing is known on this event loop yet"
                asyncio.get_running_loop().call_soon(self._started)
            shown, report = await drive(flow, lambda step: self._perform(job, step, own), first=refused)
            response = own.response_with(shown, job.rewritten, report)
        except Exception as error:  # noqa: BLE001  a fault of ours must not cost the caller a search
            try:
                response = await own.whatever_happened()
            except Exception as own_error:
                self._failed(arguments, own_error, own.started_s)
                raise
            shown, report = client.body_of(response), Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")
        finally:
            job.abandon()
        if job.here is not None:
            job.here.tally.note(report.reason, time.monotonic())
        self._hooks.finished(parsed_indices(arguments.get("index")), arguments, job.subject, shown, report)
        return response, report

    async def _finished(self, job: Job, arguments: Mapping[str, Any], sent: Sent) -> tuple[Any, Report]:
        """Return the page and its report, once the caller's own search was answered."""
        response, report = sent.response, Report(Reason.SWITCHED_OFF, job.refused)
        if job.flow is not None:
            response, report = await drive(job.flow, lambda step: self._perform(job, step), first=sent)
        here = job.here
        indices = parsed_indices(arguments.get("index"))
        if here is not None:
            here.tally.note(report.reason, time.monotonic())
        self._hooks.finished(indices, arguments, job.subject, response, report)
        return response, report

    def _failed(self, arguments: Mapping[str, Any], error: BaseException, started_s: float) -> None:
        """Tell the hooks of a search of the caller's that raised. Never raises itself."""
        with suppress(Exception):
            self._hooks.failed(parsed_indices(arguments.get("index")), error, (time.monotonic() - started_s) * 1000.0)

    async def _perform(self, job: Job, step: CallerStep, own: OwnSearch | None = None) -> Any:
        """Perform a step of `answer` on the caller's task. Without `own`, the caller's own search was answered before."""
        match step:
            case AwaitPart(until_s):
                return await ended_part(job, until_s)
            case AwaitPool(wait_s):
                return await ended_pool(job, time.monotonic() + wait_s)
            case SendOwn(racing) if own is not None:
                return await (own.raced() if racing else own.sent())
            case AwaitOwn() if own is not None:
                return await own.awaited()
            case Baseline() if own is not None:
                job.once = job.personal = None
                sent = await own.sent(lambda: job.here.beside(step, job) if job.here is not None else None)
                return replace(sent, refused=job.refused)
            case Collect(cutoff_s):
                arrived_s = time.monotonic() if job.arrived_s is None else job.arrived_s
                return await collected(job, arrived_s + cutoff_s)
            case SavePlan():
                if job.here is not None:
                    job.here.plans.save(step)
                return None
            case Baseline() | SendOwn() | SendOnce() | AwaitOwn():
                raise TypeError(f"{type(step).__name__} is no step of a search whose baseline was sent")
        assert_never(step)


def abandon(batch: Batch[Job]) -> None:
    """Give back what the searches of a batch hold. Their part ends by itself."""
    batch.first = None
    for job in batch.jobs:
        job.abandon()
