"""The runtime of the present process: made with the rewriter, and again in a child right after a fork, but never by a search."""

from __future__ import annotations

import os
import weakref
from contextlib import nullcontext, suppress

from rewriter.client.seam import SearchClient
from rewriter.core import Core
from rewriter.shell.given import Given
from rewriter.shell.threads.runtime import ThreadRuntime
from rewriter.signals.redis_store import open_stores, without_given


class ThreadRuntimes:
    """The runtimes of one Rewriter, of which a process has one. Threads end once this is garbage-collected.

    given:  the arguments of the rewriter.
    clone:  a client for the first process's optional legs, if the caller gave none.
    current: the runtime of this process; None once the rewriter is closed, and where a child could not make its own.
    """

    def __init__(self, given: Given, clone: SearchClient | None) -> None:
        self._given = given
        self._core: Core | None = None
        self._closed = False
        self.current: ThreadRuntime | None = self._made(given.leg_client or clone)
        self.current.start()
        _alive.add(self)

    @property
    def refusal(self) -> str:
        """The reason why there is no runtime."""
        return "the rewriter is closed" if self._closed else "it could not be made in this process"

    def started(self) -> ThreadRuntime | None:
        """Return this process's runtime after starting its threads; None if there is none."""
        runtime = self.current
        if runtime is not None:
            runtime.start()
        return runtime

    def close(self) -> bool:
        """End all threads and connections. Returns whether they had not ended before."""
        self._closed = True
        runtime, self.current = self.current, None
        if runtime is not None:
            with suppress(Exception) if runtime.is_patched else nullcontext():  # the locks may be of two kinds
                runtime.close()
        return runtime is not None

    def after_fork(self) -> None:
        """Make a child's own runtime; its first search starts the threads.

        After a fork the parent's threads are gone, its sockets are the parent's, and its locks may be locked forever.
        """
        self.current = None
        if not self._closed:
            self.current = self._made(self._given.leg_client)

    def _made(self, leg_client: SearchClient | None) -> ThreadRuntime:
        """Return a process's runtime. None of its threads runs yet, and nothing is connected."""
        given = self._given
        stores = open_stores(given.stores["store"], given.stores["profile_store"], **given.store_options)
        core = self._core = Core(given.settings, given.templates, stores, given.client.write, self._core)
        own_stores = without_given(stores, given.stores.values())
        return ThreadRuntime(
            self,
            core,
            stores,
            given.client,
            leg_client,
            own_stores=own_stores,
            owns_leg_client=given.leg_client is None,
        )


_alive: weakref.WeakSet[ThreadRuntimes] = weakref.WeakSet()


def _forget_parent() -> None:
    for runtimes in list(_alive):
        with suppress(Exception):  # without a runtime, the child's searches are the caller's own
            runtimes.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
