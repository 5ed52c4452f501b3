"""The thread that reads the population and the segments, and makes them where no ingest worker does.

In both shells it runs its commands on a thread: an event loop has no part in it. It works in slices with pauses between them, so
that neither the caller's threads nor the loop wait for Python's lock for longer than some tenths of a millisecond.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from secrets import token_hex
from threading import Event, Thread
from typing import Any

from rewriter.core import Core
from rewriter.errors import StoreError
from rewriter.signals.affinities import Population
from rewriter.signals.commands import Command
from rewriter.signals.maker import LOOK_EVERY_S, UNMADE_EVERY_S, Engine, Look, Maker, Stopped
from rewriter.signals.memory_store import AsyncMemoryStore
from rewriter.signals.packed import PackedWeights
from rewriter.signals.redis_store import AsyncRedisStore
from rewriter.signals.repeats import largest_classes
from rewriter.signals.store import AsyncStore, StoreName

RETRY_S = 0.5
ANSWER_S = 5.0
POLL_S = 0.5
CLASSES_SHOWN = 10
"""Of the repeat guard, by `status()`."""


class PopulationReader:
    """Keeps the snapshot's population and segments. `look` does one round; `start` has a thread do so again and again.

    errors: where a source that failed is noted, by name.
    alive:  whether the rewriter that it works for is still there; the thread ends where it is not.
    ends_first_look: whether the first look goes on where its event loop ends meanwhile. What it finds serves the next loop of the
            process: otherwise short loops (`asyncio.run` around each search) would never have a population.
    """

    def __init__(
        self,
        core: Core,
        engine: Engine,
        errors: dict[str, str],
        alive: Callable[[], bool],
        *,
        ends_first_look: bool = False,
    ) -> None:
        settings = core.settings
        self._core = core
        self._engine = engine
        self._errors = errors
        self._alive = alive
        self._stopping = Event()
        self._ends_first_look = ends_first_look
        self._maker = Maker(
            engine,
            core.keys,
            core.profile_half_lives,
            role="search",
            token=token_hex(8),
            max_counters=settings.signals.max_counters,
            ttl_s=settings.signals.profile_ttl_s,
            now_s=time.time,
            wait=self._stops_after,
        )
        self._population = self._segments = ""  # the versions that were read
        self._failed: Mapping[str, str] = {}
        self._left_out = 0
        self._thread: Thread | None = None
        self.looks = 0

    @property
    def faults(self) -> list[str]:
        """What is wrong with segments, in words."""
        found = [f"segment {name}: cannot be read ({why}); its last state stays" for name, why in self._failed.items()]
        if self._left_out:
            found.append(f"segments: {self._left_out:,} are too many and are left out")
        return found

    def start(self) -> None:
        """Begin to look, on a thread, where it was not begun. Raises RuntimeError at the limit of threads."""
        if self._thread is None:
            thread = Thread(target=self._run, name="rewriter-population", daemon=True)
            thread.start()
            self._thread = thread

    @property
    def started(self) -> bool:
        """Whether the thread was begun."""
        return self._thread is not None

    def stop(self, wait_s: float = 0.0) -> None:
        """Have the thread end; wait for it so long at most."""
        self._stopping.set()
        if isinstance(self._engine, Bridge):
            self._engine.close()
        if self._thread is not None and wait_s:
            self._thread.join(wait_s)

    def look(self) -> None:
        """Do one round: read what is new, make what is due and read it. Raises what the client raises, or Stopped."""
        look = self._read()
        if self._maker.leads(look):
            self._maker.make(look)
            self._read()

    def tried(self) -> bool:
        """Do one round, and note in `errors` how it went; what was read last stays where it failed."""
        try:
            self.look()
        except Stopped:
            return True
        except Exception as error:  # noqa: BLE001  it is told by `status()`
            self._errors["population"] = "unreadable" if isinstance(error, ValueError) else type(error).__name__
        else:
            self._errors.pop("population", None)
        self.looks += 1
        return "population" not in self._errors

    def _read(self) -> Look:
        look = self._maker.reader.look()
        if look.population is not None and look.population.version != self._population:
            packed = self._maker.reader.population(look.population)
            classes = largest_classes(packed.weights, CLASSES_SHOWN)
            population = Population(
                PackedWeights(packed.weights), packed.totals, packed.floor, packed.left_out, classes
            )
            self._core.swap(population=population)
            self._population = look.population.version
        if look.segments is not None and look.segments.version != self._segments:
            segments = self._maker.reader.segments(look.segments)
            self._core.swap(segments=segments.counters)
            self._failed, self._left_out = segments.failed, segments.left_out
            self._segments = look.segments.version
        return look

    def _run(self) -> None:
        failures = 0
        if self._ends_first_look and self._stopping.is_set() and self._is_new():
            self.tried()
        while not self._stopping.is_set() and self._alive():
            failures = 0 if self.tried() else failures + 1
            self._rest(failures)
        self.release()

    def _is_new(self) -> bool:
        """Whether no loop of the process has found a population yet."""
        return not self._core.snapshot.population.totals

    def _stops_after(self, seconds: float) -> bool:
        """Wait for so long, and return whether the work is to end."""
        if not self._stopping.wait(seconds):
            return False
        if not (self._ends_first_look and self._is_new()):
            return True
        time.sleep(seconds)  # the others' time, which the event does not wait for any more
        return False

    def _rest(self, failures: int) -> None:
        """Wait for the next round: soon after a failure, and while there is nothing yet."""
        period_s = LOOK_EVERY_S if self._core.snapshot.population.totals else UNMADE_EVERY_S
        if failures:
            period_s = min(LOOK_EVERY_S, RETRY_S * 2.0 ** min(failures - 1, 10))
        until_s = time.monotonic() + period_s
        while (left_s := until_s - time.monotonic()) > 0.0 and self._alive():
            if self._stopping.wait(min(POLL_S, left_s)):
                return

    def release(self) -> None:
        """Leave the lease to the next one, and close what is its own."""
        if not isinstance(self._engine, Bridge):  # its loop may be gone
            with suppress(Exception):  # then it expires
                self._maker.release()
        if isinstance(self._engine, OwnedEngine):
            self._engine.close()


class OwnedEngine:
    """A store on threads that this process made for itself, and closes."""

    def __init__(self, store: Any) -> None:
        self.run = store.run
        self.close = store.close


class Bridge:
    """Runs commands of a store on an event loop, for a thread."""

    def __init__(self, store: AsyncStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run. Raises TimeoutError where the loop does not come to it, RuntimeError where it is closed."""
        answer: Future[list[Any]] = Future()

        async def work() -> None:
            try:
                answer.set_result(await self._store.run(wanted, atomic=atomic))
            except asyncio.CancelledError:
                answer.set_exception(StoreError("the event loop ends"))
                raise
            except Exception as error:  # noqa: BLE001  it is for the thread
                answer.set_exception(error)

        def begin() -> None:
            if self._closed:
                answer.cancel()
            elif answer.set_running_or_notify_cancel():
                self._task = self._loop.create_task(work())

        self._loop.call_soon_threadsafe(begin)
        try:
            return answer.result(ANSWER_S)
        finally:
            answer.cancel()

    def close(self) -> None:
        """Run no more commands. Called on the loop."""
        self._closed = True


def engine_on_threads(stores: Mapping[StoreName, AsyncStore], loop: asyncio.AbstractEventLoop) -> Engine | None:
    """Return what a thread may read the population with, or None without a store.

    For a URL it is a client of its own; a client that was given runs on its loop, a command at a time.
    """
    store = stores.get("profile_store") or stores.get("store")
    if store is None:
        return None
    if type(store) is AsyncMemoryStore:
        return store.shared
    if isinstance(store, AsyncRedisStore) and (own := store.on_threads()) is not None:
        return OwnedEngine(own)
    return Bridge(store, loop)
