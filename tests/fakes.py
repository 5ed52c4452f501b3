"""A fake search engine and a fake store, and one harness that searches through either shell.

They do what real servers cannot be made to do: a leg that never answers, an answer of an odd form, a store that hangs. Everything
else is tested on the real ones in tests/live.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from threading import Event
from typing import Any, Literal, Self

from redis.exceptions import ConnectionError as StoreGone

from rewriter import AsyncRewriter, Report, Rewriter, Settings, Subject
from rewriter.core import Core
from rewriter.expression import Expression
from rewriter.shell.status import Status
from rewriter.signals.commands import SAVE_PLAN, Command
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore

LEGS = ("baseline", "personal", "explored")
PATIENCE_S = 30.0
Leg = Literal["baseline", "personal", "explored"]
Act = Callable[[dict[str, Any]], Any]


def waited(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, half a minute at most."""
    until_s = time.monotonic() + PATIENCE_S
    while not (holds := condition()) and time.monotonic() < until_s:
        time.sleep(0.002)
    return holds


async def awaited(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for a condition without keeping the loop, half a minute at most. It may be a thread that makes it hold, which
    an asyncio.Event does not bear."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await holds if isinstance(holds := condition(), Awaitable) else holds):  # noqa: ASYNC110  see above
            await asyncio.sleep(0.002)


class FakeEngine:
    """Forty products of four brands, p0 the best with a score of 100. It ranks as a server would, and misbehaves as told.

    asked:    the arguments of each search by leg, as they came; sent: what the baseline was answered with.
    on:       by leg, what becomes of the answer that a good server would give.
    blocked:  legs that wait until `released` is set.
    count:    how many products there are.
    """

    def __init__(self) -> None:
        self.asked: dict[str, list[dict[str, Any]]] = {leg: [] for leg in LEGS}
        self.sent: list[Any] = []
        self.batches: Counter[str] = Counter()
        self.on: dict[str, Act] = {}
        self.blocked: set[str] = set()
        self.released = Event()
        self.count = 40

    def leg_of(self, arguments: Mapping[str, Any]) -> Leg:
        return "personal" if arguments["body"]["from"] == 0 or "rescore" in arguments["body"] else "explored"

    def answer(self, leg: Leg, arguments: dict[str, Any]) -> Any:
        self.asked[leg].append(arguments)
        body = arguments.get("body")
        found = ranked(body, self.count) if isinstance(body, dict) else {"hits": {"hits": []}}
        if act := self.on.get(leg):
            found = act(found)
        if leg == "baseline":
            self.sent.append(found)
        return found


def ranked(body: Mapping[str, Any], count: int = 40) -> dict[str, Any]:
    """Answer a search; `match` on "nothing" finds nothing, and our rescore multiplies."""
    count = 0 if "nothing" in str(body.get("query")) else count
    products: list[dict[str, Any]] = [
        {"_index": "products", "_id": f"p{n}", "_score": 100.0 - n, "_source": {"brand": f"b{n % 4}"}}
        for n in range(count)
    ]
    for rescore in body.get("rescore", []):
        function_score = rescore["query"]["rescore_query"]["function_score"]
        # Every product holds every word: a gate is matched by all of them. As on a server, only what has a name is named.
        gate = function_score["query"].get("constant_score", {}).get("filter", {}).get("bool", {})
        words = [gate["_name"]] if "_name" in gate else []
        functions = function_score["functions"][1:]
        for hit in products:
            acting = [one for one in functions if _matches(hit, one)]
            hit["_score"] *= min(function_score["max_boost"], 1.0 + sum(one["weight"] for one in acting))
            names = [one["filter"]["bool"]["_name"] for one in acting if "_name" in one["filter"].get("bool", {})]
            if names or words:
                hit["matched_queries"] = names + words
    products.sort(key=lambda hit: -hit["_score"])
    start = int(body.get("from", 0))
    page = products[start : start + int(body.get("size", 10))]
    total = {"value": count, "relation": "eq"}
    return {
        "took": 1,
        "timed_out": False,
        "_shards": {"total": 1, "successful": 1, "failed": 0},
        "hits": {"total": total, "max_score": max((hit["_score"] for hit in page), default=None), "hits": page},
    }


def _matches(hit: Mapping[str, Any], function: Mapping[str, Any]) -> bool:
    found = function["filter"]
    ((kind, clause),) = (found["bool"]["filter"][0] if "bool" in found else found).items()
    ((field, wanted),) = clause.items()
    value = hit["_id"] if field == "_id" else hit["_source"].get(field)
    return value in (wanted if kind == "terms" else [wanted])


class _Indices:
    def get_mapping(self, *, index: str, **_: Any) -> dict[str, Any]:
        return {
            one.rstrip("*"): {"mappings": {"properties": {"brand": {"type": "keyword"}}}} for one in index.split(",")
        }

    def get_settings(self, *, index: str, **_: Any) -> dict[str, Any]:
        return {one.rstrip("*"): {"settings": {"index.number_of_replicas": "0"}} for one in index.split(",")}


class _AsyncIndices(_Indices):
    async def get_mapping(self, *, index: str, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().get_mapping(index=index)

    async def get_settings(self, *, index: str, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().get_settings(index=index)


class Client:
    """The caller's client, or that of the legs."""

    indices: _Indices = _Indices()

    def __init__(self, engine: FakeEngine, leg: Leg | None = None) -> None:
        self._engine = engine
        self._leg = leg

    def search(self, **arguments: Any) -> Any:
        leg = self._leg or self._engine.leg_of(arguments)
        if leg in self._engine.blocked:
            assert self._engine.released.wait(PATIENCE_S)
        return self._engine.answer(leg, arguments)

    def msearch(self, *, body: Any, **_: Any) -> Any:
        """Answer a batch; what an act raises for one search fails the whole of it, as a body that does not parse does."""
        self._engine.batches[self._leg or "legs"] += 1
        return responses([self.search(**one) for one in searches(body)])

    def close(self) -> None:
        pass


class AsyncClient:
    """The same, awaited."""

    indices = _AsyncIndices()

    def __init__(self, engine: FakeEngine, leg: Leg | None = None) -> None:
        self._engine = engine
        self._leg = leg

    async def search(self, **arguments: Any) -> Any:
        leg = self._leg or self._engine.leg_of(arguments)
        if leg in self._engine.blocked:
            await awaited(self._engine.released.is_set)
        return self._engine.answer(leg, arguments)

    async def msearch(self, *, body: Any, **_: Any) -> Any:
        self._engine.batches[self._leg or "legs"] += 1
        return responses([await self.search(**one) for one in searches(body)])


def searches(lines: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the searches of a batch, as `search` takes them."""
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [
        {"index": ",".join(head["index"]) if isinstance(head["index"], list) else head["index"], "body": body}
        for head, body in pairs
    ]


def responses(answers: Sequence[Any]) -> dict[str, Any]:
    """Return the answer to a batch."""
    return {"took": 1, "responses": [one if "error" in one else {**one, "status": 200} for one in answers]}


class FakeStore(MemoryStore):
    """A store that is there, gone, or hangs until `released` is set.

    `reads` are those for subjects, `signal_reads` those of profiles.
    `arrives`: what a read's answer, as of when it was asked for, waits for on its way; `saves`: whether plans can be written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state: Literal["there", "gone", "hung"] = "there"
        self.released = Event()
        self.reads = self.signal_reads = 0
        self.arrives: Callable[[], bool] = lambda: True
        self.saves = True

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        found = self.answered(wanted, atomic=atomic)
        assert not is_read(wanted) or waited(self.arrives)
        return found

    def answered(self, wanted: Sequence[Command], *, atomic: bool) -> list[Any]:
        self.reads += any("{s:" in str(command[1]) or "{u:" in str(command[1]) for command in wanted)
        self.signal_reads += any(command[0] == "ZRANGE" and "{u:" in str(command[1]) for command in wanted)
        if self.state == "hung":
            assert self.released.wait(PATIENCE_S)
        if self.state == "gone":
            raise StoreGone("gone")
        if not self.saves and any(SAVE_PLAN in command for command in wanted):
            raise StoreGone("plans")
        return super().run(wanted, atomic=atomic)


def is_read(wanted: Sequence[Command]) -> bool:
    return any(command[0] == "ZRANGE" for command in wanted)


class AsyncFakeStore(AsyncMemoryStore):
    """The same store, awaited."""

    def __init__(self, store: FakeStore) -> None:
        super().__init__(store)
        self._played = store

    async def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        if self._played.state == "hung":
            await awaited(self._played.released.is_set)
        found = self._played.answered(wanted, atomic=atomic)
        if is_read(wanted):
            await awaited(self._played.arrives)
        return found


async def knowing(rewriter: AsyncRewriter, *indices: str) -> AsyncRewriter:
    """Wait until the facts of indices were read, as after a first search of them."""
    here = rewriter._runtimes.started()
    assert here is not None
    ask_for(here.core, indices)
    await awaited(lambda: ",".join(indices) in here.core.snapshot.facts)
    return rewriter


def known(rewriter: Rewriter, *indices: str) -> Rewriter:
    """The same, for the other shell."""
    process = rewriter._runtimes.started()
    assert process is not None
    core = process.core
    ask_for(core, indices)
    assert waited(lambda: ",".join(indices) in core.snapshot.facts)
    return rewriter


def ask_for(core: Core, indices: tuple[str, ...]) -> None:
    """Have the facts of indices read that no policy names, as if they had been searched."""
    named = [name for policy in core.settings.policies.values() for name in policy.index if name != "*"]
    if not any(fnmatchcase(indices[0], name) for name in named) or len(indices) > 1:
        core.searched.note(Expression(indices), time.monotonic())


class SyncHarness:
    """A Rewriter."""

    def __init__(
        self, settings: Settings, store: FakeStore | None, profile_store: FakeStore | None = None, hooks: Any = ()
    ) -> None:
        self.engine, self.store, self._profile_store = FakeEngine(), store, profile_store
        self.rewriter = Rewriter(
            Client(self.engine, "baseline"),
            store,
            settings,
            profile_store=profile_store,
            leg_client=Client(self.engine),
            hooks=hooks,
        )
        self.knows("products")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        release(self.engine, self.store, self._profile_store)
        self.rewriter.close()

    def knows(self, *indices: str) -> None:
        """Wait until the facts of indices were read, as after a first search of them."""
        known(self.rewriter, *indices)

    @property
    def core(self) -> Core:
        assert self.rewriter._runtime is not None
        return self.rewriter._runtime.core

    def search(self, subject: Subject | None, arguments: Mapping[str, Any]) -> tuple[Any, Report]:
        return self.rewriter.search_details(subject=subject, **arguments)

    def msearch(self, subject: Subject | None, arguments: Mapping[str, Any]) -> tuple[Any, list[Report]]:
        return self.rewriter.msearch_details(subject=subject, **arguments)

    def status(self) -> Status:
        return self.rewriter.status()

    def until(self, holds: Callable[[Status], bool]) -> None:
        assert waited(lambda: holds(self.status())), self.status()


class AsyncHarness:
    """An AsyncRewriter, on a loop that runs while something is asked of it."""

    def __init__(
        self, settings: Settings, store: FakeStore | None, profile_store: FakeStore | None = None, hooks: Any = ()
    ) -> None:
        self.engine, self.store, self._profile_store = FakeEngine(), store, profile_store
        self.runner = asyncio.Runner()
        self.rewriter = AsyncRewriter(
            AsyncClient(self.engine, "baseline"),
            AsyncFakeStore(store) if store else None,
            settings,
            profile_store=AsyncFakeStore(profile_store) if profile_store else None,
            leg_client=AsyncClient(self.engine),
            hooks=hooks,
        )
        self.knows("products")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        release(self.engine, self.store, self._profile_store)
        self.runner.run(self.rewriter.close())
        self.runner.close()

    def knows(self, *indices: str) -> None:
        """Wait until the facts of indices were read, as after a first search of them."""
        self.runner.run(knowing(self.rewriter, *indices))

    @property
    def core(self) -> Core:
        assert self.rewriter._runtime is not None
        return self.rewriter._runtime.core

    def search(self, subject: Subject | None, arguments: Mapping[str, Any]) -> tuple[Any, Report]:
        return self.runner.run(self.rewriter.search_details(subject=subject, **arguments))

    def msearch(self, subject: Subject | None, arguments: Mapping[str, Any]) -> tuple[Any, list[Report]]:
        return self.runner.run(self.rewriter.msearch_details(subject=subject, **arguments))

    def status(self) -> Status:
        return self.runner.run(self.rewriter.status())

    def until(self, holds: Callable[[Status], bool]) -> None:
        async def turns() -> None:
            await asyncio.sleep(0.002)

        def held() -> bool:
            self.runner.run(turns())
            return holds(self.status())

        assert waited(held), self.status()


def release(engine: FakeEngine, *stores: FakeStore | None) -> None:
    """Let everything come that is waited for."""
    engine.released.set()
    for store in stores:
        if store is not None:
            store.released.set()


Harness = SyncHarness | AsyncHarness
HARNESSES: tuple[type[SyncHarness], type[AsyncHarness]] = (SyncHarness, AsyncHarness)
