"""The async rewriter: searches on the caller's own task, the rest on tasks of its own (see `tasks`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from logging import getLogger
from pathlib import Path
from typing import Any, Generic, Self, cast

from rewriter.client.seam import SearchClient
from rewriter.observe.hooks import Hook
from rewriter.report import Report
from rewriter.settings import Settings
from rewriter.shell.given import checked
from rewriter.shell.legs import connect
from rewriter.shell.ready import POLL_S, ever, missing, wanted
from rewriter.shell.status import Status, status_of, without_runtime
from rewriter.shell.tasks.batch import TaskBatches
from rewriter.shell.tasks.runtime import TaskRuntime
from rewriter.shell.tasks.runtimes import TaskRuntimes
from rewriter.shell.tasks.search import TaskSearches
from rewriter.shell.wrap import Client, Unset, WrappedAsync, searching, unset
from rewriter.signals.redis_store import open_async_store
from rewriter.subject import Subject

NO_LOOP = "nothing has been searched on an event loop of this process yet"

_log = getLogger("rewriter")


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
        given = checked("AsyncRewriter", client, store, settings, profile_store, leg_client, hooks)
        for one in given.stores.values():
            open_async_store(one)  # refuses a wrong store now, not in the first search; connects nothing
        if leg_client is None:
            given.cloned("AsyncRewriter", client)  # refuses a client that cannot be cloned; it is cheap
        self.settings = given.settings
        self._client = given.client
        self._owns_client = self._is_logged = False
        self._hooks = given.hooks
        self._runtimes = TaskRuntimes(given)
        self._searches = TaskSearches(self._runtimes, self._hooks, self.settings)
        self._batches = TaskBatches(self._runtimes, self._hooks, self._searches)

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
        return await self._searches.search(self._client, subject, arguments)

    async def msearch(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search a batch as `client.msearch` would, each search personalized. See Rewriter.msearch."""
        return (await self.msearch_details(subject=subject, **arguments))[0]

    async def msearch_details(
        self, *, subject: Subject | Unset | None = unset, **arguments: Any
    ) -> tuple[Any, list[Report]]:
        """Search a batch, and return a report for each of its searches, in their order."""
        return await self._batches.search(self._client, subject, arguments)

    async def track(self, event: Mapping[str, Any]) -> bool:
        """Accept one UBI event. See Rewriter.track."""
        try:
            runtime = self._runtimes.started()
            return runtime is not None and runtime.tracker is not None and runtime.tracker.track(event)
        except Exception as error:  # noqa: BLE001  an event loop that ends takes no task any more
            if not self._is_logged:
                self._is_logged = True
                _log.warning("an event was not tracked: %s (this is logged once)", type(error).__name__)
            return False

    def wrap(self) -> Client:
        """Return an object that behaves as the client does, but whose searches are personalized. Its type is the client's."""

        async def search(client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]) -> Any:
            return (await self._searches.search(client, subject, arguments))[0]

        async def msearch(client: SearchClient, subject: Subject | Unset | None, arguments: Mapping[str, Any]) -> Any:
            return (await self._batches.search(client, subject, arguments))[0]

        return cast("Client", WrappedAsync(self._client, search=search, msearch=msearch))

    def subject(self, subject: Subject | None) -> AbstractContextManager[None]:
        """Set the subject of the searches within the block. See Rewriter.subject."""
        return searching(subject)

    async def status(self) -> Status:
        """Return the state of this process's personalization, for a health page. See Rewriter.status."""
        runtime = self._runtimes.started()
        if runtime is None:
            return without_runtime(self._runtimes.refusal)
        store, fleet = await runtime.looked()
        return status_of(runtime, self._hooks, time.monotonic(), store, fleet)

    def local_status(self) -> Status:
        """Return the state from memory alone, of the event loop that began last. See Rewriter.local_status."""
        runtime = self._runtimes.last
        if runtime is None or self._runtimes.closed:
            return without_runtime(self._runtimes.refusal if self._runtimes.closed else NO_LOOP)
        return status_of(runtime, self._hooks, time.monotonic(), None, {})

    async def wait_ready(self, timeout_s: float = 10.0, *, index: str | Sequence[str] | None = None) -> bool:
        """Wait until this loop has read what searches need. See Rewriter.wait_ready."""
        until_s = time.monotonic() + timeout_s
        while (runtime := self._runtimes.started()) is not None:
            expression = wanted(runtime.core, index, time.monotonic())
            found = missing(runtime.core, runtime.refresh, expression)
            if not found or not ever(found) or time.monotonic() >= until_s:
                return not found
            await asyncio.sleep(POLL_S)
        return False

    async def close(self) -> None:
        """End all tasks, threads and connections of this rewriter, on all loops. Later searches are the caller's own.

        If it is cancelled, as by a time limit, they end all the same.
        """
        try:
            await self._runtimes.close()
        finally:
            if self._owns_client:
                await self._client.raw.close()

    async def __aenter__(self) -> Self:
        self._runtimes.started()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def _runtime(self) -> TaskRuntime | None:
        """The runtime of the event loop that began last."""
        return self._runtimes.last
