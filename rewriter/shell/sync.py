"""The sync shell: the baseline on the caller's own thread, the personal part on a worker (see `threads`).

A process's runtime is made with the rewriter, and made again in a child right after a fork: never by a search. `search_details`
keeps promise P1: the code before the caller's own search raises nothing, waits for nothing and connects to nothing, and the code
after it cannot lose the answer.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from logging import getLogger
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
from rewriter.shell.own_response import OwnResponse
from rewriter.shell.parts import drive
from rewriter.shell.ready import POLL_S, ever, missing, wanted
from rewriter.shell.status import CLOSED, Status, status_of
from rewriter.shell.template_files import load_templates
from rewriter.shell.thread_jobs import Job, collected, ended_part, ended_pool
from rewriter.shell.threads import ThreadRuntime
from rewriter.shell.wrap import Client, Unset, WrappedSync, given_or_current, searching, unset
from rewriter.signals.redis_store import open_stores
from rewriter.subject import Subject

_log = getLogger("rewriter")


class Rewriter(Generic[Client]):
    """Personalized search around an OpenSearch or Elasticsearch client.

    Thread-safe and fork-safe; close it, or use it as a context manager.

    client:        the caller's client. Searches are sent with it, byte for byte; the rewriter never closes it.
    store:         a Redis or Valkey URL, a redis-py client, or a Store; by default the settings' `[store] url`, if any.
    settings:      by default Settings(); see docs/settings.md.
    profile_store: a store of its own for profiles; by default `[store] profile_url`, otherwise `store`.
    leg_client:    the client of the optional legs, which the caller closes; by default a clone of `client` with connections of its
                   own.
    hooks:         called with SearchDetails after each search.
    Raises ConfigurationError with every fault of the arguments, or of the settings' templates. Switches that cannot be understood
    do not raise: until they can, searches are the caller's own, and `status()` names the fault.
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
        read_hooks = checked_hooks("Rewriter", client, leg_client, settings, hooks)
        self.settings = settings or Settings()
        self._client = around(client, leg_client, is_async=False)
        url, profile_url = self.settings.store.plain_urls
        self._store = store if store is not None else url
        self._profile_store = profile_store if profile_store is not None else profile_url
        self._leg_client = around(leg_client, client, is_async=False) if leg_client is not None else None
        self._owns_client = False
        self._hooks = Hooks(read_hooks)
        self._templates = load_templates(self.settings)
        self._closed = False
        self._core: Core | None = None
        self._process: ThreadRuntime | None = self._made(
            self._leg_client or clone_of("Rewriter", client, self._client, self.settings.leg_connections)
        )
        self._process.start()
        _rewriters.add(self)

    @classmethod
    def from_settings(
        cls, path: str | Path, client: Any | None = None, store: Any | None = None, **options: Any
    ) -> Rewriter[Any]:
        """Return a rewriter as the file says, around `client` and `store` or, without them, around its own.

        client, store: those to use; by default the ones that the file describes.
        options:       further arguments of the constructor.
        Raises ConfigurationError with every fault of the file, or of the arguments.
        """
        settings = Settings.from_toml(path)
        own = client is None
        searched_by: Any = connect(settings.opensearch, settings.budget.max_in_flight).raw if own else client
        rewriter = cls(searched_by, store, settings, **options)
        rewriter._owns_client = own
        return rewriter

    def search(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as `client.search` would, personalized for `subject` (by default the one of the enclosing `with subject`).

        Returns what `client.search` returns; raises what it raises, and nothing else.
        """
        return self.search_details(subject=subject, **arguments)[0]

    def search_details(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> tuple[Any, Report]:
        """Search as `search` does, and return the response with its report."""
        return self._search(self._client, subject, arguments)

    def _search(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Search by `client`: the caller's, or the same with other options."""
        job = self._begun(client, subject, arguments)
        if job.once is not None:
            return self._sent_once(client, job, job.once, arguments)
        started_s = time.monotonic()
        try:
            response = client.raw.search(**arguments)
        except BaseException as error:
            job.abandon()
            self._failed(arguments, error, started_s)
            raise
        try:
            body = client.body_of(response)
            shown, report = self._finished(job, arguments, Sent(body, started_s, job.refused))
            return response if shown is body else client.with_body(response, shown), report
        except Exception as error:  # noqa: BLE001  the caller's answer has arrived: a fault of ours must not lose it
            return response, Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")
        finally:
            job.abandon()

    def msearch(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as `client.msearch` would, each search of the batch personalized for `subject`.

        Returns what `client.msearch` returns; raises what it raises, and nothing else.
        """
        return self.msearch_details(subject=subject, **arguments)[0]

    def msearch_details(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> tuple[Any, list[Report]]:
        """Search a batch, and return a report for each of its searches, in their order."""
        return self._search_batch(self._client, subject, arguments)

    def _search_batch(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> tuple[Any, list[Report]]:
        """Search a batch by `client`: the caller's, or the same with other options."""
        batch = self._begun_batch(client, subject, arguments)
        started_s = time.monotonic()
        try:
            response = client.raw.msearch(**arguments)
        except BaseException as error:
            abandon(batch)
            self._failed(arguments, error, started_s)
            raise
        reports: list[Report] = []
        try:
            body, arrived_s = client.body_of(response), time.monotonic()
            if (items := items_of(body)) is None:
                return response, batch.reports_without_answers
            shown = [
                self._answered(batch, number, item, started_s, arrived_s, reports) for number, item in enumerate(items)
            ]
            unchanged = all(one is item for one, item in zip(shown, items, strict=True))
            return response if unchanged else client.with_body(response, with_items(body, shown)), reports
        except Exception as error:  # noqa: BLE001  the caller's answers are here: a fault of ours must not take them away
            missing = len(items_of(client.body_of(response)) or ()) - len(reports)
            return response, [*reports, *[Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")] * missing]
        finally:
            abandon(batch)

    def track(self, event: Mapping[str, Any]) -> bool:
        """Accept one UBI event, and append it to the store's streams in the background. Never waits, never raises.

        Returns False if the event is refused: it is no event, lacks consent or a weight for its action, the buffer is full, or
        there is no Redis or Valkey. `status().tracked` counts all events by outcome; *accepted* are those that the store
        acknowledged. `close` sends the events that wait.
        """
        try:
            process = self._started()
        except Exception as error:  # noqa: BLE001  a child after a fork that cannot make threads
            _log.warning("an event was not tracked: %s", type(error).__name__)
            return False
        if process is None or process.tracker is None or process.is_patched:
            return False
        return process.tracker.track(event)

    def wrap(self) -> Client:
        """Return an object that behaves as the client does, but whose searches are personalized. Its type is the client's."""
        wrapped = WrappedSync(
            self._client,
            search=lambda *search: self._search(*search)[0],
            msearch=lambda *searches: self._search_batch(*searches)[0],
        )
        return cast("Client", wrapped)

    def subject(self, subject: Subject | None) -> AbstractContextManager[None]:
        """Return a context manager that sets the subject of the searches within its block.

        Each thread and task has its own. Raises ValueError if `subject` is neither a Subject nor None.
        """
        return searching(subject)

    def status(self) -> Status:
        """Return the state of this process's personalization, for a health page: switches, breakers, lag, store, templates, …

        It waits for the store for one second at most.
        """
        process = self._started()
        if process is None:
            return CLOSED
        found = status_of(
            process.core, process.refresh, process.in_flight, process.rewritten, *process.looked(), process.plans,
            self._hooks, time.monotonic(),
        )  # fmt: skip
        return replace(found, tracked=process.tracker.counts if process.tracker else {})

    def local_status(self) -> Status:
        """Return the state from this process's memory alone, without the store and the fleet's reports. For metrics."""
        process = self._process
        if process is None:
            return CLOSED
        found = status_of(
            process.core,
            process.refresh,
            process.in_flight,
            process.rewritten,
            None,
            {},
            process.plans,
            self._hooks,
            time.monotonic(),
        )
        return replace(found, tracked=process.tracker.counts if process.tracker else {})

    def wait_ready(self, timeout_s: float = 10.0, *, index: str | Sequence[str] | None = None) -> bool:
        """Wait until this process has read what searches need: switches, population and index facts. For scripts and tests.

        index: the index that will be searched; by default all that policies name. A policy for `*` names none.
        Returns True once all was read. Returns False at once if no store is configured, and after `timeout_s` seconds otherwise,
        for example if the store has no population yet. `status().missing` then names what is missing.
        Raises ValueError if `index` is no name, if no policy matches it, or if it names another cluster.
        A server need not wait: until all was read, its searches are the caller's own.
        """
        until_s = time.monotonic() + timeout_s
        while (process := self._started()) is not None:
            expression = wanted(process.core, index, time.monotonic())
            found = missing(process.core, process.refresh, expression)
            if not found or not ever(found) or time.monotonic() >= until_s:
                return not found
            time.sleep(POLL_S)
        return False

    def close(self) -> None:
        """End all threads and connections of this rewriter. Later searches are the caller's own."""
        self._closed = True
        process, self._process = self._process, None
        if process is not None:
            with suppress(Exception) if process.is_patched else nullcontext():  # the locks may be of two kinds
                process.close()
            if self._owns_client:
                self._client.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self, legs: SearchClient | None) -> ThreadRuntime:
        """Return a process's runtime. None of its threads runs yet, and nothing is connected."""
        # A read that outlives its search keeps its connection, so there are twice as many as permits.
        cap = self.settings.budget.max_in_flight
        stores = open_stores(
            self._store, self._profile_store, connections=2 * cap, max_answer_bytes=self.settings.store.max_answer_bytes
        )
        core = self._core = Core(self.settings, self._templates, stores, self._client.write, self._core)
        return ThreadRuntime(self, core, stores, self._client, legs, owns_legs=self._leg_client is None)

    def _started(self) -> ThreadRuntime | None:
        """Return this process's runtime after starting its threads; None once the rewriter is closed."""
        process = self._process
        if process is not None:
            process.start()
        return process

    def _begun(self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]) -> Job:
        """Decide, and start the parts beside the caller's own search. Never raises an Exception, waits or connects."""
        job = Job()
        try:
            job.process = self._started()
            if job.process is None:
                job.refused = "the rewriter is closed" if self._closed else "it could not be made in this process"
                return job
            job.subject = subject = given_or_current(subject)
            given = client.read(arguments)
            job.flow = answer(
                job.process.core, given, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic
            )
            step = first_step(job.flow)
            if isinstance(step, SendOnce):
                job.once = step
            else:
                job.process.beside(step, job)
        except Exception as error:  # noqa: BLE001  the caller's own search is sent in any case
            job.abandon()
            job.refused = f"internal: {type(error).__name__}"
        except BaseException:
            job.abandon()
            raise
        return job

    def _begun_batch(
        self, client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]
    ) -> Batch[Job]:
        """Decide on each search of a batch, and start what runs beside it. Never raises, waits or connects."""
        batch: Batch[Job] = Batch()
        try:
            process = self._started()
            if process is None:
                batch.refused = "the rewriter is closed" if self._closed else "it could not be made in this process"
                return batch
            batch.subject = subject = given_or_current(subject)
            given = client.read_batch(arguments)
            if isinstance(given, str):
                batch.unread = given
                return batch
            batch.given = given
            steps = []
            for one in given[:MAX_SEARCHES]:
                job = Job()
                batch.jobs.append(job)
                job.process, job.subject = process, subject
                job.flow = answer(
                    process.core,
                    one,
                    subject,
                    seed=randbits(53),
                    now_s=time.time(),
                    clock_s=time.monotonic,
                    batched=True,
                )
                steps.append(first_of_batch(job.flow))
            process.beside_batch(steps, batch.jobs)
        except Exception as error:  # noqa: BLE001  whatever fails here, the caller's own searches are sent
            abandon(batch)
            batch.refused = f"internal: {type(error).__name__}"
        except BaseException:
            abandon(batch)
            raise
        return batch

    def _answered(
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
                shown, report = self._finished(job, arguments, Sent(item, started_s, job.refused or batch.refused))
        except Exception as error:  # noqa: BLE001  as above
            shown, report = item, Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")
        reports.append(report)
        return shown

    def _sent_once(
        self, client: SearchClient, job: Job, first: SendOnce, arguments: Mapping[str, Any]
    ) -> tuple[Any, Report]:
        """Answer a search that is sent once, with boosts in it; the caller's own is sent where that does not serve."""
        own, process, flow = OwnSearch(client, arguments), job.process, job.flow
        assert process is not None
        assert flow is not None
        try:
            refused = process.send_once(first, job)
            shown, report = drive(flow, lambda step: self._perform(process, job, step, own), first=refused)
            response = own.response_with(shown, job.rewritten, report)
        except Exception as error:  # noqa: BLE001  a fault of ours must not cost the caller a search
            try:
                response = own.whatever_happened()
            except Exception as own_error:
                self._failed(arguments, own_error, own.started_s)
                raise
            shown, report = client.body_of(response), Report(Reason.SEARCH_FAILED, f"internal: {type(error).__name__}")
        finally:
            job.abandon()
        with suppress(Exception):
            process.tally.note(report.reason, time.monotonic())
        self._hooks.finished(parsed_indices(arguments.get("index")), arguments, job.subject, shown, report)
        return response, report

    def _finished(self, job: Job, arguments: Mapping[str, Any], sent: Sent) -> tuple[Any, Report]:
        """Return the page and its report, once the caller's own search was answered."""
        process = job.process
        response, report = sent.response, Report(Reason.SWITCHED_OFF, job.refused)
        if process is not None and job.flow is not None:
            response, report = drive(job.flow, lambda step: self._perform(process, job, step), first=sent)
        indices = parsed_indices(arguments.get("index"))
        if process is not None:
            process.tally.note(report.reason, time.monotonic())
        self._hooks.finished(indices, arguments, job.subject, response, report)
        return response, report

    def _failed(self, arguments: Mapping[str, Any], error: BaseException, started_s: float) -> None:
        """Tell the hooks of a search of the caller's that raised. Never raises itself: the caller gets its own error."""
        with suppress(Exception):
            self._hooks.failed(parsed_indices(arguments.get("index")), error, (time.monotonic() - started_s) * 1000.0)

    def after_fork(self) -> None:
        """Make a child's own runtime; its first search starts the threads.

        After a fork the parent's threads are gone, its sockets are the parent's, and its locks may be locked forever.
        """
        self._process = None
        if not self._closed:
            self._process = self._made(self._leg_client)

    def _perform(self, process: ThreadRuntime, job: Job, step: CallerStep, own: OwnSearch | None = None) -> Any:
        """Perform a step of `answer` on the caller's thread. Without `own`, the caller's own search was answered before."""
        match step:
            case AwaitPart(until_s):
                return ended_part(job, until_s)
            case AwaitPool(wait_s):
                return ended_pool(job, time.monotonic() + wait_s)
            case SendOwn() if own is not None:
                return own.sent()
            case Baseline() if own is not None:
                job.once = job.personal = None
                process.beside(step, job)
                return replace(own.sent(), refused=job.refused)
            case Collect(cutoff_s):
                arrived_s = time.monotonic() if job.arrived_s is None else job.arrived_s
                return collected(job, arrived_s + cutoff_s)
            case SavePlan():
                process.plans.save(step)
                return None
            case Baseline() | SendOwn() | SendOnce() | AwaitOwn():
                raise TypeError(f"{type(step).__name__} is no step of a search whose baseline was sent")
        assert_never(step)


class OwnSearch(OwnResponse):
    """The caller's own search, which is sent once at most, and whose error reaches the caller as it is."""

    __slots__ = ("_arguments",)

    def __init__(self, client: SearchClient, arguments: Mapping[str, Any]) -> None:
        super().__init__(client)
        self._arguments = arguments

    def sent(self) -> Sent:
        """Send it, and return its answer."""
        self.started_s = time.monotonic()
        try:
            return self.arrived(self._client.raw.search(**self._arguments))
        except Exception as error:
            self.error = error
            raise

    def whatever_happened(self) -> Any:
        """Return its response, and send it where that was not done. Raises what it raised."""
        if self.error is not None:
            raise self.error
        if not self.is_here:
            self.sent()
        return self.response


def abandon(batch: Batch[Job]) -> None:
    """Give back what the searches of a batch hold. Their part ends by itself."""
    for job in batch.jobs:
        job.abandon()


_rewriters: weakref.WeakSet[Rewriter[Any]] = weakref.WeakSet()


def _forget_parent() -> None:
    for rewriter in list(_rewriters):
        with suppress(Exception):  # without a runtime, the child's searches are the caller's own
            rewriter.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
