"""Promise P1 by construction: whatever of ours fails, hangs or is missing, the caller's own search is sent, once, and answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest

from rewriter import AsyncRewriter, Reason, Rewriter, Settings
from rewriter.flow import answer as flow_answer
from rewriter.flow import exploration as flow_exploration
from rewriter.flow import page as flow_page
from rewriter.flow import personal as flow_personal
from rewriter.index_facts import IndexFacts
from tests.fakes import (
    HARNESSES,
    AsyncClient,
    AsyncFakeStore,
    Client,
    FakeEngine,
    FakeStore,
    Harness,
    SyncHarness,
    knowing,
    waited,
)
from tests.likes import ANN, SEARCH

SETTINGS = Settings.model_validate(
    {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 2000, "cutoff_ms": 3000},
        "policies": {"p": {"index": "*", "item_repeat_share": 1.0}},
    }
)


# --- whatever of ours raises ------------------------------------------------------------------------------------------

SHELLS = {
    "sync": ("rewriter.shell.threads.search", "rewriter.shell.threads.runtime.ThreadRuntime", "drive"),
    "async": ("rewriter.shell.tasks.search", "rewriter.shell.tasks.runtime.TaskRuntime", "drive_async"),
}
OURS = [
    *(
        (module.__name__, name)
        for module in (flow_answer, flow_personal, flow_exploration, flow_page)
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "").startswith("rewriter.")
    ),
    *(("rewriter.shell.job", name) for name in ("answer", "randbits")),
    ("rewriter.observe.hooks", "parsed_indices"),
    *(("search", name) for name in ("collected", "drive")),
    *(("runtime", name) for name in ("begin", "beside", "_perform")),
]
"""Whatever the flow calls, and what the shells call for it."""


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize(("module", "name"), OURS, ids=[".".join(one) for one in OURS])
def test_whatever_of_ours_raises_the_caller_has_its_answer(
    monkeypatch: pytest.MonkeyPatch, kind: type[Harness], module: str, name: str
) -> None:
    error = MemoryError() if len(name) % 2 else RuntimeError("can't start new thread")

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    with kind(SETTINGS, FakeStore(), hooks=[lambda _: None]) as harness:
        harness.search(ANN, SEARCH)
        search, runtime, drive = SHELLS["sync" if kind is SyncHarness else "async"]
        where, name = {"search": search, "runtime": runtime}.get(module, module), drive if name == "drive" else name
        before = len(harness.engine.asked["baseline"])
        with monkeypatch.context() as patched:
            patched.setattr(f"{where}.{name}", fails)
            response, _ = harness.search(ANN, SEARCH)
        assert len(response["hits"]["hits"]) == 10
        assert len(harness.engine.asked["baseline"]) == before + 1
        harness.until(lambda status: status.in_flight == 0)
        assert harness.status().breaker["permits"] == 0


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize("module", ["rewriter.flow.answer.parse_search", "rewriter.flow.answer.personal"])
def test_what_stops_the_caller_itself_goes_to_the_caller_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, kind: type[Harness], module: str
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with kind(SETTINGS, FakeStore()) as harness:
        harness.search(ANN, SEARCH)
        with monkeypatch.context() as patched:
            patched.setattr(module, interrupted)
            with pytest.raises(KeyboardInterrupt):
                harness.search(ANN, SEARCH)
        harness.until(lambda status: status.in_flight == 0)
        assert harness.status().breaker["permits"] == 0
        assert harness.search(ANN, SEARCH)[0]["hits"]["hits"]


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize("leg", ["baseline", "personal", "explored"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_during_the_caller_s_own_search_leaves_nothing_behind(
    kind: type[Harness], leg: str, stop: type[BaseException]
) -> None:
    def interrupted(_: Any) -> Any:
        raise stop

    with kind(SETTINGS, FakeStore()) as harness:
        if leg == "baseline":
            harness.engine.on[leg] = interrupted
            with pytest.raises(stop):
                harness.search(ANN, SEARCH)
        elif kind is SyncHarness:  # on a thread of ours it is a part's own end; on a loop it is the loop's
            harness.engine.on[leg] = interrupted
            assert len(harness.search(ANN, SEARCH)[0]["hits"]["hits"]) == 10
        harness.engine.on.clear()
        harness.until(lambda status: status.in_flight == 0)
        assert harness.status().breaker["permits"] == 0


# --- what comes first -------------------------------------------------------------------------------------------------


class Order(AsyncClient):
    """A caller's client that notes when its search is sent, as aiohttp does: at once, or on a task of its own."""

    def __init__(self, engine: FakeEngine, seen: list[str], waits: int) -> None:
        super().__init__(engine, "baseline")
        self._seen, self._waits = seen, waits

    async def search(self, **arguments: Any) -> Any:
        self._seen.append("baseline")
        for _ in range(self._waits):
            await asyncio.sleep(0)
        return await super().search(**arguments)


def eagerly(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
    """Run a task's first steps where it is made, as asyncio.eager_task_factory does from Python 3.12 on."""

    class Rest:
        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield from _rest(work, first))

    try:
        first = work.send(None)
    except StopIteration as stop:
        value = stop.value

        async def done() -> Any:
            return value

        return asyncio.Task(done(), loop=loop, **more)

    async def rest() -> Any:
        return await Rest()

    return asyncio.Task(rest(), loop=loop, **more)


def _rest(work: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("factory", [None, getattr(asyncio, "eager_task_factory", eagerly)], ids=["lazy", "eager"])
def test_the_baseline_leaves_before_anything_of_ours(monkeypatch: pytest.MonkeyPatch, factory: Any, waits: int) -> None:
    seen: list[str] = []
    for name in (
        "rewriter.flow.answer.parse_search",
        "rewriter.flow.answer.personal",
        "rewriter.shell.tasks.runtimes.TaskRuntime",
    ):
        module, attribute = name.rsplit(".", 1)
        inner: Callable[..., Any] = getattr(__import__(module, fromlist=[attribute]), attribute)

        def noted(*arguments: Any, inner: Callable[..., Any] = inner, name: str = attribute, **named: Any) -> Any:
            seen.append(name)
            return inner(*arguments, **named)

        monkeypatch.setattr(name, noted)
    engine = FakeEngine()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        client = Order(engine, seen, waits)
        store = AsyncFakeStore(FakeStore())
        async with AsyncRewriter(client, store, SETTINGS, leg_client=AsyncClient(engine)) as rewriter:
            await knowing(rewriter, "products")
            seen.clear()
            for _ in range(3):
                await rewriter.search(**SEARCH, subject=ANN)
        first = AsyncRewriter(client, store, SETTINGS, leg_client=AsyncClient(engine))
        core = first._runtimes.core
        core.swap(facts={"products": IndexFacts()})  # as if another loop had read them
        await first.search(
            **SEARCH, subject=ANN
        )  # what a loop has is made by its first search, and that comes later too
        await first.close()

    asyncio.run(main())
    assert seen.count("baseline") == 4
    for start in [at for at, one in enumerate(seen) if one == "parse_search"]:
        assert seen[start - 1] == "baseline"
    assert seen[-4:] == ["baseline", "parse_search", "personal", "TaskRuntime"]


def test_the_search_goes_on_in_the_caller_s_own_task_and_context() -> None:
    tasks: list[Any] = []

    class Notes(AsyncClient):
        async def search(self, **arguments: Any) -> Any:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            return await super().search(**arguments)

    async def late(rewriter: AsyncRewriter) -> None:
        async with asyncio.timeout(0.05):
            await rewriter.search(**SEARCH, subject=ANN)

    async def main() -> None:
        engine = FakeEngine()
        async with AsyncRewriter(Notes(engine, "baseline"), None, SETTINGS, leg_client=AsyncClient(engine)) as rewriter:
            engine.blocked.add("baseline")
            with pytest.raises(TimeoutError):
                await late(rewriter)
            engine.blocked.clear()
            await rewriter.search(**SEARCH, subject=ANN)
        assert set(tasks) == {asyncio.current_task()}
        assert len(tasks) == 4

    asyncio.run(main())


# --- no lock, no client, no thread ------------------------------------------------------------------------------------


def test_the_first_search_of_a_child_waits_for_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Event()
    engine = FakeEngine()

    def slowly(*_: Any) -> Any:
        assert release.wait(10)
        return Client(engine)

    with SyncHarness(SETTINGS, FakeStore()) as harness:
        runtimes = harness.rewriter._runtimes
        runtimes._given = replace(runtimes._given, leg_client=None)
        monkeypatch.setattr("rewriter.client.opensearch.client.cloned", slowly)
        runtimes.after_fork()
        short = SETTINGS.model_copy(update={"budget": SETTINGS.budget.model_copy(update={"cutoff_ms": 20.0})})
        harness.core.settings = short
        began_s = time.monotonic()
        searches = [Thread(target=harness.search, args=(ANN, SEARCH)) for _ in range(8)]
        for search in searches:
            search.start()
        for search in searches:
            search.join(5)
        assert time.monotonic() - began_s < 5
        assert len(harness.engine.asked["baseline"]) == 8
        release.set()


@pytest.mark.parametrize("allowed", range(7))
def test_at_the_limit_of_threads_a_search_costs_nothing_more_and_leaks_nothing(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    with SyncHarness(SETTINGS, FakeStore()) as harness:
        start, made = Thread.start, [0]

        def limited(self: Thread) -> None:
            if self.name.startswith("rewriter-"):
                if made[0] >= allowed:
                    raise RuntimeError("can't start new thread")
                made[0] += 1
            start(self)

        before = threading.active_count()
        with monkeypatch.context() as patched:
            patched.setattr(Thread, "start", limited)
            harness.rewriter._runtimes.after_fork()
            for _ in range(30):
                response, _ = harness.search(ANN, SEARCH)
                assert len(response["hits"]["hits"]) == 10
            assert waited(lambda: harness.status().in_flight == 0)
            assert threading.active_count() <= before + allowed
            if allowed < 6:  # four rounds of the background and the first of either pool
                _, report = harness.search(ANN, SEARCH)
                assert report.reason is Reason.BUSY
                assert "threads could not be started" in report.detail
                assert any("threads" in one for one in harness.status().problems)
                assert not harness.rewriter.track({"action_name": "view"})
        process = harness.rewriter._runtime
        assert process is not None
        process._starts_from_s = float("-inf")  # five seconds later
        assert waited(lambda: harness.search(ANN, SEARCH)[1].reason is not Reason.BUSY)
        assert not any("threads" in one for one in harness.status().problems)


@pytest.mark.parametrize("kind", [Rewriter, AsyncRewriter], ids=["sync", "async"])
def test_a_client_s_own_error_before_anything_is_sent_is_the_caller_s(kind: Any) -> None:
    class Refuses:
        def search(self, **_: Any) -> Any:
            raise TypeError("search() got an unexpected keyword argument")

    def search(rewriter: Any) -> Any:
        found = rewriter.search(**SEARCH, subject=ANN, oops=1)
        return asyncio.run(found) if asyncio.iscoroutine(found) else found

    rewriter = kind(Refuses(), None, SETTINGS, leg_client=Client(FakeEngine()))
    with pytest.raises(TypeError, match="unexpected keyword"):
        search(rewriter)
    if isinstance(rewriter, Rewriter):
        rewriter.close()
