"""Counters by class on real servers: what ingest, backfill and erasure make of them, and what a search makes of its classes."""

from __future__ import annotations

import json
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason, Report, Rewriter, Settings, Subject
from rewriter.client.registry import around
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.class_counters import (
    HEAD,
    MAX_CLASSES,
    MAX_VALUES,
    WEIGHED,
    ClassCounters,
    counted_by_class,
    packed,
    unpacked,
)
from rewriter.signals.counters import Counters, HalfLives, Observation, Value
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.erasure import forget
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from tests.live.conftest import loaded
from tests.live.shop import PRODUCTS, Shop, an_event, many_events
from tests.live.test_repeats import Losing

HALF_LIVES = HalfLives(86_400.0, {"type_brand": 43_200.0})


def by_class(url: str, prefix: str, **ingest: Any) -> Shop:
    shop = Shop(url, prefix, max_counters=500, **ingest)
    policy = shop.settings.policies["shop"].model_dump() | {"class_field": "type"}
    shop.settings = Settings.model_validate(shop.settings.model_dump() | {"policies": {"shop": policy}})
    shop.plan = CountingRules.of(shop.settings)
    assert shop.plan.class_combinations == {"type_brand"}
    return shop


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return by_class(redis_url, prefix)


def held(shop: Shop, user: str) -> dict[str, ClassCounters]:
    """A profile's counters by class, as they lie in the store."""
    (found,) = shop.store.run([("HGETALL", f"{shop.plan.keys.profile(user)}:c")])
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    read = {name.decode(): unpacked(raw) for name, raw in pairs}
    return {name: one for name, one in read.items() if one is not None}


def observed(shop: Shop, events: list[dict[str, Any]], user: str) -> list[Observation]:
    once = {one["event_id"]: one for one in events}.values()
    found = []
    for one in once:
        name = one["event_attributes"]["object"]["object_id"]
        document = PRODUCTS[name]
        values: tuple[Value, ...] = (
            ("type_brand", document["type"], document["brand"]),
            ("item", name, document["type"]),
        )
        if one["user_id"] == user:
            at_s = datetime.fromisoformat(one["timestamp"]).timestamp()
            found.append(Observation(values, shop.settings.signals.action_weights[one["action_name"]], at_s))
    return found


def assert_counted(shop: Shop, events: list[dict[str, Any]], user: str, rel: float = 1e-9) -> None:
    found, seen = held(shop, user), observed(shop, events, user)
    assert found
    for name, own in found.items():
        wanted = counted_by_class(seen, HALF_LIVES, own.landmark_s, ITEM, shop.plan.class_combinations)[name]
        assert dict(own.weights) == pytest.approx(dict(wanted.weights), rel=rel)
        assert own.total == pytest.approx(wanted.total, rel=rel)


def positive(events: Any) -> list[dict[str, Any]]:
    return [one for one in events if one["action_name"] != "remove_from_cart"]


def test_ingest_keeps_items_and_combinations_by_class(shop: Shop) -> None:
    """Hours out of order, so that each class moves its landmark by itself. Combinations are kept by class alone."""
    events = positive(many_events(200, users=1, spread_s=100_000))
    shop.append(events)
    shop.drain(shop.worker())
    assert_counted(shop, events, "u0")
    (members,) = shop.store.run([("ZRANGE", f"{shop.plan.keys.profile('u0')}:z", 0, -1)])
    assert {raw.split(b"\x1f")[0] for raw in members} == {b"brand", b"item"}


def test_what_is_sent_again_is_counted_once(redis_url: str, prefix: str) -> None:
    shop = by_class(redis_url, prefix, batch=40)
    events = positive(many_events(200, users=2))
    shop.append(events)
    shop.drain(shop.worker(store := Losing(shop, seed=5)))
    assert store.losses
    for user in ("u0", "u1"):
        assert_counted(shop, events, user)


def test_a_class_keeps_its_heaviest_values_and_a_subject_its_latest_classes(shop: Shop) -> None:
    shop.index.documents = {f"p{n}": {"brand": "b", "type": "one" if n < 100 else f"t{n}"} for n in range(500)}
    now_s = time.time() - 1_000
    shop.append([an_event("u1", f"p{n}", now_s + n) for n in range(500)])
    shop.drain(shop.worker())
    found = held(shop, "u1")
    assert MAX_CLASSES <= len(found) <= MAX_CLASSES + 16
    assert "one" not in found
    assert "t499" in found
    shop.append([an_event("u2", f"p{n}", now_s + n) for n in range(100)])
    shop.drain(shop.worker())
    assert len(held(shop, "u2")["one"].weights) == MAX_VALUES


def in_bytes(
    *weights: tuple[float, bytes], at_s: float, last_s: float = 1.0, total: float = 1.0, form: int = 1
) -> bytes:
    return HEAD.pack(form, at_s, last_s, total) + b"".join(WEIGHED.pack(one, len(name)) + name for one, name in weights)


NAN, INF, NOW_S = float("nan"), float("inf"), time.time()
SOUND, OTHERS = (1.0, b"item\x1fp1"), [b"item\x1f%d" % n for n in range(60)]
FOREIGN: dict[str, bytes] = {
    "no landmark": in_bytes(SOUND, at_s=NAN),
    "a landmark without end": in_bytes(SOUND, at_s=INF),
    "a landmark too far": in_bytes(SOUND, at_s=1e300),
    "no time": in_bytes(SOUND, at_s=NOW_S, last_s=NAN),
    "no total": in_bytes(SOUND, at_s=NOW_S, total=NAN),
    "no field, to be aged": in_bytes((1.0, b"x"), at_s=NOW_S - 1e7),
    "no member, to be aged": in_bytes((1.0, b""), at_s=NOW_S - 1e7),
    "no field": in_bytes((1.0, b"x"), at_s=NOW_S),
    "no text": in_bytes((1.0, b"item\x1f\xff\xfe"), at_s=NOW_S),
    "no weights": in_bytes(*((NAN, one) for one in OTHERS), at_s=NOW_S),
    "some weights": in_bytes(*((NAN if n % 3 else n, one) for n, one in enumerate(OTHERS)), at_s=NOW_S),
    "weights without end": in_bytes((INF, b"item\x1fp1"), (1e308, b"item\x1fp2"), (-1.0, b"item\x1fp3"), at_s=NOW_S),
    "too many": in_bytes(*((1.0, b"%d\x1fx" % n) for n in range(4_000)), at_s=NOW_S),
    "too long": b"\x01" + b"x" * 3_000_000,
    "cut short": in_bytes(SOUND, at_s=NOW_S)[:-3],
    "another format": in_bytes(SOUND, at_s=NOW_S, form=2),
    "a text": b"a text that is long enough for a head",
}


def test_a_class_that_cannot_be_read_begins_anew_and_stops_nobody(shop: Shop) -> None:
    """Who writes into the store has written anything."""
    keys, (name,) = shop.plan.keys, {PRODUCTS["p1"]["type"]}
    shop.append([an_event(one, "p1") for one in (*FOREIGN, "crowded", "of another type", "well")])
    shop.drain(shop.worker())
    shop.store.run([("HSET", f"{keys.profile(one)}:c", name, raw) for one, raw in FOREIGN.items()])
    crowd = [part for n in range(300) for part in (f"c{n}", FOREIGN["no time"])]
    shop.store.run([("HSET", f"{keys.profile('crowded')}:c", *crowd)])
    other = f"{keys.profile('of another type')}:c"
    shop.store.run([("DEL", other), ("SET", other, "x")])
    worker = shop.worker()
    shop.append([an_event(one, "p1") for one in (*FOREIGN, "crowded", "of another type", "well")])
    shop.append([an_event("crowded", one) for one in PRODUCTS])  # of new classes, so that old ones go
    shop.drain(worker)
    for one in (*FOREIGN, "crowded", "well"):
        assert ("item", "p1") in held(shop, one)[name].weights, one
        assert len(held(shop, one)[name].weights) <= MAX_VALUES
    assert len(shop.store.run([("HKEYS", f"{keys.profile('crowded')}:c")])[0]) <= MAX_CLASSES + 16


def test_forgetting_leaves_no_class(shop: Shop) -> None:
    shop.append([an_event("u1", "p1"), an_event("u2", "p1")])
    shop.drain(shop.worker())
    forget(shop.store, shop.store, shop.plan, "u1")
    assert held(shop, "u1") == {}
    assert held(shop, "u2")


def test_a_backfill_writes_what_ingest_does(shop: Shop, tmp_path: Path) -> None:
    events = positive(many_events(150, users=3))
    once = list({one["event_id"]: one for one in events}.values())
    rows = [
        {
            "user_id": one["user_id"], "object_id": one["event_attributes"]["object"]["object_id"],
            "timestamp": one["timestamp"], "action_name": one["action_name"],
        }
        for one in once
    ]  # fmt: skip
    (tmp_path / "h.ndjson").write_text("\n".join(map(json.dumps, rows)))
    looked_up = Objects(
        around(shop.index, is_async=False), ["products"], shop.plan.attributes, max_objects=1_000, age_s=60,
        clock_s=time.monotonic,
    )  # fmt: skip
    history = History([str(tmp_path / "h.ndjson")], shop.plan, 4, None, {})
    history.add_up(looked_up, lambda *_: None)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(history, looked_up, "files", lambda _: None)
    for user in ("u0", "u1", "u2"):
        assert_counted(shop, once, user, rel=1e-6)


# --- searches ---------------------------------------------------------------------------------------------------------

MAPPING = {"title": {"type": "text"}, "type": {"type": "keyword"}, "size": {"type": "keyword"}}


def products() -> dict[str, dict[str, Any]]:
    draw = random.Random(1)
    return {
        f"{kind}{n}": {"title": f"{kind} no {n}", "type": kind, "size": draw.choice("sml")}
        for kind in ("milk", "soup")
        for n in range(30)
    }


def searched(rewriter: Rewriter, index: str, words: str) -> tuple[dict[str, Any], Report]:
    body = {"query": {"match": {"title": words}}, "size": 10}
    response, report = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
    assert report.reason is Reason.PERSONALIZED, report
    assert all("fields" not in hit and "matched_queries" not in hit for hit in response["hits"]["hits"])
    return response, report


def boosted(report: Report) -> set[tuple[str, str]]:
    return {(one.field, one.value) for one in report.boosts}


@pytest.mark.parametrize("old_layout", [False, True])
def test_a_search_reads_the_classes_of_its_query_from_the_second_time_on(
    opensearch: OpenSearch, prefix: str, old_layout: bool
) -> None:
    """The first search for some words goes by all counters; the next ones by those of the class that its hits have.

    A profile of the older layout, whose items have no class, is read as before.
    """
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    if old_layout:
        general: dict[Value, float] = {("item", "milk7"): 9.0, ("item", "soup7"): 9.0}
        store.write(keys.profile("ann"), Counters(general, {"item": 18.0}, now_s, now_s, 3.0), None)
    else:
        general = {("item", "milk7", "milk"): 9.0, ("item", "soup7", "soup"): 9.0}
        milk = ClassCounters({("item", "milk7"): 9.0, ("type_size", "l"): 9.0}, 9.0, now_s)
        soup = ClassCounters({("item", "soup7"): 9.0}, 9.0, now_s)
        counters = Counters(general, {"item": 18.0}, now_s, now_s, 3.0)
        store.write(keys.profile("ann"), counters, None, {"milk": milk, "soup": soup})
    sizes: dict[Value, float] = {("type_size", "milk", one): 1_000.0 for one in "sml"}
    store.write(keys.population(0), Counters(sizes, {"type_size": 3_000.0}, now_s, now_s, 9.0), None)
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {
                "shop": {
                    "index": f"{prefix}*", "class_field": "type", "item_repeat_share": 1.0, "exploration_share": 0,
                    "fields": {"type_size": {"of": ["type", "size"]}},
                }
            },
        }
    )  # fmt: skip
    with (
        loaded(opensearch, f"{prefix}-shop", MAPPING, products().items()) as index,
        Rewriter(opensearch, store, settings) as rewriter,
    ):
        assert rewriter.wait_ready(30.0, index=index), rewriter.status()
        _, first = searched(rewriter, index, "milk")
        every = {("item", "milk7"), ("item", "soup7")}
        assert boosted(first) == every
        _, second = searched(rewriter, index, "milk")
        assert boosted(second) == (every if old_layout else {("item", "milk7"), ("type_size", "milk · l")})


def test_a_value_of_another_format_is_none(shop: Shop) -> None:
    """A later version's, or anybody's: it is not misread, and the next event of its class begins anew."""
    shop.append([an_event("u1", "p1")])
    shop.drain(worker := shop.worker())
    base = shop.plan.keys.profile("u1")
    good = packed(held(shop, "u1")["t1"])
    for raw in (b"\x02" + good[1:], b"", b"junk", good[:-3]):
        shop.store.run([("HSET", f"{base}:c", "t1", raw)])
        assert held(shop, "u1") == {}
        shop.append([an_event("u1", "p1")])
        shop.drain(worker)
        assert set(held(shop, "u1")["t1"].weights) == {("item", "p1"), ("type_brand", "b1")}
