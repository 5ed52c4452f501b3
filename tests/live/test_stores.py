"""One behaviour suite for every store. Tests await; stores for threads are awaited through a thin wrapper."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import redis
import redis.asyncio.connection

from rewriter.errors import StoreError
from rewriter.signals.commands import MAX_TEXT_BYTES, NAMED_S
from rewriter.signals.counters import Counters, Value
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore
from rewriter.signals.store import AsyncStore, Keys, NewPlan, SavedPlans, Signals, SignalsQuery, Store

T0_S = 1_767_225_600.0
FIELDS = ("brand", "item")
NIKE, PUMA = ("brand", "nike"), ("brand", "puma")
SESSION = Counters({NIKE: 3.0, PUMA: 1.5}, {"brand": 4.5}, T0_S, T0_S + 60, 4.0, 0.25)
PROFILE = Counters({("item", "B0017"): 7.0, NIKE: 0.1}, {"item": 7.0, "brand": 20.0}, T0_S, T0_S, 30.0)


class Awaited:
    """A store for threads behind the face of one for the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            return getattr(self._store, name)(*arguments)

        return call


def awaited(store: Store) -> AsyncStore:
    return cast("AsyncStore", Awaited(store))


@dataclass(frozen=True)
class Rig:
    """A store under test, its keys, and a plain client beside it where there is a server."""

    store: AsyncStore
    keys: Keys
    server: Any = None

    def query(self, session: str | None, user: str | None, plan: str | None = None, limit: int = 64) -> SignalsQuery:
        keys = self.keys
        return SignalsQuery(
            keys.session(session) if session else None, keys.profile(user) if user else None, plan, FIELDS, limit
        )

    async def known(self) -> SignalsQuery:
        """Write the session S and the profile U."""
        query = self.query("S", "U")
        await self.store.write(query.session or "", SESSION, 600)
        await self.store.write(query.profile or "", PROFILE, None)
        return query


SERVED = ["redis", "redis-async", "cluster", "cluster-async"]


@pytest.fixture
async def rig(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Rig]:
    kind: str = request.param
    keys = Keys(prefix, "salt")
    if kind.startswith("memory"):
        memory = MemoryStore()
        yield Rig(AsyncMemoryStore(memory) if kind.endswith("async") else awaited(memory), keys)
        return
    if kind.startswith("cluster"):
        urls: list[str] = request.getfixturevalue("redis_cluster_urls")
        url = "redis+cluster://" + ",".join(one.partition("://")[2] for one in urls)
        server: Any = redis.RedisCluster.from_url(urls[0])
    else:
        url = request.getfixturevalue("redis_url")
        server = redis.Redis.from_url(url)
    store = AsyncRedisStore(url) if kind.endswith("async") else awaited(RedisStore(url))
    yield Rig(store, keys, server)
    await store.close()
    server.close()


everywhere = pytest.mark.parametrize("rig", ["memory", "memory-async", *SERVED], indirect=True)
on_servers = pytest.mark.parametrize("rig", SERVED, indirect=True)


# --- every store ------------------------------------------------------------------------------------------------------


@everywhere
async def test_what_is_written_is_read(rig: Rig) -> None:
    assert await rig.store.read(await rig.known()) == Signals(SESSION, PROFILE)


@everywhere
async def test_the_heaviest_come_first(rig: Rig) -> None:
    base = rig.keys.profile("U")
    weights: dict[Value, float] = {
        ("brand", name): weight for name, weight in (("a", 1.0), ("c", 2.0), ("b", 2.0), ("d", 0.5))
    }
    await rig.store.write(base, Counters(weights, {}, T0_S), None)
    read = await rig.store.read(rig.query(None, "U", limit=3))
    assert read.profile is not None
    assert list(read.profile.weights) == [("brand", "c"), ("brand", "b"), ("brand", "a")]


@everywhere
async def test_who_is_unknown_has_no_signals(rig: Rig) -> None:
    await rig.known()
    assert await rig.store.read(rig.query("other", "other", "other")) == Signals()
    assert await rig.store.read(rig.query(None, None)) == Signals()


@everywhere
async def test_one_of_two_scopes_may_be_unknown(rig: Rig) -> None:
    await rig.known()
    assert await rig.store.read(rig.query("new", "U")) == Signals(profile=PROFILE)
    assert await rig.store.read(rig.query("S", None)) == Signals(session=SESSION)


@everywhere
async def test_only_totals_of_the_wanted_fields_are_read(rig: Rig) -> None:
    query = await rig.known()
    read = await rig.store.read(SignalsQuery(None, query.profile, None, ("item",), 64))
    assert read.profile is not None
    assert read.profile.totals == {"item": 7.0}


@everywhere
async def test_a_write_takes_the_place_of_all_that_stood_there(rig: Rig) -> None:
    query = await rig.known()
    newer = Counters({PUMA: 1.0}, {"item": 1.0}, T0_S + 5)
    await rig.store.write(query.profile or "", newer, None)
    assert (await rig.store.read(query)).profile == newer


@everywhere
async def test_counters_without_values_still_say_when(rig: Rig) -> None:
    empty = Counters({}, {}, T0_S, T0_S, 1.0)
    await rig.store.write(rig.keys.profile("U"), empty, None)
    assert await rig.store.read(rig.query(None, "U")) == Signals(profile=empty)


@everywhere
async def test_what_has_no_time_left_is_gone(rig: Rig) -> None:
    query = await rig.known()
    await rig.store.write(query.session or "", SESSION, 0)
    assert await rig.store.read(query) == Signals(profile=PROFILE)


@everywhere
async def test_a_write_that_is_refused_leaves_what_stood_there(rig: Rig) -> None:
    query = await rig.known()
    with pytest.raises(StoreError, match="nothing was written"):
        await rig.store.write(query.profile or "", Counters({NIKE: 1.0}, {}, float("nan")), None)
    assert (await rig.store.read(query)).profile == PROFILE


@everywhere
async def test_a_plan_is_read_together_with_the_signals(rig: Rig) -> None:
    query = await rig.known()
    plan = f"{query.session}:plan:abc"
    assert await rig.store.save_plans([NewPlan(plan, b'{"v": 1}', 1800)]) == SavedPlans()
    assert await rig.store.read(rig.query("S", "U", plan)) == Signals(SESSION, PROFILE, b'{"v": 1}')


@everywhere
async def test_a_plan_over_the_limit_is_not_saved(rig: Rig) -> None:
    plan = f"{rig.keys.session('S')}:plan:abc"
    assert await rig.store.save_plans([NewPlan(plan, b"x" * (MAX_TEXT_BYTES + 1), 1800)]) == SavedPlans(1)
    assert await rig.store.read(rig.query(None, None, plan)) == Signals()


@everywhere
async def test_a_plan_that_continues_another_one_than_the_store_has_is_not_saved(rig: Rig) -> None:
    keys = [f"{rig.keys.session(one)}:plan:abc" for one in ("S", "T", "U")]
    assert await rig.store.save_plans([NewPlan(key, b"first", 1800, base=b"gone") for key in keys]) == SavedPlans()
    plans = [
        NewPlan(key, b"page 2", 1800, base=base) for key, base in zip(keys, (b"first", b"other", b""), strict=True)
    ]
    assert await rig.store.save_plans(plans) == SavedPlans(0, {keys[1]: b"first"})
    assert await rig.store.save_plans(
        [NewPlan(keys[1], b"x" * (MAX_TEXT_BYTES + 1), 1800, base=b"first")]
    ) == SavedPlans(1)
    read = [(await rig.store.read(rig.query(None, None, key))).plan for key in keys]
    assert read == [b"page 2", b"first", b"page 2"]


@everywhere
async def test_a_text_is_read_back_as_written(rig: Rig) -> None:
    key = f"{rig.keys.prefix}:switches"
    assert await rig.store.read_text(key) is None
    await rig.store.write_text(key, "personalization = öff")
    assert await rig.store.read_text(key) == "personalization = öff"


@everywhere
async def test_many_are_read_in_their_order_over_several_chunks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewriter.signals.commands.MEMBERS_AT_ONCE", 128)
    bases = [rig.keys.population(partition) for partition in range(7)]
    partials = [Counters({NIKE: 1.0 + n}, {"brand": 1.0 + n}, T0_S) if n != 4 else None for n in range(7)]
    for base, partial in zip(bases, partials, strict=True):
        if partial is not None:
            await rig.store.write(base, partial, None)
    assert await rig.store.read_many(bases, FIELDS, 64) == partials


@everywhere
async def test_what_processes_say_of_themselves_is_heard_until_they_fall_silent(rig: Rig) -> None:
    key = f"{rig.keys.prefix}:processes"
    assert await rig.store.announced(key) == {}
    await rig.store.announce(key, "one", "closed", T0_S)
    await rig.store.announce(key, "other", "open", T0_S + 1)
    assert await rig.store.announced(key) == {"one": "closed", "other": "open"}
    await rig.store.announce(key, "other", "closed", T0_S + NAMED_S)
    assert await rig.store.announced(key) == {"other": "closed"}


@everywhere
async def test_processes_whose_clocks_differ_hear_of_each_other(rig: Rig) -> None:
    key = f"{rig.keys.prefix}:processes"
    for name, ahead_s in (("behind", -NAMED_S / 2), ("right", 0.0), ("ahead", NAMED_S / 2 - 1)):
        await rig.store.announce(key, name, "closed", T0_S + ahead_s)
    assert (await rig.store.announced(key)).keys() == {"behind", "right", "ahead"}


@everywhere
async def test_a_store_that_answers_says_so(rig: Rig) -> None:
    await rig.store.ping()


async def test_in_memory_what_expired_is_gone_and_takes_no_room() -> None:
    now_s = [0.0]
    store = MemoryStore(lambda: now_s[0])
    store.write("S", SESSION, 60)
    store.save_plans([NewPlan("L", b"plan", 90)])
    query = SignalsQuery("S", None, "L", FIELDS, 64)
    assert store.read(query) == Signals(SESSION, plan=b"plan")
    now_s[0] = 60.0
    assert store.read(query) == Signals(plan=b"plan")
    now_s[0] = 1000.0
    store.ping()
    assert store.read(query) == Signals()
    assert not store._kept


# --- what a server may hold -------------------------------------------------------------------------------------------


@on_servers
async def test_lifetimes_are_the_servers(rig: Rig) -> None:
    query = await rig.known()
    for key in (f"{query.session}:z", f"{query.session}:m"):
        assert 590 <= rig.server.ttl(key) <= 600
    assert rig.server.ttl(f"{query.profile}:z") == -1
    await rig.store.save_plans([NewPlan(f"{query.session}:plan:abc", b"plan", 1800)])
    assert 1790 <= rig.server.ttl(f"{query.session}:plan:abc") <= 1800


@on_servers
@pytest.mark.parametrize("suffix", ["z", "m"])
async def test_a_key_of_the_wrong_type_fails_its_scope_alone(rig: Rig, suffix: str) -> None:
    query = await rig.known()
    rig.server.delete(f"{query.session}:{suffix}")
    rig.server.lpush(f"{query.session}:{suffix}", "not this")
    assert await rig.store.read(query) == Signals(profile=PROFILE, failed=frozenset({"session"}))


@on_servers
async def test_a_plan_of_the_wrong_type_or_length_is_no_plan(rig: Rig) -> None:
    query = await rig.known()
    wrong, long = f"{query.session}:plan:wrong", f"{query.session}:plan:long"
    rig.server.lpush(wrong, "not this")
    rig.server.set(long, b"x" * 10 * MAX_TEXT_BYTES)
    assert await rig.store.read(rig.query("S", "U", wrong)) == Signals(SESSION, PROFILE, failed=frozenset({"plan"}))
    assert await rig.store.read(rig.query("S", "U", long)) == Signals(SESSION, PROFILE)
    assert await rig.store.read_text(long) is None


@on_servers
async def test_hostile_members_are_ignored_one_by_one(rig: Rig) -> None:
    query = await rig.known()
    hostile = {
        b"brand\x1f" + b"x" * 2**20: 9.0,
        b"\xff\xfe\x1f\xff": 8.0,
        b"no separator": 7.0,
        b"brand\x1finfinite": float("inf"),
        b"brand\x1fnegative": -5.0,
        b"brand\x1fhuge": 1e308,
        b'brand\x1f"}]}{{ 7*7 }}\n\x00': 1.0,
    }
    rig.server.zadd(f"{query.session}:z", hostile)
    rig.server.hset(f"{query.session}:m", mapping={"events": "nan", "total:item": b"\xff", "lag": "-1", "other": "x"})
    read = await rig.store.read(query)
    assert read.profile == PROFILE
    weights: dict[Value, float] = {NIKE: 3.0, PUMA: 1.5, ("brand", '"}]}{{ 7*7 }}\n\x00'): 1.0}
    assert read.session == Counters(weights, {"brand": 4.5}, T0_S, T0_S + 60)


@on_servers
async def test_an_error_among_many_is_raised(rig: Rig) -> None:
    base = rig.keys.population(1)
    rig.server.set(f"{base}:z", "not this")
    with pytest.raises(StoreError, match="cannot be read: WRONGTYPE"):
        await rig.store.read_many([rig.keys.population(0), base], FIELDS, 64)


FILL = "for n = ARGV[1], ARGV[2] do redis.call('ZADD', KEYS[1], n, 'brand\\31' .. n) end"


@on_servers
async def test_a_million_members_cost_no_more_than_their_top(rig: Rig) -> None:
    """The member with the weight n is brand n. Others are read meanwhile as if it were not there."""
    query = await rig.known()
    crowded = rig.keys.session("crowded")
    for first in range(1, 1_000_000, 50_000):  # in parts that a cluster does not take for a node that hangs
        rig.server.eval(FILL, 1, f"{crowded}:z", first, first + 49_999)
    rig.server.hset(f"{crowded}:m", "landmark", T0_S)
    read = await rig.store.read(rig.query("crowded", "U"))
    assert read.session is not None
    assert list(read.session.weights.items()) == [(("brand", str(n)), float(n)) for n in range(1_000_000, 999_936, -1)]
    reads = await asyncio.gather(*(rig.store.read(one) for one in [rig.query("crowded", None), query] * 10))
    assert reads[1::2] == [Signals(SESSION, PROFILE)] * 10


def sent_from_now_on(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list that each sending of commands, of one or of a pipeline of them, is added to."""
    sent: list[Any] = []

    def counted(owner: Any) -> None:
        send = owner.send_packed_command

        def counting(self: Any, *arguments: Any, **options: Any) -> Any:
            sent.append(self)
            return send(self, *arguments, **options)

        monkeypatch.setattr(owner, "send_packed_command", counting)

    counted(redis.connection.AbstractConnection)
    counted(redis.asyncio.connection.AbstractConnection)
    return sent


@on_servers
async def test_one_read_is_one_round_trip_to_each_node(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    query = await rig.known()
    await rig.store.read(query)
    sent = sent_from_now_on(monkeypatch)
    assert await rig.store.read(query) == Signals(SESSION, PROFILE)
    nodes = (
        {rig.server.get_node_from_key(base).name for base in (query.session, query.profile)}
        if hasattr(rig.server, "get_nodes")
        else {""}
    )
    assert len(sent) == len(nodes)


# --- when it is away --------------------------------------------------------------------------------------------------


def quick(url: str) -> list[AsyncStore]:
    """Both stores, with time-outs that a test can wait for."""
    url += "?socket_timeout=0.5&socket_connect_timeout=0.5"
    return [awaited(RedisStore(url)), AsyncRedisStore(url)]


@pytest.mark.parametrize("number", [0, 1], ids=["threads", "loop"])
async def test_a_server_that_was_away_is_read_again(
    number: int, valkey_server: Callable[..., Any], prefix: str
) -> None:
    server = valkey_server()
    rig = Rig(quick(server.url)[number], Keys(prefix))
    query = await rig.known()
    server.stop()
    with pytest.raises(redis.ConnectionError):
        await rig.store.read(query)
    with pytest.raises(redis.ConnectionError):
        await rig.store.ping()
    server.start()
    await rig.known()
    assert await rig.store.read(query) == Signals(SESSION, PROFILE)
    await rig.store.close()


@pytest.mark.parametrize("number", [0, 1], ids=["threads", "loop"])
async def test_a_hung_server_is_asked_once(
    number: int, valkey_server: Callable[..., Any], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = valkey_server()
    rig = Rig(quick(server.url)[number], Keys(prefix))
    query = await rig.known()
    assert await rig.store.read(query) == Signals(SESSION, PROFILE)
    sent = sent_from_now_on(monkeypatch)
    server.pause()
    began_s = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        await rig.store.read(query)
    assert time.monotonic() - began_s > 0.4  # it waited
    assert len(sent) == 1
    server.resume()
    assert await rig.store.read(query) == Signals(SESSION, PROFILE)
    await rig.store.close()
