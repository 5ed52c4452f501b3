"""A job that writes counters while `rewriter ingest` works: events applied before are replaced, and not applied again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from rewriter.signals.counters import Counters
from tests.live.shop import Shop, an_event


class Dying:
    """An engine that is lost before the next batch is settled."""

    def __init__(self, shop: Shop) -> None:
        self._store = shop.store
        self.dies = True

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        if self.dies and any(
            one[0] == "EVALSHA" and str(one[3]).endswith(":lease") and len(one) > 15 for one in wanted
        ):
            raise redis.ConnectionError("lost")
        return self._store.run(wanted, atomic=atomic)


@pytest.mark.parametrize("ttl_s", [None, 1_000])
@pytest.mark.parametrize("scope", ["profile", "session", "population"])
def test_a_batch_under_way_is_not_counted_on_top(redis_url: str, prefix: str, scope: str, ttl_s: int | None) -> None:
    shop, now_s = Shop(redis_url, prefix, partitions=1), time.time()
    keys = shop.plan.keys
    base = {"profile": keys.profile("u1"), "session": keys.session("s-u1"), "population": keys.population(0)}[scope]
    shop.append([an_event("u1", "p8") for _ in range(3)])
    engine = Dying(shop)
    shop.worker(engine).step()
    (events,) = shop.store.run([("HGET", f"{base}:m", "events")])
    assert float(events) == 3  # applied, and not settled
    written = Counters({("brand", "b1"): 100.0}, {"brand": 100.0}, now_s, now_s, 7.0)
    shop.store.write(base, written, ttl_s)
    shop.store.run([("DEL", shop.keys.of_stream(0, "lease"))])
    shop.drain(worker := shop.worker())
    assert worker.counts == {"counted": 3}
    (found,) = shop.store.read_many([base], ("brand",), 10)
    assert found == written
    shop.append([an_event("u1", "p8")])
    shop.drain(worker)
    (found,) = shop.store.read_many([base], ("brand",), 10)
    assert found is not None
    assert found.events == 8
    ttls = shop.store.run([("TTL", f"{base}:z"), ("TTL", f"{base}:m")])
    assert all(ttl > 0 for ttl in ttls)  # the worker's own


def test_what_is_written_takes_the_place_of_what_was_there(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    base = shop.plan.keys.profile("u1")
    for key in ("z", "m"):
        shop.store.run([("DEL", f"{base}:z", f"{base}:m"), ("SET", f"{base}:{key}", "something else")])
        written = Counters({("brand", f"b{number}"): 1.0 + number for number in range(1_201)}, {"brand": 9.0}, 5.0)
        assert shop.store.write(base, written, None)
        assert shop.store.read_many([base], ("brand",), 5_000) == [written]
    assert shop.store.write(base, Counters({}, {}, 6.0), None)
    assert shop.store.read_many([base], ("brand",), 10) == [Counters({}, {}, 6.0)]
    assert list(shop.store.keys(f"{prefix}:*:written:*")) == []
    assert shop.store.run([("TTL", f"{base}:m")]) == [-1]


def test_members_that_did_not_get_there_leave_the_old_ones(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    base, old = shop.plan.keys.profile("u1"), Counters({("brand", "old"): 1.0}, {"brand": 1.0}, 5.0)
    shop.store.write(base, old, None)

    class Losing(type(shop.store)):  # type: ignore[misc]
        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            first = next(at for at, one in enumerate(wanted) if one[0] == "ZADD")
            return super().run([one for at, one in enumerate(wanted) if at != first], atomic=atomic)  # type: ignore[no-any-return]

    losing = Losing(shop.url)
    with pytest.raises(redis.ResponseError, match="write them again"):
        losing.write(base, Counters({("brand", f"b{number}"): 1.0 for number in range(900)}, {}, 6.0), None)
    losing.close()
    assert shop.store.read_many([base], ("brand",), 10) == [old]
