"""`rewriter forget`: nothing of a subject is left, nothing of them comes back, and nobody else is touched."""

from __future__ import annotations

import json
import time

import pytest

from rewriter.signals.ingest.forgetting import forget
from rewriter.subject import Subject
from tests.live.shop import Shop, an_event

USER = "somebody"


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix, retry_s=1_000)


def forgotten(shop: Shop, user: str = USER) -> dict[str, int]:
    return dict(forget(shop.store, shop.store, shop.plan, user, time.time()))


def everything(shop: Shop) -> str:
    """All that is kept under the prefix, as text."""
    client, found = shop.store._connected(), []
    for key in shop.store.keys(f"{shop.settings.store.prefix}:*"):
        found.append(key)
        match client.type(key):
            case b"stream":
                found.append(str(client.xrange(key)))
            case b"zset" if not key.endswith("forgotten"):
                found.append(str(client.zrange(key, 0, -1)))
            case b"hash":
                found.append(str(client.hgetall(key)))
    return "\n".join(found)


def test_nothing_is_left(shop: Shop) -> None:
    events = [an_event(USER), an_event("u2"), an_event(USER, "not-there"), an_event(USER, action_name="yawn")]
    shop.append([*events, '{"broken": "somebody"'])
    worker = shop.worker()
    shop.drain(worker)
    plan_key = shop.plan.keys.plan(Subject(USER, f"s-{USER}"), "search")
    others = shop.plan.keys.plan(Subject("u2", "s-u2"), "search")
    assert plan_key is not None
    assert others is not None
    for key in (plan_key, others):
        shop.store.save_plan(key, b"{}", 1_000)
    assert forgotten(shop) == {"left": 0, "waiting": 1, "entries": 4, "dead_letters": 2, "keys": 5}
    left = everything(shop)
    assert USER not in left
    assert shop.plan.keys.profile(USER) not in left
    assert shop.plan.keys.session(f"s-{USER}") not in left
    assert "u2" in left
    assert shop.plan.keys.profile("u2") + ":z" in left
    assert others in left
    worker.beat()
    assert worker.counts["lost"] == 0


def test_what_was_before_does_not_come_back_and_what_comes_after_counts(shop: Shop) -> None:
    before = an_event(USER)
    forgotten(shop)
    after = an_event(USER, "p2", at_s=time.time() + 1)
    shop.append([before, after])
    shop.drain(worker := shop.worker())
    assert worker.counts == {"forgotten": 1, "counted": 1}


def test_unread_entries_go_when_nobody_reads_and_are_no_loss(shop: Shop) -> None:
    worker = shop.worker()
    worker.beat()
    worker.close()
    shop.append([an_event(USER), an_event("u2"), an_event(USER)])
    assert forgotten(shop)["entries"] == 2
    other = shop.worker()
    shop.drain(other)
    other.beat()
    assert other.counts == {"counted": 1}
    assert shop.total("lost") == 0


def test_entries_in_a_workers_hands_are_left_to_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewriter.signals.ingest.forgetting.WAIT_S", 0.0)
    worker = shop.worker()
    worker.beat()
    shop.append([an_event(USER)])
    assert forgotten(shop)["left"] == 1
    shop.drain(worker)
    assert worker.counts == {"forgotten": 1}
    assert forgotten(shop) == {"left": 0, "waiting": 0, "entries": 1, "dead_letters": 0, "keys": 0}


def test_a_client_without_a_user_is_a_user(shop: Shop) -> None:
    event = an_event("x")
    del event["user_id"]
    shop.append([event])
    shop.drain(shop.worker())
    assert forgotten(shop, "c-x")["keys"] == 4
    assert "c-x" not in json.dumps(everything(shop))


def test_in_a_cluster(redis_cluster_urls: list[str], prefix: str) -> None:
    shop = Shop("redis+cluster://" + ",".join(url.removeprefix("redis://") for url in redis_cluster_urls), prefix)
    shop.append([an_event(USER), an_event("u2")])
    shop.drain(shop.worker())
    assert forgotten(shop)["keys"] == 4
