"""The sync rewriter: searches on the caller's own thread, the rest on threads of its own (see `threads`)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from inspect import currentframe
from logging import getLogger
from pathlib import Path
from threading import Thread
from typing import Any, Generic, Self, cast

from rewriter.observe.hooks import Hook
from rewriter.report import Report
from rewriter.settings import Settings
from rewriter.shell.given import checked
from rewriter.shell.legs import connect
from rewriter.shell.ready import POLL_S, ever, missing, wanted
from rewriter.shell.status import Status, status_of, without_runtime
from rewriter.shell.threads.batch import ThreadBatches
from rewriter.shell.threads.runtime import ThreadRuntime
from rewriter.shell.threads.runtimes import ThreadRuntimes
from rewriter.shell.threads.search import ThreadSearches
from rewriter.shell.wrap import Client, Unset, WrappedSync, searching, unset
from rewriter.subject import Subject

_log = getLogger("rewriter")


class Rewriter(Generic[Client]):
    """Personalized search around an OpenSearch or Elasticsearch client.

    Thread-safe and fork-safe; close it, or use it as a context manager.

    client:        the caller's client. Searches are sent with it, byte for byte; the rewriter never closes it.
    store:         a Redis or Valkey URL, a redis-py client, or a Store; by default the settings' `[store] url`, if any. A
                   client or a Store is the caller's to close.
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
        given = checked("Rewriter", client, store, settings, profile_store, leg_client, hooks)
        self.settings = given.settings
        self._client = given.client
        self._owns_client = False
        self._hooks = given.hooks
        self._runtimes = ThreadRuntimes(given, given.cloned("Rewriter", client) if leg_client is None else None)
        self._searches = ThreadSearches(self._runtimes, self._hooks)
        self._batches = ThreadBatches(self._runtimes, self._hooks, self._searches)

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
        """Search as `search` does, and return the response with its report.

        The response is what `client.search` returns. `report.reason` says why the page is personalized or not.
        """
        return self._searches.search(self._client, subject, arguments)

    def msearch(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as `client.msearch` would, each search of the batch personalized for `subject`.

        Returns what `client.msearch` returns; raises what it raises, and nothing else.
        """
        return self.msearch_details(subject=subject, **arguments)[0]

    def msearch_details(self, *, subject: Subject | Unset | None = unset, **arguments: Any) -> tuple[Any, list[Report]]:
        """Search as `msearch` does, and return the response with a report for each search of the batch, in their order."""
        return self._batches.search(self._client, subject, arguments)

    def track(self, event: Mapping[str, Any]) -> bool:
        """Accept one UBI event, and append it to the store's streams in the background. Never waits, never raises.

        Returns False if the event is refused: it is no event, lacks consent or a weight for its action, the buffer is full, or
        there is no Redis or Valkey. `status().tracked` counts all events by outcome; *accepted* are those that the store
        acknowledged. `close` sends the events that wait.
        """
        try:
            runtime = self._runtimes.started()
        except Exception as error:  # noqa: BLE001  a child after a fork that cannot make threads
            _log.warning("an event was not tracked: %s", type(error).__name__)
            return False
        if runtime is None or runtime.tracker is None or runtime.is_patched:
            return False
        return runtime.tracker.track(event)

    def wrap(self) -> Client:
        """Return an object that behaves as the client does, but whose searches are personalized. Its type is the client's."""
        wrapped = WrappedSync(
            self._client,
            search=lambda *search: self._searches.search(*search)[0],
            msearch=lambda *searches: self._batches.search(*searches)[0],
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
        runtime = self._runtimes.started()
        if runtime is None:
            return without_runtime(self._runtimes.refusal)
        return status_of(runtime, self._hooks, time.monotonic(), *runtime.looked())

    def local_status(self) -> Status:
        """Return the state from this process's memory alone, without the store and the fleet's reports. For metrics."""
        runtime = self._runtimes.current
        if runtime is None:
            return without_runtime(self._runtimes.refusal)
        return status_of(runtime, self._hooks, time.monotonic(), None, {})

    def wait_ready(self, timeout_s: float = 10.0, *, index: str | Sequence[str] | None = None) -> bool:
        """Wait until this process has read what searches need: switches, population and index facts. For scripts and tests.

        index: the index that will be searched; by default all that policies name. A policy for `*` names none.
        Returns True once all was read. Returns False at once if no store is configured, and after `timeout_s` seconds otherwise,
        for example if the store has no population yet. `status().missing` then names what is missing.
        Raises ValueError if `index` is no name, if no policy matches it, or if it names another cluster.
        A server need not wait: until all was read, its searches are the caller's own.
        """
        until_s = time.monotonic() + timeout_s
        while (runtime := self._runtimes.started()) is not None:
            expression = wanted(runtime.core, index, time.monotonic())
            found = missing(runtime.core, runtime.refresh, expression)
            if not found or not ever(found) or time.monotonic() >= until_s:
                return not found
            time.sleep(POLL_S)
        return False

    def close(self) -> None:
        """End all threads and connections of this rewriter. Later searches are the caller's own.

        In a signal handler that interrupts a search, or in a hook, this returns at once and a thread closes; the interpreter's exit
        waits for it, a few seconds at most.
        """
        if _within_a_call():
            with suppress(RuntimeError):  # the limit of threads, or the interpreter is ending
                Thread(target=self._close, name="rewriter-close").start()
        else:
            self._close()

    def _close(self) -> None:
        if self._runtimes.close() and self._owns_client:
            self._client.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _runtime(self) -> ThreadRuntime | None:
        """The runtime of this process, as it is."""
        return self._runtimes.current


def _within_a_call() -> bool:
    """Whether `close` was called while a call of a rewriter goes on below it on this thread, as by a signal handler.

    That call may hold locks, of the rewriter or of a client, that closing would wait for forever.
    """
    frame, is_caller = currentframe(), False
    while frame is not None:
        is_ours = frame.f_globals.get("__name__", "").startswith("rewriter.shell.")
        if is_ours and is_caller:
            return True
        is_caller = is_caller or not is_ours
        frame = frame.f_back
    return False
