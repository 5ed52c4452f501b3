"""The thread that reads the population and the segments, and computes them if no ingest worker does.

Both shells use this thread, so that an event loop does none of the work. It works in slices with pauses between them: the caller's
threads and the loop wait for the interpreter's lock for some tenths of a millisecond at most.
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
from rewriter.encodings import in_utf8
from rewriter.errors import StoreError
from rewriter.signals.affinities import Population
from rewriter.signals.class_affinities import class_totals
from rewriter.signals.class_items import class_names
from rewriter.signals.commands import Command
from rewriter.signals.memory_store import AsyncMemoryStore
from rewriter.signals.packed import Header, PackedWeights
from rewriter.signals.population_builder import LOOK_EVERY_S, UNMADE_EVERY_S, PopulationBuilder
from rewriter.signals.population_reader import Engine, Look, Stopped
from rewriter.signals.redis_store import AsyncRedisStore
from rewriter.signals.repeats import largest_classes
from rewriter.signals.store import AsyncStore, StoreName
from rewriter.signals.store_failures import described

RETRY_S = 0.5
ANSWER_S = 5.0
POLL_S = 0.5
CLASSES_SHOWN = 10
"""Of the repeat guard, by `status()`."""


class PopulationReader:
    """The reader of one rewriter's population and segments. `look` does one round; `start` starts a thread that repeats it.

    engine: runs commands in the store.
    errors: the errors by source, as texts; a failed round is noted there under `population`.
    alive:  whether the rewriter still exists; the thread ends once it does not.
    ends_first_look: whether the first round continues if its event loop ends meanwhile. Its result serves the next loop of the
            process. Otherwise short loops (`asyncio.run` around each search) would never have a population.
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
        self._maker = PopulationBuilder(
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
        self._population = self._segments = ""  # the versions that were read last
        self._failed: Mapping[str, str] = {}
        self._left_out = 0
        self._thread: Thread | None = None
        self.looks = 0

    @property
    def faults(self) -> list[str]:
        """Texts on segments that cannot be read or are left out."""
        found = [
            f"segment {in_utf8(name)}: cannot be read ({why}); its last state stays"
            for name, why in self._failed.items()
        ]
        if self._left_out:
            found.append(f"segments: {self._left_out:,} are too many and are left out")
        return found

    def start(self) -> None:
        """Start the thread, unless it was started. Raises RuntimeError at the limit of threads."""
        if self._thread is None:
            thread = Thread(target=self._run, name="rewriter-population", daemon=True)
            thread.start()
            self._thread = thread

    @property
    def started(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def stop(self, wait_s: float = 0.0) -> None:
        """End the thread after its present slice, and wait up to `wait_s` seconds for it."""
        self._stopping.set()
        if isinstance(self._engine, Bridge):
            self._engine.close()
        if self._thread is not None and wait_s:
            self._thread.join(wait_s)

    def look(self) -> None:
        """Do one round: read new versions; if this process leads, compute those that are due and read them.

        Raises the client's errors, ValueError for a version that cannot be read, or Stopped.
        """
        look, wrong = self._read()
        if self._maker.leads(look):  # whatever is wrong with the values, since it may build them again
            self._maker.make(look)
            _, wrong = self._read()
        if wrong is not None:
            raise wrong

    def tried(self) -> bool:
        """Do one round, note its error or success in `errors`, and return success. After an error the last version stays in use."""
        try:
            self.look()
        except Stopped:
            return True
        except Exception as error:  # noqa: BLE001  `status()` reports it
            self._errors["population"] = (
                "unreadable" if isinstance(error, ValueError) else described(error, quotes=False)
            )
        else:
            self._errors.pop("population", None)
        self.looks += 1
        return "population" not in self._errors

    def _read(self) -> tuple[Look, ValueError | None]:
        """Read what has another version. Return the look-up, and the error of a value that cannot be read; the other is used."""
        look = self._maker.reader.look()
        wrong: ValueError | None = None
        for header, read in ((look.population, self._read_population), (look.segments, self._read_segments)):
            try:
                if header is not None:
                    read(header)
            except ValueError as error:
                wrong = error
        return look, wrong

    def _read_population(self, header: Header) -> None:
        if header.version != self._population:
            packed = self._maker.reader.population(header)
            classes = largest_classes(packed.weights, CLASSES_SHOWN)
            population = Population(
                PackedWeights(packed.weights), packed.totals, packed.floor, packed.left_out, classes,
                class_totals(packed.weights, self._core.class_combinations), class_names(packed.weights),
            )  # fmt: skip
            self._core.swap(population=population)
            self._population = header.version

    def _read_segments(self, header: Header) -> None:
        if header.version != self._segments:
            segments = self._maker.reader.segments(header)
            self._core.swap(segments=segments.counters)
            self._failed, self._left_out = segments.failed, segments.left_out
            self._segments = header.version

    def _run(self) -> None:
        failures = 0
        if self._ends_first_look and self._stopping.is_set() and self._is_new():
            self.tried()
        while not self._stopping.is_set() and self._alive():
            failures = 0 if self.tried() else failures + 1
            self._pause(failures)
        self.release()

    def _is_new(self) -> bool:
        """Whether no loop of the process has read a population yet."""
        return not self._core.snapshot.population.totals

    def _stops_after(self, seconds: float) -> bool:
        """Wait for `seconds`, and return whether the work is to end."""
        if not self._stopping.wait(seconds):
            return False
        if not (self._ends_first_look and self._is_new()):
            return True
        time.sleep(seconds)  # the event is set and no longer waits, and other threads must have their time
        return False

    def _pause(self, failures: int) -> None:
        """Wait for the next round. The wait is short after a failure, and while there is no population."""
        period_s = LOOK_EVERY_S if self._core.snapshot.population.totals else UNMADE_EVERY_S
        if failures:
            period_s = min(LOOK_EVERY_S, RETRY_S * 2.0 ** min(failures - 1, 10))
        until_s = time.monotonic() + period_s
        while (left_s := until_s - time.monotonic()) > 0.0 and self._alive():
            if self._stopping.wait(min(POLL_S, left_s)):
                return

    def release(self) -> None:
        """Release the lease, so that another process may lead, and close the engine if the reader owns it."""
        if not isinstance(self._engine, Bridge):  # a bridge's loop may have ended
            with suppress(Exception):  # the lease then expires by itself
                self._maker.release()
        if isinstance(self._engine, OwnedEngine):
            self._engine.close()


class OwnedEngine:
    """A sync store that this process made for the reader, and closes with it."""

    def __init__(self, store: Any) -> None:
        self.run = store.run
        self.close = store.close


class Bridge:
    """Runs commands of an async store on its event loop, for a thread."""

    def __init__(self, store: AsyncStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run. Raises TimeoutError if there is no answer in `ANSWER_S`, RuntimeError if the loop is closed."""
        answer: Future[list[Any]] = Future()

        async def work() -> None:
            try:
                answer.set_result(await self._store.run(wanted, atomic=atomic))
            except asyncio.CancelledError:
                answer.set_exception(StoreError("the event loop ends"))
                raise
            except Exception as error:  # noqa: BLE001  raised in the thread by `answer.result`
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
        """Refuse further commands. Called on the loop."""
        self._closed = True


def engine_on_threads(stores: Mapping[StoreName, AsyncStore], loop: asyncio.AbstractEventLoop) -> Engine | None:
    """Return an engine with which a thread can read the population, or None without a store.

    For a URL it is a client of its own. A client that the caller gave runs on its own loop, one command at a time.
    """
    store = stores.get("profile_store") or stores.get("store")
    if store is None:
        return None
    if type(store) is AsyncMemoryStore:
        return store.shared
    if isinstance(store, AsyncRedisStore) and (own := store.on_threads()) is not None:
        return OwnedEngine(own)
    return Bridge(store, loop)
