"""The runtimes of event loops, each with tasks and connections of its own, made at its first search.

All loops of a process share one `Core`; a child makes its own after a fork. Closed loops are dropped. Beyond MAX_LOOPS at a time, a
loop's searches are the caller's own.
"""

from __future__ import annotations

import asyncio
import os

from rewriter.core import Core
from rewriter.decide.switches import Switches
from rewriter.shell.background.switch_sources import SwitchSources
from rewriter.shell.given import Given
from rewriter.shell.tasks.runtime import TaskRuntime
from rewriter.signals.redis_store import open_async_stores, without_given

CLOSE_ELSEWHERE_S = 5.0
"""How long `close` waits for the tasks of another loop."""

MAX_LOOPS = 8
"""How many event loops one AsyncRewriter serves at a time. Each has its own clients, background tasks and threads."""


class TaskRuntimes:
    """The runtimes of one AsyncRewriter, of which each event loop has one."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._shared: dict[int, tuple[Core, SwitchSources]] = {}
        self._shared[os.getpid()] = self._learning()
        self._loops: dict[int, dict[asyncio.AbstractEventLoop, TaskRuntime]] = {}
        self.closed = False

    @property
    def core(self) -> Core:
        """What the loops of this process share."""
        return self._of_this_process()[0]

    @property
    def last(self) -> TaskRuntime | None:
        """The runtime of the event loop that began last, or None."""
        return next(reversed(self._loops.get(os.getpid(), {}).values()), None)

    @property
    def present(self) -> TaskRuntime | None:
        """The running loop's runtime, if it was made."""
        here = self._loops.get(os.getpid(), {}).get(asyncio.get_running_loop())
        return None if here is None or here.closed else here

    @property
    def refusal(self) -> str:
        """The reason why the running loop has no runtime."""
        return "the rewriter is closed" if self.closed else f"more than {MAX_LOOPS} event loops"

    def started(self) -> TaskRuntime | None:
        """Return the running loop's runtime, made at first use; None once the rewriter is closed, and beyond MAX_LOOPS."""
        loop = asyncio.get_running_loop()
        if self.closed:
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
        given = self._given
        stores = open_async_stores(given.stores["store"], given.stores["profile_store"], **given.store_options)
        own_stores = without_given(stores, given.stores.values())
        loops[loop] = here = TaskRuntime(
            *self._of_this_process(), stores, given.client, given.leg_client, own_stores=own_stores
        )
        return here

    def started_with(self, switches: Switches) -> TaskRuntime | str:
        """Return the runtime as `started` does, for a first search that was decided by these switches; or why none serves it."""
        runtime = self.started()
        if runtime is None:
            return self.refusal
        if runtime.core.snapshot.switches != switches:  # `started` has just read them
            return "a switch has changed since the rewriter was made"
        return runtime

    async def close(self) -> None:
        """End all tasks, threads and connections, on all loops. If it is cancelled, they end all the same."""
        self.closed = True
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

    def _learning(self) -> tuple[Core, SwitchSources]:
        """Return what the loops of a process share, with the switches that file and environment set now."""
        given = self._given
        stores = [name for name, store in given.stores.items() if store is not None]
        before = next((core for core, _ in self._shared.values()), None)
        core = Core(given.settings, given.templates, stores, given.client.write, before)
        switches = SwitchSources(given.settings)
        switches.read_local(os.environ)
        core.swap(switches=switches.combine_sources(core.snapshot.switches))
        return core, switches

    def _of_this_process(self) -> tuple[Core, SwitchSources]:
        shared = self._shared.get(os.getpid())
        if shared is None:  # a child after a fork: the parent's locks may be locked forever
            self._shared = {os.getpid(): (shared := self._learning())}
        return shared
