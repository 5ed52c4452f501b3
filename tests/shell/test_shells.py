"""The duties of both shells: the caller's own errors, no leaks, and each search's own subject."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opensearchpy.exceptions import NotFoundError

from rewriter import AsyncRewriter, ConfigurationError, Reason, Report, Rewriter, SearchDetails, Subject
from rewriter.decide.breaker import Breaker, Outcome, Permit
from rewriter.settings import BudgetSettings, Settings
from rewriter.shell.track import Tracker
from rewriter.shell.workers import Workers
from rewriter.signals.counters import Counters
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from tests.fakes import (
    HARNESSES,
    AsyncClient,
    AsyncFakeStore,
    AsyncHarness,
    Client,
    FakeEngine,
    FakeStore,
    Harness,
    SyncHarness,
    awaited,
    knowing,
    known,
    waited,
)
from tests.likes import ANN, SEARCH, SETTINGS, of_ours, store

TRACKING = Settings.model_validate({"signals": {"action_weights": {"click": 1.0}}})
EVENT = {"action_name": "click", "user_id": "u", "event_attributes": {"object": {"object_id": "p1"}}}


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    with request.param(SETTINGS, store()) as opened:
        yield opened


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "leg",
    ["personal", "explored", None],
    ids=["the personalized leg hangs", "the exploration leg hangs", "all else is well"],
)
@pytest.mark.parametrize("subject", [ANN, None], ids=["ann", "nobody"])
def test_the_caller_s_own_error_reaches_the_caller_as_it_is(
    harness: Harness, leg: str | None, subject: Subject | None
) -> None:
    error = NotFoundError(404, "index_not_found_exception", {"error": "no such index"})

    def fails(_: Any) -> Any:
        raise error

    harness.engine.on["baseline"] = fails
    harness.engine.blocked |= {leg} if leg else set()
    with pytest.raises(NotFoundError) as raised:
        harness.search(subject, SEARCH)
    assert raised.value is error
    assert len(harness.engine.asked["baseline"]) == 1
    harness.engine.released.set()
    harness.until(lambda status: status.in_flight == 0)
    assert harness.status().breaker["calls"] == 0


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
def test_a_hook_sees_every_search_and_what_it_raises_is_counted(kind: type[Harness]) -> None:
    seen: list[SearchDetails] = []

    def broken(_: SearchDetails) -> None:
        raise RuntimeError("a hook's own")

    with kind(SETTINGS, store(), hooks=[broken, seen.append]) as harness:
        response, report = harness.search(ANN, SEARCH)
        harness.search(None, {**SEARCH, "index": "products,orders"})
        assert report.reason is Reason.PERSONALIZED
        assert len(response["hits"]["hits"]) == 10
        assert [one.report.reason for one in seen] == ["personalized", "no_subject"]
        assert [one.indices for one in seen] == [("products",), ("products", "orders")]
        assert seen[0].report is report
        assert harness.status().hook_errors == 2


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize(
    "odd", [None, "hello", {"hits": None}, {"hits": {}}, {"hits": {"hits": [None] * 10}}, {"hits": {"hits": [{}]}}]
)
def test_an_answer_of_an_odd_form_is_the_caller_s_all_the_same(kind: type[Harness], odd: Any) -> None:
    with kind(SETTINGS, store()) as harness:
        harness.engine.on["baseline"] = lambda _: odd
        response, report = harness.search(ANN, SEARCH)
        assert response is odd
        assert report.variant == "baseline"


@pytest.mark.parametrize("kind", [Rewriter, AsyncRewriter])
@pytest.mark.parametrize("given", ["ftp://one", object(), 5])
def test_what_cannot_be_a_store_is_refused_before_the_first_search(kind: Any, given: Any) -> None:
    with pytest.raises(ConfigurationError):
        kind(SimpleNamespace(search=None), given, SETTINGS, leg_client=SimpleNamespace())


# --- nothing left behind ----------------------------------------------------------------------------------------------


def test_close_leaves_no_thread() -> None:
    before = of_ours()
    with SyncHarness(SETTINGS, store()) as harness:
        harness.search(ANN, SEARCH)
        assert of_ours() - before
    assert waited(lambda: of_ours() <= before)


async def test_close_leaves_no_task_and_no_thread() -> None:
    before = of_ours()
    engine = FakeEngine()
    rewriter = AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store()), SETTINGS, leg_client=AsyncClient(engine)
    )
    await knowing(rewriter, "products")
    engine.blocked.add("explored")
    searching = asyncio.create_task(rewriter.search(**SEARCH, subject=ANN))
    await awaited(lambda: bool(engine.asked["personal"]))
    engine.released.set()
    await searching
    assert len(asyncio.all_tasks()) > 1
    await rewriter.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await awaited(lambda: of_ours() <= before)


def test_a_rewriter_that_nobody_holds_ends_by_itself() -> None:
    before = of_ours()
    engine = FakeEngine()
    rewriter = Rewriter(Client(engine, "baseline"), store(), SETTINGS, leg_client=Client(engine))
    rewriter.search(**SEARCH, subject=ANN)
    del rewriter
    assert waited(lambda: of_ours() <= before)


def test_a_rewriter_that_nobody_holds_ends_by_itself_with_the_events_that_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = of_ours()
    engine = FakeEngine()
    rewriter = Rewriter(Client(engine, "baseline"), "redis://127.0.0.1:1", TRACKING, leg_client=Client(engine))
    now_ms = int(time.time() * 1000)
    assert rewriter.track({**EVENT, "timestamp": now_ms})
    assert "rewriter-track" in of_ours()
    del rewriter
    assert waited(lambda: of_ours() <= before)
    dropped = [one for one in caplog.messages if "dropped" in one]
    assert dropped == ["1 event was dropped: the store did not accept them in time"]


def test_events_that_wait_for_a_thread_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    tracker = Tracker(RedisStore("redis://127.0.0.1:1"), TRACKING)
    monkeypatch.setattr("rewriter.shell.track.Thread", NoThread)
    now_ms = int(time.time() * 1000)
    assert [tracker.track({**EVENT, "timestamp": now_ms}) for _ in range(5)] == [True] * 5
    assert [one.partition(":")[0] for one in caplog.messages] == ["events wait until a thread can be started"]


def test_what_was_closed_searches_on_as_the_caller_s_own(harness: Harness) -> None:
    if isinstance(harness, AsyncHarness):
        harness.runner.run(harness.rewriter.close())
    else:
        harness.rewriter.close()
    response, report = harness.search(ANN, SEARCH)
    assert response is harness.engine.sent[-1]
    assert (report.reason, report.detail) == (Reason.SWITCHED_OFF, "the rewriter is closed")
    assert harness.status().problems == ("the rewriter is closed",)


def test_what_was_given_is_not_closed() -> None:
    def closed() -> None:
        pytest.fail("it is the giver's to close")

    engine = FakeEngine()
    clients = [Client(engine, "baseline"), Client(engine)]
    for client in clients:
        client.close = closed  # type: ignore[method-assign]
    with Rewriter(clients[0], store(), SETTINGS, leg_client=clients[1]) as rewriter:
        rewriter.search(**SEARCH, subject=ANN)


class _Closable(FakeStore):
    """A store that fails once it is closed."""

    def close(self) -> None:
        self.state = "gone"


def test_a_store_that_is_given_serves_a_second_rewriter_after_the_first_one_is_closed() -> None:
    shared = _Closable()
    shared.write(Keys().profile("ann"), Counters({("item", "p7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    with SyncHarness(SETTINGS, shared) as one, SyncHarness(SETTINGS, shared, shared) as other:
        one.rewriter.close()
        assert other.search(ANN, SEARCH)[1].reason is Reason.PERSONALIZED


async def test_a_store_that_is_given_serves_a_second_rewriter_on_the_event_loop() -> None:
    class AsyncClosable(AsyncFakeStore):
        async def close(self) -> None:
            self._played.state = "gone"

    engine, shared = FakeEngine(), AsyncClosable(store())
    made = [
        AsyncRewriter(AsyncClient(engine, "baseline"), shared, SETTINGS, leg_client=AsyncClient(engine))
        for _ in range(2)
    ]
    one, other = [await knowing(rewriter, "products") for rewriter in made]
    await one.close()
    _, report = await other.search_details(**SEARCH, subject=ANN)
    await other.close()
    assert report.reason is Reason.PERSONALIZED


async def has_in_flight(rewriter: AsyncRewriter) -> bool:
    return (await rewriter.status()).in_flight > 0


async def has_none_in_flight(rewriter: AsyncRewriter) -> bool:
    return (await rewriter.status()).in_flight == 0


@pytest.mark.parametrize("leg", ["baseline", "personal"])
async def test_a_cancelled_caller_gives_the_permit_back_unused(monkeypatch: pytest.MonkeyPatch, leg: str) -> None:
    back: list[tuple[Breaker, Outcome]] = []
    give_back = Breaker.give_back

    def given_back(self: Breaker, permit: Permit, outcome: Outcome, now_s: float, cause: str = "") -> None:
        back.append((self, outcome))
        give_back(self, permit, outcome, now_s, cause)

    monkeypatch.setattr(Breaker, "give_back", given_back)
    engine = FakeEngine()
    engine.blocked.add(leg)
    async with AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store()), SETTINGS, leg_client=AsyncClient(engine)
    ) as rewriter:
        await knowing(rewriter, "products")
        searching = asyncio.create_task(rewriter.search(**SEARCH, subject=ANN))
        await awaited(lambda: has_in_flight(rewriter) if leg == "personal" else bool(engine.asked["personal"]))
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        assert rewriter._runtime is not None
        assert [outcome for one, outcome in back if one is rewriter._runtime.core.breakers["shop"]] == ["unused"]
        engine.released.set()
        await awaited(lambda: has_none_in_flight(rewriter))


def test_another_loop_starts_afresh() -> None:
    engine = FakeEngine()
    rewriter = AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store()), SETTINGS, leg_client=AsyncClient(engine)
    )

    async def search() -> Report:
        return (await rewriter.search_details(**SEARCH, subject=ANN))[1]

    with asyncio.Runner() as runner:
        runner.run(knowing(rewriter, "products"))
    for _ in range(2):
        with asyncio.Runner() as runner:
            assert runner.run(search()).reason is Reason.PERSONALIZED
    with asyncio.Runner() as runner:
        runner.run(rewriter.close())


FORKED = """
    import json, os, sys
    from rewriter import Subject
    from tests.likes import ANN, SEARCH, SETTINGS, store
    from tests.fakes import SyncHarness

    with SyncHarness(SETTINGS, store()) as harness:
        first = harness.search(ANN, SEARCH)[1].reason
        reading, writing = os.pipe()
        if not (child := os.fork()):
            report = harness.search(ANN, SEARCH)[1]
            os.write(writing, json.dumps([report.reason, harness.status().breaker["calls"]]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        print(json.dumps([first, *json.loads(os.read(reading, 1000)), harness.search(ANN, SEARCH)[1].reason]))
"""


def test_a_child_of_a_fork_starts_afresh_and_its_parent_goes_on() -> None:
    command = [sys.executable, "-c", textwrap.dedent(FORKED)]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert json.loads(ran.stdout) == ["personalized", "personalized", 1, "personalized"], ran.stderr


def test_the_first_search_after_a_fork_waits_for_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    with SyncHarness(SETTINGS, store()) as harness:
        monkeypatch.setattr("rewriter.shell.background.refresh.compile_set", None)
        harness.rewriter._runtimes.after_fork()
        assert harness.search(ANN, SEARCH)[1].reason is Reason.PERSONALIZED
        assert not [one for one in harness.status().problems if one.startswith("round local")]


# --- whose search it is -----------------------------------------------------------------------------------------------


def boosted(report: Report) -> list[str]:
    return [boost.value for boost in report.boosts]


def test_a_part_runs_in_its_caller_s_context() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody's")
    seen: list[str] = []
    with SyncHarness(SETTINGS, store()) as harness:

        def sees(answer: dict[str, Any]) -> dict[str, Any]:
            seen.append(tenant.get())
            return answer

        harness.engine.on["personal"] = sees
        tenant.set("ours")
        harness.search(ANN, SEARCH)
    assert seen == ["ours"]


def test_threads_have_their_own_subjects() -> None:
    users = [f"ann{number}" for number in range(1, 17)]
    told: list[SearchDetails] = []
    with SyncHarness(SETTINGS, store(*users), hooks=[told.append]) as harness:
        client = harness.rewriter.wrap()

        def searches(user: str) -> None:
            with harness.rewriter.subject(Subject(user)):
                for _ in range(5):
                    client.search(**SEARCH)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(searches, users))
        client.search(**SEARCH)
    found = sorted(tuple(boosted(one.report)) for one in told)
    assert [values for values in found if values] == sorted([(f"p{user[3:]}",) for user in users] * 5)
    assert [one.report.reason for one in told].count(Reason.NO_SUBJECT) == 1


async def test_tasks_have_their_own_subjects() -> None:
    users = [f"ann{number}" for number in range(1, 13)]
    told: dict[str | None, Any] = {}
    engine = FakeEngine()
    async with AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store(*users)), SETTINGS, leg_client=AsyncClient(engine)
    ) as rewriter:
        await knowing(rewriter, "products")

        async def searches(user: str) -> None:
            with rewriter.subject(Subject(user)):
                await asyncio.sleep(0)
                _, told[user] = await rewriter.search_details(**SEARCH)

        for start in range(0, len(users), 4):
            await asyncio.gather(*map(searches, users[start : start + 4]))
    assert {user: boosted(report) for user, report in told.items()} == {user: [f"p{user[3:]}"] for user in users}


def test_a_subject_that_is_given_wins_and_none_is_nobody(harness: Harness) -> None:
    rewriter = harness.rewriter
    with rewriter.subject(Subject("somebody else")):
        assert harness.search(ANN, SEARCH)[1].reason is Reason.PERSONALIZED
        assert harness.search(None, SEARCH)[1].reason is Reason.NO_SUBJECT


def test_a_wrapped_client_is_the_client_but_for_its_search() -> None:
    class Everything(Client):
        cluster = object()

        def count(self, **arguments: Any) -> Any:
            return arguments

    engine = FakeEngine()
    inner = Everything(engine, "baseline")
    with Rewriter(inner, store(), SETTINGS, leg_client=Client(engine)) as rewriter:
        rewriter.search(**SEARCH, subject=None)
        assert waited(lambda: "products" in rewriter.status().indices)
        client = rewriter.wrap()
        assert client.cluster is inner.cluster
        assert client.count(index="products") == {"index": "products"}
        assert client.search(**SEARCH) is engine.sent[-1]
        with rewriter.subject(ANN):
            assert client.search(**SEARCH)["hits"]["hits"][0]["_id"] == "p7"
        assert not hasattr(client, "nothing_of_the_kind")
        assert "Everything" in repr(client)


class ByPosition(Client):
    """As opensearch-py before 3 has it."""

    def search(self, body: Any = None, index: Any = None, params: Any = None, headers: Any = None) -> Any:  # type: ignore[override]
        assert not params
        assert not headers
        return super().search(body=body, index=index)

    def msearch(self, body: Any, index: Any = None, params: Any = None, headers: Any = None) -> Any:  # type: ignore[override]
        assert not params
        assert not headers
        return super().msearch(body=body, index=index)


def test_arguments_may_be_given_by_position_where_the_client_takes_them_so() -> None:
    engine, body = FakeEngine(), SEARCH["body"]
    with Rewriter(ByPosition(engine, "baseline"), store(), SETTINGS, leg_client=Client(engine)) as rewriter:
        assert waited(lambda: "products*" in rewriter.status().indices)
        client: Any = rewriter.wrap()
        known(rewriter, "products")
        with rewriter.subject(ANN):
            found = [
                client.search(body, "products"),
                client.search(body, index="products"),
                client.msearch([{"index": "products"}, body])["responses"][0],
                client.msearch([{"index": "products"}, body], "products")["responses"][0],
            ]
        assert [one["hits"]["hits"][0]["_id"] for one in found] == ["p7"] * 4
        for wrong, named in (((body,), {"body": body}), ((body, "products", None, None, 1), {}), ((), {})):
            messages = []
            for one in (client, rewriter._client.raw):
                with pytest.raises(TypeError) as raised:
                    one.msearch(*wrong, **named)
                messages.append(str(raised.value))
            assert messages[0] == messages[1]
    with Rewriter(Client(engine, "baseline"), store(), SETTINGS, leg_client=Client(engine)) as rewriter:
        client = rewriter.wrap()
        with pytest.raises(TypeError, match="positional"):  # as its client's own
            client.search(body, "products")


def test_what_a_caller_does_to_a_drawn_hit_is_nobody_else_s(harness: Harness) -> None:
    first, report = harness.search(ANN, SEARCH)
    (slot,) = report.slots
    shown = first["hits"]["hits"][slot.position]
    kept = dict(shown["_source"])
    shown["_source"]["brand"] = "changed"
    harness.until(lambda status: status.in_flight == 0)
    for _ in range(20):
        again, report = harness.search(ANN, SEARCH)
        hits = [again["hits"]["hits"][one.position] for one in report.slots if one.id == slot.id]
        assert all(hit["_source"] == kept for hit in hits)
    assert len(harness.engine.asked["explored"]) == 1


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
def test_a_report_does_not_change_after_it_was_handed_out(kind: type[Harness]) -> None:
    short = SETTINGS.model_copy(update={"budget": BudgetSettings(signals_ms=2000, cutoff_ms=150)})
    with kind(short, store()) as harness:
        harness.engine.blocked.add("personal")
        _, report = harness.search(ANN, SEARCH)
        before = dict(report.timings_ms)
        harness.engine.released.set()
        harness.until(lambda status: status.in_flight == 0)
        assert report.timings_ms == before


@pytest.mark.parametrize("strikes", ["submit", "add_done_callback"])
def test_a_keyboard_interrupt_of_the_caller_leaks_no_place(monkeypatch: pytest.MonkeyPatch, strikes: str) -> None:
    """It strikes the main thread anywhere, in a notebook each time that somebody stops a cell."""

    struck: Any = Workers if strikes == "submit" else Future
    method = getattr(struck, strikes)

    def interrupted(*arguments: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return method(*arguments)

    with SyncHarness(SETTINGS, store()) as harness:
        harness.search(ANN, SEARCH)
        harness.until(lambda status: status.in_flight == 0)
        with monkeypatch.context() as patched:
            patched.setattr(struck, strikes, interrupted)
            with pytest.raises(KeyboardInterrupt):
                harness.rewriter.search(**SEARCH, subject=ANN)
            for _ in range(SETTINGS.budget.max_in_flight):
                with suppress(
                    KeyboardInterrupt
                ):  # the parts of the others still run: where all are busy, none is begun
                    harness.rewriter.search(**SEARCH, subject=ANN)
        harness.until(lambda status: status.in_flight == 0)
        # The permits are back; the workers of abandoned parts may need a moment to end.
        assert waited(lambda: harness.search(ANN, SEARCH)[1].reason is Reason.PERSONALIZED)
