"""Counters by class on real servers: what ingest, backfill and erasure make of them, and what a search makes of its classes."""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason, Report, Rewriter, Settings, Subject
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.class_counters import MAX_VALUES, ClassCounters, counted_by_class
from rewriter.signals.class_items import EveryClass, class_names
from rewriter.signals.class_layout import (
    MAX_IN_BUCKET,
    bucket_of,
    digest_of,
    read_classes,
    wanted_fields,
)
from rewriter.signals.commands import pairs_of
from rewriter.signals.counters import Counters, HalfLives, Observation, Value, counted, weights_of
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.erasure import forget
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.neighbours import near_class
from rewriter.signals.repeats import USES
from rewriter.signals.store import Keys, SignalsQuery
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


def held(shop: Shop, user: str, names: Iterable[str] = ()) -> dict[str, ClassCounters]:
    """A profile's counters by class, as they lie in the store."""
    types = list(names) or sorted({one["type"] for one in shop.index.documents.values()})
    listed = [*types, *map(near_class, types)]
    (found,) = shop.store.run([("HMGET", f"{shop.plan.keys.profile(user)}:c", *wanted_fields(listed))])
    return read_classes(listed, found)


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


def assert_counted(shop: Shop, events: list[dict[str, Any]], user: str, rel: float = 2e-2) -> None:
    found, seen = held(shop, user), observed(shop, events, user)
    assert found
    for name, own in found.items():
        wanted = counted_by_class(seen, HALF_LIVES, own.landmark_s, ITEM, shop.plan.class_combinations)[name]
        assert dict(own.weights) == pytest.approx(dict(wanted.weights), rel=rel)
        assert own.total == pytest.approx(wanted.total, rel=rel)


def positive(events: Any) -> list[dict[str, Any]]:
    return [one for one in events if one["action_name"] != "remove_from_cart"]


def test_ingest_keeps_items_and_combinations_by_class(shop: Shop) -> None:
    """Hours out of order, so that each class moves its landmark by itself. Items and combinations are kept by class alone."""
    events = positive(many_events(200, users=1, spread_s=100_000))
    shop.append(events)
    shop.drain(shop.worker())
    assert_counted(shop, events, "u0")
    assert {value[0] for value in general(shop, "u0")} == {"brand"}


def general(shop: Shop, user: str) -> dict[Value, float]:
    """What a profile holds of all classes together."""
    (members,) = shop.store.run([("ZRANGE", f"{shop.plan.keys.profile(user)}:z", 0, -1, "WITHSCORES")])
    return weights_of(pairs_of(members))


def read_first(shop: Shop, user: str) -> Counters:
    """A profile as a first search for some words reads it."""
    every = EveryClass(86_400.0, class_names(f"{USES}\x1f{one['type']}" for one in shop.index.documents.values()))
    found = shop.store.read(
        SignalsQuery(None, shop.plan.keys.profile(user), None, ("brand",), 500, every=every)
    ).profile
    assert found is not None
    return found


def test_a_first_search_reads_the_items_of_all_classes(shop: Shop) -> None:
    events = positive(many_events(200, users=1, spread_s=100_000))
    shop.append(events)
    shop.drain(shop.worker())
    found = read_first(shop, "u0")
    wanted = counted(observed(shop, events, "u0"), HALF_LIVES, found.landmark_s)
    items = {value: weight for value, weight in wanted.weights.items() if value[0] == "item"}
    assert len(items) > 5
    assert {v: w for v, w in found.weights.items() if v[0] == "item"} == pytest.approx(items, rel=2e-2)
    assert {value[0] for value in found.weights} == {"brand", "item"}
    assert list(found.weights.values()) == sorted(found.weights.values(), reverse=True)


@pytest.mark.parametrize("classes_kept", [True, False])
def test_items_leave_the_set_of_all_classes_with_the_next_event(shop: Shop, classes_kept: bool) -> None:
    """The layout before had them there too. No count is lost, none counts twice, and a search reads either layout alike."""
    now_s, base = time.time(), shop.plan.keys.profile("u1")
    documents = shop.index.documents
    kind = {name: documents[name]["type"] for name in ("p1", "p2")}
    old: dict[Value, float] = {("brand", "b1"): 7.0, ("item", "p1", kind["p1"]): 4.0, ("item", "p2", kind["p2"]): 2.0}
    by_class = {}
    for name in kind.values():
        own: dict[Value, float] = {("item", one): old["item", one, name] for one in kind if kind[one] == name}
        by_class[name] = ClassCounters(own, sum(own.values()), now_s, now_s)
    counters = Counters(old, {"brand": 7.0, "item": 6.0}, now_s, now_s, 3.0)
    shop.store.write(base, counters, None, by_class if classes_kept else None)
    before = read_first(shop, "u1")
    assert before.weights == pytest.approx(old, rel=5e-3)
    shop.append([an_event("u1", "p1", now_s), an_event("u1", "p1", now_s)])
    shop.drain(shop.worker())
    weight = 2 * shop.settings.signals.action_weights["click"]
    assert {value[0] for value in general(shop, "u1")} == {"brand"}
    after = read_first(shop, "u1").weights
    assert after["item", "p1", kind["p1"]] == pytest.approx(4.0 + weight, rel=5e-3)
    assert after["item", "p2", kind["p2"]] == pytest.approx(2.0, rel=5e-3)
    (meta,) = shop.store.run([("HMGET", f"{base}:m", "items_by_class", "total:item")])
    assert meta == [b"1", None]


def in_store(shop: Shop, user: str) -> Any:
    (found,) = shop.store.run([("HGETALL", f"{shop.plan.keys.profile(user)}:c")])
    return found


def test_what_is_sent_again_is_counted_once(redis_url: str, prefix: str) -> None:
    """To the byte: what is in the store depends on the sequence of entries alone, not on calls, batches and losses."""
    events = positive(many_events(200, users=2))
    shop, other = by_class(redis_url, prefix, batch=40), by_class(redis_url, f"{prefix}o", batch=13)
    for one in (shop, other):
        one.append(events)
    shop.drain(shop.worker(store := Losing(shop, seed=5)))
    other.drain(other.worker())
    assert store.losses
    for user in ("u0", "u1"):
        assert_counted(shop, events, user)
        assert in_store(shop, user) == in_store(other, user)


def test_a_class_keeps_its_heaviest_values_and_a_bucket_its_latest_classes(shop: Shop) -> None:
    shop.index.documents = {f"p{n}": {"brand": "b", "type": "one" if n < 100 else f"t{n}"} for n in range(700)}
    now_s = time.time() - 1_000
    shop.append([an_event("u1", f"p{n}", now_s + n) for n in range(700)])
    shop.drain(shop.worker())
    found = held(shop, "u1")
    wanted = set()
    for bucket in {bucket_of(f"t{n}") for n in range(100, 700)}:
        wanted |= set([f"t{n}" for n in range(699, 99, -1) if bucket_of(f"t{n}") == bucket][:MAX_IN_BUCKET])
    assert set(found) == wanted
    shop.append([an_event("u2", f"p{n}", now_s + n) for n in range(100)])
    shop.drain(shop.worker())
    one = held(shop, "u2")["one"]
    assert len(one.weights) == MAX_VALUES
    assert one.total == pytest.approx(100 * shop.settings.signals.action_weights["click"], rel=0.03)


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
    looked_up = shop.objects()
    history = History([str(tmp_path / "h.ndjson")], shop.plan, 4, None, {})
    history.add_up(looked_up, lambda *_: None)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(history, looked_up, "files", lambda _: None)
    for user in ("u0", "u1", "u2"):
        assert_counted(shop, once, user)
        assert {value[0] for value in general(shop, user)} == {"brand"}


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


def write_sizes(store: MemoryStore, now_s: float) -> None:
    """Write a population that likes three sizes of milk alike."""
    sizes: dict[Value, float] = {("type_size", "milk", one): 1_000.0 for one in "sml"}
    store.write(Keys().population(0), Counters(sizes, {"type_size": 3_000.0}, now_s, now_s, 9.0), None)


def by_type(prefix: str, **policy: Any) -> Settings:
    """Return patient settings of a policy that counts sizes within types, without exploration."""
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {
                "shop": {
                    "index": f"{prefix}*", "class_field": "type", "exploration_share": 0,
                    "fields": {"type_size": {"of": ["type", "size"]}}, **policy,
                }
            },
        }
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["items by class alone", "items in both", "items without a class"])
def test_a_search_reads_the_classes_of_its_query_from_the_second_time_on(
    opensearch: OpenSearch, prefix: str, layout: str
) -> None:
    """The first search for some words goes by all counters; the next ones by those of the class that its hits have.

    A profile of an older layout, whose items have no class, is read as before.
    """
    old_layout = layout == "items without a class"
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    if old_layout:
        shared: dict[Value, float] = {("item", "milk7"): 9.0, ("item", "soup7"): 9.0}
        store.write(keys.profile("ann"), Counters(shared, {"item": 18.0}, now_s, now_s, 3.0), None)
    else:
        both: dict[Value, float] = {("item", "milk7", "milk"): 9.0, ("item", "soup7", "soup"): 9.0}
        milk = ClassCounters({("item", "milk7"): 9.0, ("type_size", "l"): 9.0}, 9.0, now_s)
        soup = ClassCounters({("item", "soup7"): 9.0}, 9.0, now_s)
        counters = Counters(both if layout == "items in both" else {}, {}, now_s, now_s, 3.0)
        store.write(keys.profile("ann"), counters, None, {"milk": milk, "soup": soup})
    write_sizes(store, now_s)
    settings = by_type(prefix, item_repeat_share=1.0)
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


def test_items_of_several_classes_are_found_by_each_of_them(opensearch: OpenSearch, prefix: str) -> None:
    """An item counts in the first class of its document; the index shows a hit's classes sorted."""
    documents = products()
    for one in documents.values():
        one["type"] = [one["type"], "a shelf of all"]
    settings = by_type(prefix, item_repeat_share=1.0)
    value: Value = CountingRules.of(settings).values({"_id": "milk7", **documents["milk7"]})[-1]
    assert value == ("item", "milk7", "milk")
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    milk = ClassCounters({value[:2]: 9.0}, 9.0, now_s)
    soup = ClassCounters({("item", "soup7"): 9.0}, 9.0, now_s)
    store.write(keys.profile("ann"), Counters({}, {}, now_s, now_s, 3.0), None, {"milk": milk, "soup": soup})
    write_sizes(store, now_s)
    with (
        loaded(opensearch, f"{prefix}-shop", MAPPING, documents.items()) as index,
        Rewriter(opensearch, store, settings) as rewriter,
    ):
        assert rewriter.wait_ready(30.0, index=index), rewriter.status()
        searched(rewriter, index, "milk")
        _, second = searched(rewriter, index, "milk")
        assert boosted(second) == {("item", "milk7")}


def first(*weights: tuple[float, bytes], at_s: float, last_s: float = 1.0, total: float = 1.0, form: int = 1) -> bytes:
    """A class in the layout before."""
    parts = (struct.pack("<dH", one, len(name)) + name for one, name in weights)
    return struct.pack("<Bddd", form, at_s, last_s, total) + b"".join(parts)


def bucket(body: bytes, form: int = 2) -> bytes:
    """A bucket with one class, whose landmark is of 1970."""
    size = 3 + len(body)
    return bytes((form,)) + digest_of("t1") + struct.pack("<BH", 255, size) + b"\0\0\0" + body


NAN, INF, NOW_S = float("nan"), float("inf"), time.time()
SOUND, OTHERS = (1.0, b"item\x1fp1"), [b"item\x1f%d" % n for n in range(60)]
FOREIGN_FIRST: dict[str, bytes] = {
    "no landmark": first(SOUND, at_s=NAN),
    "a landmark without end": first(SOUND, at_s=INF),
    "a landmark too far": first(SOUND, at_s=1e300),
    "a landmark far away": first(SOUND, at_s=1e90),
    "no time": first(SOUND, at_s=NOW_S, last_s=NAN),
    "no total": first(SOUND, at_s=NOW_S, total=NAN),
    "no field, to be aged": first((1.0, b"x"), at_s=NOW_S - 1e7),
    "no member, to be aged": first((1.0, b""), at_s=NOW_S - 1e7),
    "no field": first((1.0, b"x"), at_s=NOW_S),
    "no text": first((1.0, b"item\x1f\xff\xfe"), at_s=NOW_S),
    "no weights": first(*((NAN, one) for one in OTHERS), at_s=NOW_S),
    "some weights": first(*((NAN if n % 3 else n, one) for n, one in enumerate(OTHERS)), at_s=NOW_S),
    "weights without end": first((INF, b"item\x1fp1"), (1e308, b"item\x1fp2"), (-1.0, b"item\x1fp3"), at_s=NOW_S),
    "large weights": first((1e99, b"item\x1fp1"), (1e-99, b"item\x1fp2"), at_s=NOW_S, total=1e100),
    "too many": first(*((1.0, b"%d\x1fx" % n) for n in range(4_000)), at_s=NOW_S),
    "too long": b"\x01" + b"x" * 3_000_000,
    "cut short": first(SOUND, at_s=NOW_S)[:-3],
    "another format": first(SOUND, at_s=NOW_S, form=2),
    "a text": b"a text that is long enough for a head",
}
FOREIGN: dict[str, bytes] = {
    "nothing": b"",
    "junk": b"junk",
    "a later format": bucket(b"\0\x40\x02p1", form=3),
    "no classes": b"\x02",
    "half a class": b"\x02" + digest_of("t1"),
    "cut off": bucket(b"\0\x40\x02p1")[:-1],
    "half a group": bucket(b"\0"),
    "half a long group": bucket(b"\0\xc0"),
    "fewer than it names": bucket(b"\0\xc0\x09\x02p1"),
    "no value": bucket(b"\0\x40"),
    "half a value": bucket(b"\0\x40\x09p1"),
    "half a number": bucket(b"\0\x40\x1c1"),
    "an unknown code": bucket(b"\0\x40\x1e"),
    "an empty text": bucket(b"\0\x40\0\0\0"),
    "an unknown field": bucket(b"\0\x40\xc2p1" + b"\0\x40\xe2\xffp1"),
    "no text, a weight without end": bucket(b"\xff\x7f\x02\xff\xfe"),
    "too many": bucket(b"".join(b"\0\x40\x1a" + struct.pack("<I", n)[:3] for n in range(1, 9_000))),
    "too many classes": b"\x02" + b"".join(struct.pack("<I", n) + b"\x03\0\0\0" for n in range(300_000)),
}


def test_a_class_that_cannot_be_read_begins_anew_and_stops_nobody(shop: Shop) -> None:
    """Who writes into the store has written anything, in either layout."""
    assert PRODUCTS["p1"]["type"] == "t1"
    users = [*FOREIGN, *(f"first: {name}" for name in FOREIGN_FIRST), "of another type", "well"]
    shop.append([an_event(one, "p1") for one in users])
    shop.drain(worker := shop.worker())
    written = {name: (bucket_of("t1"), raw) for name, raw in FOREIGN.items()}
    written |= {f"first: {name}": ("t1", raw) for name, raw in FOREIGN_FIRST.items()}
    for name, (field, raw) in written.items():
        shop.store.run([("HSET", f"{shop.plan.keys.profile(name)}:c", field, raw)])
        if name in FOREIGN:
            assert not {value for one in held(shop, name).values() for value in one.weights} & {("item", "p1")}, name
    other = f"{shop.plan.keys.profile('of another type')}:c"
    shop.store.run([("DEL", other), ("SET", other, "x")])
    shop.append([an_event(one, "p1") for one in users])
    shop.drain(worker)
    for name in (*written, "well"):
        found = held(shop, name)["t1"].weights
        assert ("item", "p1") in found, name
        assert len(found) <= MAX_VALUES


def test_a_class_of_the_layout_before_is_read_and_moved_by_its_next_event(shop: Shop) -> None:
    """Each class had a hash field of its own, with doubles; no count is lost, and what is not used again stays readable."""
    now_s, base = time.time(), shop.plan.keys.profile("u1")
    shop.append([an_event("u1", "p9", now_s)])
    shop.drain(worker := shop.worker())
    for name in ("t1", "t2"):
        kept = ((4.0, b"item\x1fp1"), (2.0, b"item\x1f0017"), (4.0, b"type_brand\x1fb1"))
        raw = struct.pack("<Bddd", 1, now_s, now_s, 9.0)
        raw += b"".join(struct.pack("<dH", weight, len(member)) + member for weight, member in kept)
        shop.store.run([("HSET", f"{base}:c", name, raw)])
    before = held(shop, "u1", ["t1", "t2"])
    assert before["t1"].weights == {("item", "p1"): 4.0, ("item", "0017"): 2.0, ("type_brand", "b1"): 4.0}
    shop.append([an_event("u1", "p1", now_s)])
    shop.drain(worker)
    after = held(shop, "u1", ["t1", "t2"])
    assert after["t2"] == before["t2"]
    weight = shop.settings.signals.action_weights["click"]
    grown = 2 ** ((now_s - after["t1"].landmark_s) / 86_400)
    assert after["t1"].weights["item", "p1"] == pytest.approx((4.0 + weight) * grown, rel=0.005)
    assert after["t1"].weights["item", "0017"] == pytest.approx(2.0 * grown, rel=0.005)
    assert after["t1"].total == pytest.approx((9.0 + weight) * grown, rel=0.005)
    assert "t1" not in {name.decode() for name in in_store(shop, "u1")}


@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
def test_a_policy_with_attributes_of_the_class_alone_learns_classes(
    opensearch: OpenSearch, prefix: str, mode: str
) -> None:
    """Before the class is known there is nothing to boost, and no leg to learn it from: a small search asks for it."""
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    milk = ClassCounters({("item", "milk7"): 9.0, ("type_size", "l"): 9.0}, 9.0, now_s)
    store.write(keys.profile("ann"), Counters({}, {}, now_s, now_s, 3.0), None, {"milk": milk})
    write_sizes(store, now_s)
    settings = by_type(prefix, item_scale=0, mode=mode, parallel_share=0)
    body = {"query": {"match": {"title": "milk"}}, "size": 10}
    with (
        loaded(opensearch, f"{prefix}-shop", MAPPING, products().items()) as index,
        Rewriter(opensearch, store, settings) as rewriter,
    ):
        assert rewriter.wait_ready(30.0, index=index), rewriter.status()
        _, report = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
        assert report.reason is Reason.NO_SIGNALS
        until_s = time.monotonic() + 20.0
        while not report.boosts and time.monotonic() < until_s:  # nobody waits for the small search
            time.sleep(0.05)
            _, report = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
    assert boosted(report) == {("type_size", "milk · l")}


def test_a_batch_learns_the_classes_of_its_queries_too(opensearch: OpenSearch, prefix: str) -> None:
    """The small searches of all queries go out in one request, for which the batch does not wait."""
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    milk = ClassCounters({("item", "milk7"): 9.0, ("type_size", "l"): 9.0}, 9.0, now_s)
    store.write(keys.profile("ann"), Counters({}, {}, now_s, now_s, 3.0), None, {"milk": milk})
    write_sizes(store, now_s)
    with (
        loaded(opensearch, f"{prefix}-shop", MAPPING, products().items()) as index,
        Rewriter(opensearch, store, by_type(prefix, item_scale=0)) as rewriter,
    ):
        assert rewriter.wait_ready(30.0, index=index), rewriter.status()
        bodies = [{"query": {"match": {"title": words}}, "size": 10} for words in ("milk", "soup")]
        lines = [line for body in bodies for line in ({"index": index}, body)]
        _, reports = rewriter.msearch_details(body=lines, subject=Subject("ann"))
        assert [one.reason for one in reports] == [Reason.NO_SIGNALS] * 2
        until_s = time.monotonic() + 20.0
        while not reports[0].boosts and time.monotonic() < until_s:
            time.sleep(0.05)
            _, reports = rewriter.msearch_details(body=lines, subject=Subject("ann"))
    assert boosted(reports[0]) == {("type_size", "milk · l")}
