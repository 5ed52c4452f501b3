"""Neighbours on a real store: made by a backfill, counted by ingest once with each event, read together with their class."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_layout import BUCKETS, MAX_IN_BUCKET
from rewriter.signals.counters import Counters
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.erasure import forget
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.near_table import name_table, read_near, write_slots
from rewriter.signals.neighbours import Near, Table, counted_near, near_class
from rewriter.signals.store import Keys
from tests.live.conftest import loaded
from tests.live.shop import Shop, an_event, many_events
from tests.live.test_classes import MAPPING, held, products
from tests.live.test_cli import run
from tests.live.test_repeats import Losing

TABLE: dict[str, Near] = {f"p{n}": ((f"p{(n + 5) % 200}", 0.5), (f"p{(n + 10) % 200}", 0.25)) for n in range(200)}


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return discovering(redis_url, prefix)


def discovering(url: str, prefix: str, **ingest: Any) -> Shop:
    shop = Shop(url, prefix, max_counters=500, **ingest)
    policy = shop.settings.policies["shop"].model_dump() | {"class_field": "type", "discovery": 1.0}
    shop.settings = Settings.model_validate(shop.settings.model_dump() | {"policies": {"shop": policy}})
    shop.plan = CountingRules.of(shop.settings)
    return shop


def named(shop: Shop, near: dict[str, Near], generation: str = "aa") -> Table:
    table = Table(generation, 3, len(near))
    write_slots(shop.store.run, shop.plan.keys, table, near.items())
    name_table(shop.store.run, shop.plan.keys, table)
    return table


def assert_near(shop: Shop, user: str, near: dict[str, Near]) -> None:
    """What is kept of neighbours is what the subject's own items give: nothing was counted twice, and nothing is missing."""
    found = held(shop, user)
    own = {name: one for name, one in found.items() if "\x1f" not in name}
    wanted = dict(counted_near(own, near, "item"))
    assert wanted
    assert {name for name in found if "\x1f" in name} == set(wanted)
    for name, one in wanted.items():
        kept = found[name]
        age = 2.0 ** ((one.landmark_s - kept.landmark_s) / 86_400.0)
        assert {value: weight * age for value, weight in kept.weights.items()} == pytest.approx(
            dict(one.weights), rel=2e-2
        )


def kept_keys(shop: Shop) -> set[str]:
    return set(shop.store.keys(f"{shop.plan.keys.prefix}:*near*"))


def test_an_event_counts_for_the_neighbours_of_its_item(shop: Shop) -> None:
    named(shop, TABLE)
    shop.append([an_event("u1", "p1"), an_event("u1", "p6")])
    shop.drain(shop.worker())
    assert_near(shop, "u1", TABLE)
    assert set(held(shop, "u1")[near_class("t1")].weights) == {(NEIGHBOUR, name) for name in ("p6", "p11", "p16")}


def test_without_a_table_there_are_none(shop: Shop) -> None:
    shop.append([an_event("u1", "p1")])
    shop.drain(shop.worker())
    assert set(held(shop, "u1")) == {"t1"}


def test_check_and_status_tell_that_the_dial_is_set_and_there_is_no_table(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, opensearch_url: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def notes(discovery: float) -> list[str]:
        (tmp_path / "rewriter.toml").write_text(
            f"[opensearch]\nhosts = '{opensearch_url}'\n[store]\nurl = '{redis_url}'\nprefix = '{shop.plan.keys.prefix}'\n"
            f"[policies.shop]\nindex = 'nowhere*'\nclass_field = 'type'\ndiscovery = {discovery}\n"
        )
        found = [json.loads(run(command, "--json").stdout)["notes"] for command in ("check", "status")]
        told = [[one for one in each if "neighbours" in one] for each in found]
        assert told[0] == told[1]
        return told[0]

    (note,) = notes(0.7)
    assert note.startswith("policy shop: discovery is 0.7, but the store has no table of neighbours yet")
    assert "rewriter backfill" in note
    assert notes(0.0) == []
    named(shop, TABLE)
    assert notes(0.7) == []


@pytest.mark.parametrize("raw", [b"junk", b"\xff\x00", b""])
def test_a_damaged_table_costs_no_event(shop: Shop, raw: bytes) -> None:
    table = named(shop, TABLE)
    shop.store.run([("HSET", shop.plan.keys.near_slot(table.slot("p1"), table.generation), "p1", raw)])
    shop.store.run([("DEL", key := shop.plan.keys.near_slot(table.slot("p2"), "aa")), ("SET", key, "a string")])
    shop.append([an_event("u1", "p1"), an_event("u1", "p2")])
    shop.drain(shop.worker())
    assert {"t1", "t2"} <= set(held(shop, "u1"))


@pytest.mark.parametrize("seed", [4, 5])
def test_what_is_sent_again_counts_once_for_neighbours_too(redis_url: str, prefix: str, seed: int) -> None:
    shop = discovering(redis_url, prefix, batch=40)
    named(shop, TABLE)
    events = [one for one in many_events(200, users=2, spread_s=100_000) if one["action_name"] != "remove_from_cart"]
    shop.append(events)
    shop.drain(shop.worker(store := Losing(shop, seed=seed)))
    assert store.losses
    for user in ("u0", "u1"):
        assert_near(shop, user, TABLE)


def test_the_number_of_a_subjects_classes_stays_bounded(shop: Shop) -> None:
    near: dict[str, Near] = {f"p{n}": (("x", 0.5),) for n in range(500)}
    named(shop, near)
    shop.index.documents = {f"p{n}": {"brand": "b", "type": f"t{n}"} for n in range(500)}
    now_s = time.time() - 1_000
    shop.append([an_event("u1", f"p{n}", now_s + n) for n in range(500)])
    shop.drain(shop.worker())
    found = held(shop, "u1")
    assert len(found) <= 2 * BUCKETS * MAX_IN_BUCKET
    assert {"t499", near_class("t499")} <= set(found)


def test_a_new_table_replaces_the_one_before(shop: Shop) -> None:
    named(shop, TABLE, "aa")
    named(shop, {"p1": (("p2", 0.5),)}, "bb")
    assert read_near(shop.store, shop.plan.keys, ["p1", "p3"]) == {"p1": (("p2", 0.5),)}
    assert all(key.endswith(("near", ":bb")) for key in kept_keys(shop))
    name_table(shop.store.run, shop.plan.keys, None)
    assert kept_keys(shop) == set()


@pytest.mark.parametrize("last", [None, "aa", "cc"])
def test_whatever_is_interrupted_no_table_is_left_behind(shop: Shop, last: str | None) -> None:
    """A backfill that is killed at any command, and then another one: only the slots of the named table stay."""
    keys = shop.plan.keys

    def write(generation: str) -> Table:
        table = Table(generation, 3, len(TABLE))
        write_slots(shop.store.run, keys, table, TABLE.items())
        return table

    class Killed(Exception):
        pass

    def dying(after: int) -> Any:
        left = iter(range(after))

        def run(commands: list[Any]) -> Any:
            if next(left, None) is None:
                raise Killed
            return shop.store.run(commands)

        return run

    for first in range(8):
        for second in range(0, 8, 2):
            name_table(shop.store.run, keys, write("aa"))
            for generation, after in (("bb", first), ("cc", second)):
                with suppress(Killed):
                    name_table(dying(after), keys, write(generation))
            name_table(shop.store.run, keys, None if last is None else write(last))
            lasting = {one for one in kept_keys(shop) if shop.store.run([("TTL", one)]) == [-1]}
            wanted = {keys.near_slot(slot, last) for slot in range(3)} | {keys.near} if last is not None else set()
            assert lasting == wanted, (first, second)


def test_slots_that_no_table_names_expire(shop: Shop) -> None:
    table = Table("aa", 3, len(TABLE))
    write_slots(shop.store.run, shop.plan.keys, table, TABLE.items())
    assert all(0 < ttl <= 86_400 for ttl in shop.store.run([("TTL", key) for key in kept_keys(shop)]))
    name_table(shop.store.run, shop.plan.keys, table)
    assert set(shop.store.run([("TTL", key) for key in kept_keys(shop)])) == {-1}


def test_forgetting_leaves_no_neighbours(shop: Shop) -> None:
    named(shop, TABLE)
    shop.append([an_event("u1", "p1")])
    shop.drain(shop.worker())
    forget(shop.store, shop.store, shop.plan, "u1")
    assert held(shop, "u1") == {}


def backfilled(shop: Shop, path: Path, rows: list[dict[str, Any]], fingerprint: str) -> dict[str, Any]:
    path.write_text("\n".join(map(json.dumps, rows)))
    looked_up = shop.objects()
    history = History([str(path)], shop.plan, 4, None, {})
    figures = history.add_up(looked_up, lambda *_: None)
    swap = Swap(shop.store, shop.store, shop.plan, 4)
    swap.read_ahead(history, looked_up, lambda _: None)
    swap.stage_neighbours(history, fingerprint)
    with swap:
        swap.write(history, looked_up, fingerprint, lambda _: None)
    return figures


def rows_of(users: int, items: tuple[int, ...]) -> list[dict[str, Any]]:
    at_s = time.time() - 3_600
    return [
        {
            "user_id": f"h{user}", "object_id": f"p{item}", "action_name": "purchase",
            "timestamp": datetime.fromtimestamp(at_s + user, UTC).isoformat(),
        }
        for user in range(users) for item in items
    ]  # fmt: skip


def test_a_backfill_makes_neighbours_which_ingest_goes_on_with(shop: Shop, tmp_path: Path) -> None:
    """p1, p6 and p11 are of one type, p2 of another; afterwards a new visitor's event counts for the neighbours found."""
    figures = backfilled(shop, tmp_path / "h.ndjson", rows_of(12, (1, 6, 11, 2)), "first")
    assert figures["with_neighbours"] == 3
    near = read_near(shop.store, shop.plan.keys, [f"p{n}" for n in range(200)])
    assert {name: {other for other, _ in of} for name, of in near.items()} == {
        "p1": {"p6", "p11"}, "p6": {"p1", "p11"}, "p11": {"p1", "p6"},
    }  # fmt: skip
    for user in ("h0", "h11"):
        assert_near(shop, user, near)
    shop.append([an_event("new", "p1"), an_event("h3", "p6")])
    shop.drain(shop.worker())
    for user in ("new", "h3"):
        assert_near(shop, user, near)
    before = kept_keys(shop)
    backfilled(shop, tmp_path / "h.ndjson", rows_of(12, (1, 6)), "second")
    assert set(read_near(shop.store, shop.plan.keys, ["p1", "p6", "p11"])) == {"p1", "p6"}
    assert kept_keys(shop) & before == {shop.plan.keys.near}


def test_a_backfill_without_the_dial_removes_the_table(shop: Shop, tmp_path: Path) -> None:
    backfilled(shop, tmp_path / "h.ndjson", rows_of(12, (1, 6)), "first")
    policy = shop.settings.policies["shop"].model_copy(update={"discovery": 0.0})
    shop.settings = shop.settings.model_copy(update={"policies": {"shop": policy}})
    shop.plan = CountingRules.of(shop.settings)
    backfilled(shop, tmp_path / "h.ndjson", rows_of(12, (1, 6)), "second")
    assert kept_keys(shop) == set()
    assert set(held(shop, "h0")) == {"t1"}


@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
def test_a_search_lifts_the_neighbours_of_its_classes(opensearch: OpenSearch, prefix: str, mode: str) -> None:
    """One read brings both. The first search has nothing to boost, as its class is unknown; a small one asks for it."""
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    milk = ClassCounters({("item", "milk7"): 9.0}, 9.0, now_s)
    near = ClassCounters({(NEIGHBOUR, "milk23"): 4.0}, 0.0, now_s)
    counters = Counters({("item", "milk7", "milk"): 9.0}, {"item": 9.0}, now_s, now_s, 3.0)
    store.write(keys.profile("ann"), counters, None, {"milk": milk, near_class("milk"): near})
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {
                "shop": {
                    "index": f"{prefix}*", "class_field": "type", "item_repeat_share": 0.0, "exploration_share": 0,
                    "discovery": 1.0, "mode": mode, "max_boost": 10, "neighbour_scale": 10, "parallel_share": 0,
                }
            },
        }
    )  # fmt: skip
    with (
        loaded(opensearch, f"{prefix}-shop", MAPPING, products().items()) as index,
        Rewriter(opensearch, store, settings) as rewriter,
    ):
        assert rewriter.wait_ready(30.0, index=index), rewriter.status()
        body = {"query": {"match": {"title": "milk"}}, "size": 10}
        _, first = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
        assert first.reason is Reason.NO_SIGNALS
        until_s = time.monotonic() + 20.0
        while True:  # nobody waits for the small search that asks for the classes
            response, second = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
            if second.boosts or time.monotonic() > until_s:
                break
            time.sleep(0.05)
    assert {(one.field, one.value) for one in second.boosts} == {(NEIGHBOUR, "milk23")}
    assert response["hits"]["hits"][0]["_id"] == "milk23"
