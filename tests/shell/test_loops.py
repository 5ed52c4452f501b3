"""Event loops: several are served or refused and none leaked, and one that ends takes with it what ran on it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rewriter import AsyncRewriter, Reason, Report, Subject
from rewriter.client.opensearch import OpenSearchClient
from rewriter.index_facts import IndexFacts
from rewriter.shell.background.population import PopulationReader
from rewriter.shell.tasks.runtimes import MAX_LOOPS
from rewriter.signals.commands import Command
from rewriter.signals.counters import Counters, Value
from rewriter.signals.memory_store import MemoryStore
from tests.fakes import AsyncClient, AsyncFakeStore, FakeEngine, FakeStore, awaited, waited
from tests.likes import ANN, SEARCH, SETTINGS, of_ours, store
from tests.wire import Wire

ROOT = Path(__file__).parents[2]


class SlowEngine:
    """A store on threads whose first answer waits to be let go."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.begun, self.go = threading.Event(), threading.Event()

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        self.begun.set()
        assert self.go.wait(10)
        return self._store.run(wanted, atomic=atomic)


@contextmanager
def running() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, loop).result(20)


async def tasks() -> int:
    return len(asyncio.all_tasks()) - 1


def made() -> AsyncRewriter:
    """A rewriter whose first search need not wait for index facts, as if a loop before had read them."""
    engine = FakeEngine()
    rewriter = AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store()), SETTINGS, leg_client=AsyncClient(engine)
    )
    core = rewriter._runtimes.core
    core.swap(facts={"products": IndexFacts()}, fields_on={"products": core.snapshot.fields["shop"]})
    return rewriter


async def searched(rewriter: AsyncRewriter) -> Report:
    return (await rewriter.search_details(**SEARCH, subject=ANN))[1]


@pytest.mark.parametrize("count", [1, 2, MAX_LOOPS])
def test_loops_that_live_together_are_all_served_and_close_ends_what_runs_on_any(count: int) -> None:
    before = of_ours()
    rewriter = made()
    with ExitStack() as stack:
        loops = [stack.enter_context(running()) for _ in range(count)]
        for turn in range(6 * count):
            assert on(loops[turn % count], searched(rewriter)).reason is Reason.PERSONALIZED
        held = [on(loop, tasks()) for loop in loops]
        for turn in range(6 * count):
            on(loops[-turn % count], searched(rewriter))
        assert waited(lambda: [on(loop, tasks()) for loop in loops] <= held)
        on(loops[0], rewriter.close())
        assert waited(lambda: [on(loop, tasks()) for loop in loops] == [0] * count)
        assert waited(lambda: of_ours() <= before)
        assert on(loops[-1], searched(rewriter)).reason is Reason.SWITCHED_OFF


class OwnClient(AsyncClient):
    """A client that the rewriter made, and closes."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


class SlowStore(AsyncFakeStore):
    """A store that takes its time to save plans, and to close."""

    def __init__(self, store: FakeStore) -> None:
        super().__init__(store)
        self.slow, self.closed = False, 0

    async def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        if self.slow:
            await asyncio.sleep(0.1)
        return await super().run(wanted, atomic=atomic)

    async def close(self) -> None:
        await asyncio.sleep(0.1)
        self.closed += 1


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("waits_s", [0.0, 0.05, 0.15])
async def test_what_is_closed_ends_all_the_same_where_the_closing_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, waits_s: float, *, again: bool
) -> None:
    monkeypatch.setattr("rewriter.shell.tasks.runtimes.without_given", lambda stores, _: list(stores.values()))
    before = of_ours()
    engine, slow = FakeEngine(), SlowStore(store())
    client = OwnClient(engine, "baseline")
    rewriter = AsyncRewriter(client, slow, SETTINGS, leg_client=AsyncClient(engine))
    rewriter._owns_client = True
    core = rewriter._runtimes.core
    core.swap(facts={"products": IndexFacts()}, fields_on={"products": core.snapshot.fields["shop"]})
    assert (await searched(rewriter)).reason is Reason.PERSONALIZED
    slow.slow = True
    await searched(rewriter)
    closing = asyncio.ensure_future(rewriter.close())
    await asyncio.sleep(waits_s)
    closing.cancel()
    await asyncio.wait({closing})
    assert client.closed == 1
    if again:
        await rewriter.close()
        assert (slow.closed, len(asyncio.all_tasks())) == (1, 1)
    await awaited(lambda: (slow.closed, len(asyncio.all_tasks())) == (1, 1))
    await awaited(lambda: of_ours() <= before)
    assert (await searched(rewriter)).reason is Reason.SWITCHED_OFF


def test_beyond_a_number_of_loops_searches_are_the_caller_s_own() -> None:
    rewriter = made()
    with ExitStack() as stack:
        loops = [stack.enter_context(running()) for _ in range(MAX_LOOPS + 2)]
        reports = [on(loop, searched(rewriter)) for loop in loops]
        assert [report.reason for report in reports] == [Reason.PERSONALIZED] * MAX_LOOPS + [Reason.BUSY] * 2
        assert f"more than {MAX_LOOPS} event loops" in reports[-1].detail
        assert [on(loop, tasks()) for loop in loops[MAX_LOOPS:]] == [0, 0]
        assert on(loops[-1], rewriter.status()).problems == (f"more than {MAX_LOOPS} event loops",)
        on(loops[0], rewriter.close())


def test_a_status_before_the_first_search_does_not_say_that_the_rewriter_is_closed() -> None:
    rewriter = made()
    (before,) = rewriter.local_status().problems
    asyncio.run(rewriter.close())
    assert "on an event loop of this process yet" in before
    assert rewriter.local_status().problems == ("the rewriter is closed",)


async def test_track_raises_nothing_where_nothing_can_be_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    rewriter = made()

    def fails() -> None:
        raise RuntimeError("the loop takes no task")

    monkeypatch.setattr(rewriter._runtimes, "started", fails)
    assert await rewriter.track({}) is False


def test_a_loop_that_is_closed_makes_room_for_another() -> None:
    before = of_ours()
    rewriter = made()
    for _ in range(3 * MAX_LOOPS):
        assert asyncio.run(searched(rewriter)).reason is Reason.PERSONALIZED
    assert waited(lambda: of_ours() <= before)
    assert len(rewriter._runtimes._loops[os.getpid()]) <= 1
    asyncio.run(rewriter.close())


def test_a_population_whose_reading_outlives_a_short_loop_serves_the_next() -> None:
    before = of_ours()
    rewriter = made()
    core = rewriter._runtimes.core
    everybody = MemoryStore()
    weights: dict[Value, float] = {("brand", f"b{n}"): 500.0 for n in range(4)}
    everybody.write(core.keys.population(0), Counters(weights, {"brand": 2000.0}, time.time(), time.time(), 9.0), None)
    engine = SlowEngine(everybody)
    reader = PopulationReader(core, engine, {}, lambda: True, ends_first_look=True)
    reader.start()
    assert engine.begun.wait(10)
    reader.stop()  # as the end of the loop does
    engine.go.set()
    assert waited(lambda: bool(core.snapshot.population.totals))
    assert waited(lambda: of_ours() <= before)


def test_what_one_loop_learned_serves_the_next() -> None:
    rewriter = made()
    core = set()
    for _ in range(3):
        asyncio.run(searched(rewriter))
        assert rewriter._runtime is not None
        core.add(rewriter._runtime.core)
    assert len(core) == 1
    asyncio.run(rewriter.close())


def test_a_switch_that_the_store_has_thrown_holds_for_a_loop_that_begins() -> None:
    rewriter = made()
    with running() as first, running() as second:
        on(first, searched(rewriter))
        here = rewriter._runtime
        assert here is not None
        here.refresh.switches.take_store_value("personalization off", "rw:switches")
        here.refresh.local()
        assert on(first, searched(rewriter)).reason is Reason.SWITCHED_OFF
        here.refresh.switches.take_store_value("personalization off", "rw:switches")
        assert on(second, searched(rewriter)).reason is Reason.SWITCHED_OFF
        on(first, rewriter.close())


async def test_all_that_need_the_legs_client_at_once_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clones: list[Any] = []

    def slowly(*_: Any) -> Any:
        time.sleep(0.02)
        clones.append(OpenSearchClient(AsyncClient(FakeEngine()), is_async=False))
        return clones[-1]

    monkeypatch.setattr(OpenSearchClient, "cloned", slowly)
    rewriter = made()
    await searched(rewriter)
    here = rewriter._runtime
    assert here is not None
    here.legs._client = None

    async def late() -> Any:
        while here.legs._making is None or not here.legs._making.done():  # noqa: ASYNC110  the very moment is what counts
            await asyncio.sleep(0)
        return await here.legs.client()

    got = await asyncio.gather(*(here.legs.client() for _ in range(5)), *(late() for _ in range(5)))
    assert len(clones) == 1
    assert set(map(id, got)) == {id(clones[0])}
    await rewriter.close()


# --- the usual ways in which a loop ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["returns", "raises", "is cancelled"])
def test_nothing_of_ours_outlives_a_loop_that_ends_without_close(ends: str) -> None:
    before = of_ours()
    rewriter = made()

    async def main() -> None:
        await searched(rewriter)
        if ends == "raises":
            raise ZeroDivisionError
        if ends == "is cancelled":
            raise asyncio.CancelledError

    began_s = time.monotonic()
    try:
        asyncio.run(main())
    except (ZeroDivisionError, asyncio.CancelledError):
        assert ends != "returns"
    assert time.monotonic() - began_s < 5
    assert waited(lambda: of_ours() <= before)
    here = rewriter._runtime
    assert here is not None
    assert here.closed
    assert here.in_flight.count == 0


class Sockets:
    """A server that takes connections and never answers, as a store that hangs."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}"
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                self._kept.append(self._server.accept()[0])
        except OSError:
            return

    def close(self) -> None:
        self._server.close()
        for one in self._kept:
            one.close()


RUNS = """
    import asyncio, sys
    from opensearchpy import AsyncOpenSearch
    from rewriter import AsyncRewriter, Settings, Subject
    wire, store, life_s = sys.argv[1], sys.argv[2], float(sys.argv[3])

    async def main():
        client = AsyncOpenSearch([wire])
        rewriter = AsyncRewriter(client, store, Settings())
        await rewriter.search(index="i", body={"query": {"match": {"title": "shoe"}}}, subject=Subject("ann"))
        await asyncio.sleep(life_s)
        await client.close()
        print("through", flush=True)

    asyncio.run(main())
    print("returned", flush=True)
"""


@pytest.mark.parametrize("state", ["hangs", "is away"])
def test_asyncio_run_returns_whatever_the_store_does(state: str) -> None:
    hung = Sockets()
    url = hung.url if state == "hangs" else "redis://127.0.0.1:1"
    with Wire() as wire:
        ran = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", textwrap.dedent(RUNS), wire.url, url, str(0.2 * n)],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for n in range(4)
        ]  # fmt: skip
        try:
            for one in ran:
                out, err = one.communicate(timeout=60)
                assert out.split() == ["through", "returned"], err
        finally:
            for one in ran:
                one.kill()
                one.wait()
    hung.close()


def test_no_socket_stays_open_behind_a_loop_that_has_ended() -> None:
    from opensearchpy import AsyncOpenSearch

    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open files")
    with Wire() as wire:

        class PerCall:
            """A client for each search, as sync code has that calls asyncio.run."""

            def __init__(self) -> None:
                self.transport = AsyncOpenSearch([wire.url]).transport

            async def search(self, **arguments: Any) -> Any:
                async with AsyncOpenSearch([wire.url]) as client:
                    return await client.search(**arguments)

        rewriter = AsyncRewriter(PerCall(), None, SETTINGS, leg_client=AsyncClient(FakeEngine()))
        asyncio.run(rewriter.search(**SEARCH, subject=Subject("ann")))
        before = open_files()
        for _ in range(10):
            asyncio.run(rewriter.search(**SEARCH, subject=Subject("ann")))
        assert waited(lambda: open_files() <= before + 2)
