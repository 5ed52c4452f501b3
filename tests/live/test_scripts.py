"""No script blocks the server: the work of one call is bounded, and so is its time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bench.scripts import CASES, Scene, durations_ms
from rewriter.signals.counters import Counters, HalfLives, Value, aged
from rewriter.signals.ingest.apply import AGED_AT_ONCE, PER_CALL, PER_PART
from rewriter.signals.ingest.commit import RUN_BYTES, RUN_ENTRIES
from rewriter.signals.ingest.scripts import AGE, APPLY, COMMIT
from rewriter_engines import Valkey
from tests.live.shop import Shop, an_event

MAX_MS, TRIES = 5.0, 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_99_of_100_calls_take_less_than_5_ms(
    valkey_server: Callable[..., Valkey], case: Callable[[Scene], None]
) -> None:
    """SLOWLOG goes by the wall clock: where more runs than there are cores, 9 of 10 calls stand for 99 of 100."""
    server = valkey_server()
    late: list[dict[str, float]] = []
    for _ in range(TRIES):
        busy = os.getloadavg()[0] > (os.cpu_count() or 1)
        late.append({})
        for _, name, taken in durations_ms(server, [case]):
            if (slow := taken[int(len(taken) * (0.9 if busy else 0.99))]) > MAX_MS:
                late[-1][name] = slow
        if not late[-1]:
            return
    pytest.fail(f"ms of the slow calls in {TRIES} tries: {late}")


class Watching:
    """An engine that notes what is sent to scripts."""

    def __init__(self, shop: Shop) -> None:
        self._store = shop.store
        self.calls: dict[str, list[Sequence[Any]]] = {}

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        for command in wanted:
            if command[0] == "EVALSHA":
                self.calls.setdefault(command[1], []).append(command)
        return self._store.run(wanted, atomic=atomic)


def arrays(count: int, number: int = 0) -> dict[str, Any]:
    return {
        "object": {
            "object_id": f"x{number}",
            "attributes": {"brand": [f"b{number}-{at}" for at in range(count)], "type": "t"},
        }
    }


def test_what_one_call_changes_is_bounded(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=1, batch=1_000, max_counters=1_024)
    shop.append([an_event("bot", event_attributes=arrays(16, number)) for number in range(300)])
    shop.append(["no event " + "x" * 60_000 for _ in range(40)])
    watching = Watching(shop)
    shop.drain(worker := shop.worker(watching))
    assert worker.counts == {"counted": 300, "refused": 40}
    for command in watching.calls[APPLY]:
        assert sum(isinstance(part, bytes) for part in command[6:]) <= PER_CALL  # members are bytes, all else is text
    for command in watching.calls[COMMIT]:
        assert sum(len(part) for part in command if isinstance(part, bytes)) <= RUN_BYTES + 70_000
        assert len(command) < 4 * RUN_ENTRIES


@pytest.mark.parametrize("values", [PER_PART - 3, 2 * PER_PART, 5 * PER_PART + 7])
@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5, 9])
def test_an_entry_in_parts_counts_once_wherever_it_breaks_off(
    redis_url: str, prefix: str, values: int, fail_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewriter.signals.events.MAX_VALUES", 10_000)
    shop = Shop(redis_url, prefix, partitions=1, max_counters=1_024)
    shop.append([an_event("u1", event_attributes=arrays(values, number)) for number in range(3)])

    class Breaking(Watching):
        """Loses the connection once, after some calls of apply.lua were run."""

        lost = False

        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            calls = [
                at for at, one in enumerate(wanted) if one[0] in ("EVALSHA", "EVAL") and str(one[3]).endswith(":z")
            ]
            if len(calls) > 1 and not self.lost:
                self.lost = True
                super().run(wanted[: calls[min(fail_at, len(calls) - 1)]], atomic=atomic)
                raise ConnectionError("lost")
            return super().run(wanted, atomic=atomic)

    broken = shop.worker(Breaking(shop))
    until_s = time.monotonic() + 20
    while broken.counts["counted"] < 3:
        broken.step()
        assert time.monotonic() < until_s, broken.trouble
    (profile,) = shop.store.read_many([shop.plan.keys.profile("u1")], tuple(shop.plan.fields), 5_000)
    assert profile is not None
    assert profile.events == 3
    assert profile.totals["brand"] == pytest.approx(3 * values * 2.0)
    (left,) = shop.store.run([("HEXISTS", f"{shop.plan.keys.profile('u1')}:m", "part:0")])
    assert left == 0


def test_a_call_before_its_turn_changes_nothing_and_is_sent_again(redis_url: str, prefix: str) -> None:
    """As where the server learns a script between two calls of a pipeline: the first is refused, the second is not."""
    shop = Shop(redis_url, prefix, partitions=1, batch=200)
    shop.append([an_event("bot", event_attributes=arrays(16, number)) for number in range(60)])

    class Forgetful(Watching):
        dropped = 0

        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            first: dict[str, int] = {}
            for at, command in enumerate(wanted):
                if command[0] == "EVALSHA" and command[1] == APPLY:
                    first.setdefault(command[3], at)
            if not first or self.dropped:
                return super().run(wanted, atomic=atomic)
            self.dropped = len(first)
            from redis.exceptions import NoScriptError

            ran = iter(super().run([one for at, one in enumerate(wanted) if at not in first.values()], atomic=atomic))
            return [NoScriptError() if at in first.values() else next(ran) for at in range(len(wanted))]

    forgetful = Forgetful(shop)
    shop.drain(worker := shop.worker(forgetful))
    assert forgetful.dropped
    assert worker.counts == {"counted": 60}
    (profile,) = shop.store.read_many([shop.plan.keys.profile("bot")], ("brand",), 100)
    assert profile is not None
    assert profile.events == 60


NEW = {"object": {"object_id": "new", "attributes": {"brand": "new", "type": "new"}}}


@pytest.fixture
def aging(redis_url: str, prefix: str) -> tuple[Shop, Counters]:
    """A population of 2,000 members that is due to be aged."""
    shop, at_s = Shop(redis_url, prefix, partitions=1), time.time() - 40_000
    weights: dict[Value, float] = {("brand", f"b{n}"): 1.0 + n for n in range(1_000)}
    weights |= {("type_brand", "t", f"b{n}"): 1.0 + n / 7 for n in range(1_000)}
    totals = {"brand": sum(w for v, w in weights.items() if v[0] == "brand"), "type_brand": 9e6}
    counters = Counters(weights, totals, at_s, at_s, 2_000.0)
    shop.store.write(shop.plan.keys.population(0), counters, None)
    return shop, counters


def population(shop: Shop) -> Counters:
    (found,) = shop.store.read_many([shop.plan.keys.population(0)], tuple(shop.plan.fields), 5_000)
    assert found is not None
    return found


def as_expected(shop: Shop, counters: Counters) -> None:
    found = population(shop)
    expected = aged(counters, found.landmark_s, HalfLives(86_400, {"type_brand": 43_200}))
    rest = {value: weight for value, weight in found.weights.items() if value in expected.weights}
    assert rest == pytest.approx(dict(expected.weights))
    assert found.landmark_s > counters.landmark_s + 30_000
    assert shop.store.run([("EXISTS", f"{shop.plan.keys.population(0)}:aged")]) == [0]
    assert shop.store.run([("HEXISTS", f"{shop.plan.keys.population(0)}:m", "aging")]) == [0]


def test_ageing_goes_in_steps_and_readers_see_the_old_or_the_new(aging: tuple[Shop, Counters]) -> None:
    shop, counters = aging

    seen: set[float] = set()

    class Reading(Watching):
        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            if any(command[1] == AGE for command in wanted):
                now = population(shop)
                seen.add(now.landmark_s)
                assert (dict(now.weights), now.totals) == (dict(counters.weights), counters.totals)
            return super().run(wanted, atomic=atomic)

    reading = Reading(shop)
    shop.append([an_event("u1", event_attributes=NEW)])
    shop.drain(shop.worker(reading))
    assert len(reading.calls[AGE]) >= 2_000 // AGED_AT_ONCE
    assert seen == {counters.landmark_s}
    as_expected(shop, counters)


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_ageing_that_breaks_off_goes_on(aging: tuple[Shop, Counters], steps: int) -> None:
    shop, counters = aging

    class Dying(Watching):
        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            if len(self.calls.get(AGE, ())) >= steps:
                raise ConnectionError("dead")
            return super().run(wanted, atomic=atomic)

    shop.append([an_event("u1", event_attributes=NEW)])
    dying = shop.worker(Dying(shop))
    dying.step()
    assert population(shop).landmark_s == counters.landmark_s
    shop.store.run([("DEL", shop.keys.of_stream(0, "lease"))])
    shop.drain(shop.worker())
    as_expected(shop, counters)


@pytest.mark.parametrize("change", ["shadow lost", "another writer", "written anew"])
def test_what_changes_during_ageing_begins_it_anew(aging: tuple[Shop, Counters], change: str) -> None:
    shop, counters = aging
    base, fields = shop.plan.keys.population(0), dict(counters.weights)

    class Meddling(Watching):
        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            if any(command[1] == AGE for command in wanted) and len(self.calls.get(AGE, ())) == 3:
                if change == "shadow lost":
                    shop.store.run([("DEL", f"{base}:aged")])
                elif change == "another writer":
                    added = ("ZINCRBY", f"{base}:z", 50.0, b"brand\x1fb1")
                    shop.store.run([added, ("HINCRBYFLOAT", f"{base}:m", "total:brand", 50.0)])
                    fields["brand", "b1"] += 50.0
                else:
                    shop.store.write(base, Counters({}, {}, counters.landmark_s, counters.landmark_s, 0.0), None)
                    shop.store.write(base, counters, None)
            return super().run(wanted, atomic=atomic)

    shop.append([an_event("u1", event_attributes=NEW)])
    shop.drain(shop.worker(Meddling(shop)))
    as_expected(shop, Counters(fields, counters.totals, counters.landmark_s))
    assert set(fields) <= set(population(shop).weights)
