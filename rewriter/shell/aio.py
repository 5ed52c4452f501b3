"""The async shell: leg 1 on the caller's own task, the personal part on another (see `tasks`).

Everything runs on the event loop that first searches; in a child after a fork, and on another loop, all of it is made anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from secrets import randbits
from typing import Any, Self

from rewriter.core import Core
from rewriter.flow.answer import answer
from rewriter.flow.steps import Baseline, Begin, Collect, SavePlan
from rewriter.observe.hooks import Hook, Hooks
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.given import checked_hooks
from rewriter.shell.legs import cloned, connect_async, named
from rewriter.shell.refresh import load_templates
from rewriter.shell.status import CLOSED, Status, status_of
from rewriter.shell.switch_sources import refuse_wrong_switches
from rewriter.shell.tasks import Job, Loop, collected, drive
from rewriter.shell.wrap import CURRENT_SUBJECT, Unset, WrappedAsync, searching, unset
from rewriter.signals.redis_store import open_async_store, open_async_stores
from rewriter.subject import Subject


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
        read_hooks = checked_hooks("AsyncRewriter", client, leg_client, settings, hooks)
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
        for given in (self._store, self._profile_store):
            open_async_store(given)  # what cannot be one is refused now, not in the first search; nothing connects yet
        self._here: Loop | None = None
        self._closed = False

    @classmethod
    def from_settings(
        cls, path: str | Path, client: Any | None = None, store: Any | None = None, **options: Any
    ) -> AsyncRewriter:
        """Return a rewriter as the file says, around `client` and `store` or, without them, around its own.

        options: the constructor's. Raises ConfigurationError with every fault of the file, or of what is given.
        """
        settings = Settings.from_toml(path)
        own = client is None
        client = connect_async(settings.opensearch, settings.budget.max_in_flight) if own else client
        rewriter = cls(client, store, settings, **options)
        rewriter._owns_client = own
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
            response, report = await self._client.search(**arguments), Report(Reason.SWITCHED_OFF, why)
            self._hooks.tell(named(arguments.get("index")), report)
            return response, report
        job = Job()
        flow = answer(here.core, arguments, subject, seed=randbits(53), now_s=time.time(), clock_s=time.monotonic)
        response, report = await drive(flow, lambda step: self._perform(here, job, arguments, step))
        indices = named(arguments.get("index"))
        here.tally.note(report.reason, time.monotonic())
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
        return WrappedAsync(self._client, self.search)

    def subject(self, subject: Subject | None) -> AbstractContextManager[None]:
        """Say who searches within the block; threads and tasks are apart. Raises ValueError for what is no Subject."""
        return searching(subject)

    async def status(self) -> Status:
        """Return how things stand, for a health page. See Rewriter.status."""
        here = self._started()
        if here is None:
            return CLOSED
        store, fleet = await here.looked()
        found = status_of(
            here.core, here.refresh, here.in_flight, store, fleet, here.plans_dropped, self._hooks, time.monotonic()
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

    def _started(self) -> Loop | None:
        here = self._here
        if here is not None and here.is_this_loop():
            return here
        if self._closed:
            return None
        cap = self.settings.budget.max_in_flight
        legs = self._leg_client or cloned(self._client, cap)
        # Reads that outlive their search keep their connection, beside those that are under way.
        stores = open_async_stores(self._store, self._profile_store, connections=2 * cap)
        self._here = Loop(
            Core(self.settings, self._templates, stores), stores, legs, owns_legs=self._leg_client is None
        )
        return self._here

    async def _perform(self, here: Loop, job: Job, arguments: Mapping[str, Any], step: Any) -> Any:
        """Do what `answer` asks for, on the caller's task."""
        match step:
            case Baseline():
                return await self._client.search(**arguments)
            case Begin(part):
                job.personal = here.begin(part, job)
                return job.personal is not None
            case Collect(cutoff_s):
                return await collected(job, time.monotonic() + cutoff_s)
            case SavePlan():
                here.save(step)
                return None
        raise TypeError(f"no such step: {step!r}")
