"""The sync shell: leg 1 on the caller's own thread, the personal part on a worker (see `threads`).

What a process has is made at its first search, and made anew in a child after a fork.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from secrets import randbits
from threading import Lock
from typing import Any, Self

from rewriter.core import Core
from rewriter.flow.answer import answer
from rewriter.flow.steps import Baseline, Begin, Collect, SavePlan
from rewriter.observe.hooks import Hook, Hooks
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.given import checked_hooks
from rewriter.shell.legs import cloned, connect, named
from rewriter.shell.refresh import load_templates
from rewriter.shell.status import CLOSED, Status, status_of
from rewriter.shell.switch_sources import refuse_wrong_switches
from rewriter.shell.threads import Job, Process, collected, drive
from rewriter.shell.wrap import CURRENT_SUBJECT, Unset, WrappedSync, searching, unset
from rewriter.signals.redis_store import open_stores
from rewriter.subject import Subject


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
        read_hooks = checked_hooks("Rewriter", client, leg_client, settings, hooks)
        self.settings = settings or Settings()
        self._client = client
        url, profile_url = self.settings.store.plain_urls
        self._store = store if store is not None else url
        self._profile_store = profile_store if profile_store is not None else profile_url
        self._leg_client = leg_client
        self._owns_client = False
        self._hooks = Hooks(read_hooks)
        refuse_wrong_switches(self.settings, os.environ)
        self._templates = load_templates(self.settings)
        self._lock = Lock()
        self._process: Process | None = None
        self._closed = False
        _rewriters.add(self)
        self._started()

    @classmethod
    def from_settings(
        cls, path: str | Path, client: Any | None = None, store: Any | None = None, **options: Any
    ) -> Rewriter:
        """Return a rewriter as the file says, around `client` and `store` or, without them, around its own.

        options: the constructor's. Raises ConfigurationError with every fault of the file, or of what is given.
        """
        settings = Settings.from_toml(path)
        own = client is None
        client = connect(settings.opensearch, settings.budget.max_in_flight) if own else client
        rewriter = cls(client, store, settings, **options)
        rewriter._owns_client = own
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
            response, report = self._client.search(**arguments), Report(Reason.SWITCHED_OFF, why)
            self._hooks.tell(named(arguments.get("index")), report)
            return response, report
        job = Job()
        flow = answer(process.core, arguments, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic)
        response, report = drive(flow, lambda step: self._perform(process, job, arguments, step))
        indices = named(arguments.get("index"))
        process.tally.note(report.reason, time.monotonic())
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
        return WrappedSync(self._client, self.search)

    def subject(self, subject: Subject | None) -> AbstractContextManager[None]:
        """Say who searches within the block; threads and tasks are apart. Raises ValueError for what is no Subject."""
        return searching(subject)

    def status(self) -> Status:
        """Return how things stand, for a health page: switches, breaker, lag, store, templates, index facts, what is in flight."""
        process = self._started()
        if process is None:
            return CLOSED
        found = status_of(
            process.core, process.refresh, process.in_flight, *process.looked(), process.plans_dropped, self._hooks,
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

    def _started(self) -> Process | None:
        """Return what this process has, made at first use: nothing in it connects before it must."""
        process = self._process
        if process is not None or self._closed:
            return process
        with self._lock:
            if self._process is None and not self._closed:
                cap = self.settings.budget.max_in_flight
                legs = self._leg_client or cloned(self._client, cap)
                # Reads that outlive their search keep their connection, beside those that are under way.
                stores = open_stores(self._store, self._profile_store, connections=2 * cap)
                core = Core(self.settings, self._templates, stores)
                self._process = Process(self, core, stores, legs, owns_legs=self._leg_client is None)
            return self._process

    def after_fork(self) -> None:
        """In a child: threads are gone, sockets are the parent's, locks may be held for good. Start afresh at the next search."""
        self._lock = Lock()
        self._process = None

    def _perform(self, process: Process, job: Job, arguments: Mapping[str, Any], step: Any) -> Any:
        """Do what `answer` asks for, on the caller's thread."""
        match step:
            case Baseline():
                return self._client.search(**arguments)
            case Begin(part):
                job.personal = process.begin(part, job)
                return job.personal is not None
            case Collect(cutoff_s):
                return collected(job, time.monotonic() + cutoff_s)
            case SavePlan():
                process.save(step)
                return None
        raise TypeError(f"no such step: {step!r}")


_rewriters: weakref.WeakSet[Rewriter] = weakref.WeakSet()


def _forget_parent() -> None:
    for rewriter in list(_rewriters):
        rewriter.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
