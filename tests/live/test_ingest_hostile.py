"""Hostile entries in a stream, and hostile keys in the store, cost no other sender anything."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter.client.registry import around
from rewriter.settings import DEFAULT_ACTION_WEIGHTS, Settings, SignalSettings
from rewriter.signals.events import MAX_EVENT_BYTES, Event, parse
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import append_command
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.store import SignalsQuery
from tests.conftest import MakeIndex
from tests.live.shop import Shop, an_event

ROOT = Path(__file__).parents[2]
MIB = 2**20


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix, retry_s=0.01)


def finished(shop: Shop, worker: Worker, deadline_s: float = 30.0) -> None:
    """Work until every entry has its last fate, those included that waited for their object."""
    late_at = time.monotonic() + deadline_s
    while True:
        shop.drain(worker, deadline_s=deadline_s)
        waiting = [("ZCARD", shop.keys.of_stream(n, "waiting")) for n in range(shop.settings.ingest.partitions)]
        if not sum(shop.store.run(waiting)):
            return
        assert time.monotonic() < late_at
        time.sleep(0.02)
        worker.due()
        worker.step()


def counted(shop: Shop, user: str) -> float:
    found = shop.store.read(SignalsQuery(None, shop.plan.keys.profile(user), None, ("item",), 500)).profile
    return 0.0 if found is None else found.events


# --- entries of any form ----------------------------------------------------------------------------------------------


def test_entries_of_any_form_are_set_aside_and_the_stream_goes_on(shop: Shop) -> None:
    good = json.dumps(an_event("u1")).encode()
    entries: list[tuple[Any, ...]] = [
        ("data", good),
        ("event", ""),
        ("event", b"\xff\xfe\x00\x01"),
        ("event", b"[" * 60_000),
        ("event", good[:-1]),
        ("event", good, "first", "x"),
        ("event", good, "first", b"\xff\xfe"),
        ("event", good, "first", "9999999999999-0"),
        ("event", good, "first", "1" * 99 + "-0"),
        ("first", "1-1"),
        (b"\xff", b"\xff"),
        ("event", b"x" * (MIB + 1)),
        ("event", good + b" " * MAX_EVENT_BYTES),
        ("event", json.dumps(an_event("u1") | {"timestamp": 1e300})),
        ("event", json.dumps(an_event("u1") | {"timestamp": "0001-01-01T00:00:00+23:59"})),
        ("event", json.dumps(an_event("u1") | {"timestamp": "9999-12-31T23:59:59-23:59"})),
    ]
    stream = shop.keys.stream(0)
    shop.append([an_event("before")])
    shop.store.run([("XADD", stream, "*", *parts) for parts in entries])
    shop.append([an_event("after")])
    worker = shop.drained()
    assert worker.counts == {"refused": len(entries), "counted": 2}
    assert len(shop.dead()) == len(entries)
    assert all(len(letter["event"]) <= MAX_EVENT_BYTES for letter in shop.dead())
    assert counted(shop, "before") == counted(shop, "after") == 1


@pytest.mark.parametrize("ahead_s", [3_600, 40 * 86_400, 4_000 * 86_400])
def test_events_behind_an_id_that_lies_ahead_are_counted(redis_url: str, prefix: str, ahead_s: int) -> None:
    """A server's clock that once ran ahead, or a producer's own id: all later ids lie ahead as well, and tell no time."""
    shop = Shop(redis_url, prefix, partitions=1, retry_s=0.01)
    ahead = f"{int((time.time() + ahead_s) * 1000)}-0"
    shop.append([an_event("u1")])
    shop.store.run([("XADD", shop.keys.stream(0), ahead, "event", json.dumps(an_event("u1")))])
    shop.append([an_event("u1", event_id="e") for _ in range(3)])
    shop.append([an_event("u1", timestamp=datetime.fromtimestamp(time.time() - 400 * 86_400, UTC).isoformat())])
    shop.append([an_event("u1", timestamp=datetime.fromtimestamp(time.time() + 4_000, UTC).isoformat())])
    worker = shop.drained()
    assert worker.counts == {"counted": 3, "duplicate": 2, "refused": 2}
    found = shop.store.read(SignalsQuery(None, shop.plan.keys.profile("u1"), None, ("item",), 500)).profile
    assert found is not None
    assert found.events == 3
    assert abs(found.last_event_s - time.time()) < 300


def test_a_stream_whose_ids_lie_far_ahead_is_trimmed_all_the_same(redis_url: str, prefix: str) -> None:
    """The store must never be full: what was counted goes, though its ids tell no age. What was not read stays."""
    shop = Shop(redis_url, prefix, partitions=1, retry_s=0.01, batch=100)
    ahead = f"{int((time.time() + 400 * 86_400) * 1000)}-0"
    shop.store.run([("XADD", shop.keys.stream(0), ahead, "event", json.dumps(an_event("u0")))])
    for start in range(0, 2_000, 500):
        shop.append([an_event(f"u{start + number}") for number in range(500)])
    worker = shop.drained()
    assert worker.counts == {"counted": 2_001}
    (length,) = shop.store.run([("XLEN", shop.keys.stream(0))])
    assert length <= 300  # whole nodes of a hundred entries


def test_an_event_id_that_stands_for_none_makes_no_duplicates(shop: Shop) -> None:
    shop.append([an_event("u1", event_id=value) for value in ["undefined", "null", None, "", "NaN"] for _ in range(4)])
    worker = shop.drained()
    assert worker.counts == {"counted": 20}


def test_a_user_id_that_stands_for_none_is_nobodys_profile(shop: Shop) -> None:
    for value in ("undefined", "null", None, "", float("nan")):
        shop.append([an_event("c1", user_id=value, client_id="c1")])
    shop.drained()
    assert counted(shop, "c1") == 5
    assert counted(shop, "undefined") == counted(shop, "null") == counted(shop, "nan") == 0


# --- objects on a real index ------------------------------------------------------------------------------------------


def worker_on(shop: Shop, client: OpenSearch, index: str) -> Worker:
    objects = Objects(
        around(client, is_async=False),
        [index],
        shop.plan.attributes,
        max_objects=1_000,
        age_s=60,
        clock_s=time.monotonic,
    )
    return Worker(shop.store, shop.store, objects, shop.plan, clock_s=time.monotonic, now_s=time.time)


@pytest.mark.parametrize(
    ("field", "culprit", "reason"),
    [
        ("ean", "not a number", "is not in the index"),
        ("ean", "9" * 40, "is not in the index"),
        ("ip", "10.0.0.256", "is not in the index"),
        ("released", "yesterday", "is not in the index"),
        ("title", "shoe", "is a text"),
        ("place", "1,1", "holds no ids"),
        ("hidden", "x", "is not indexed"),
        ("no.such", "x", "is not a field"),
        ("_routing", "x", "is not a field"),
        ("_id", "x" * 256, "is not in the index"),
    ],
)
def test_a_culprit_is_set_aside_alone_and_says_why(
    opensearch: OpenSearch, index: MakeIndex, shop: Shop, field: str, culprit: str, reason: str
) -> None:
    kinds = {"ean": "long", "ip": "ip", "released": "date", "place": "geo_point", "title": "text", "tags": "keyword"}
    mapping: dict[str, Any] = {name: {"type": kind} for name, kind in kinds.items()}
    mapping |= {
        "brand": {"type": "keyword"},
        "type": {"type": "keyword"},
        "hidden": {"type": "keyword", "index": False},
    }
    documents = {
        f"p{n}": {"brand": f"b{n % 3}", "type": "t", "ean": 4_000 + n, "title": "a shoe", "tags": [f"t{n}", "x", "y"]}
        for n in range(20)
    }
    name = index(mapping, documents=documents, shards=2)
    good = [an_event(f"u{n}", event_attributes=of("_id", f"p{n}")) for n in range(20)]
    good += [an_event(f"u{n}", event_attributes=of("ean", str(4_000 + n))) for n in range(20)]
    good += [an_event(f"u{n}", event_attributes=of("tags", f"t{n}")) for n in range(20)]
    bad = [an_event("visitor", event_attributes=of(field, culprit)) for _ in range(3)]
    shop.append([*good[:30], *bad, *good[30:]])
    finished(shop, worker := worker_on(shop, opensearch, name))
    assert worker.counts["counted"] == 60
    assert worker.counts["missing"] == 3
    assert all(counted(shop, f"u{n}") == 3 for n in range(20))
    assert {letter["reason"].count(reason) for letter in shop.dead()} == {1}
    assert not worker.trouble


def of(field: str, object_id: str) -> dict[str, Any]:
    return {"object": {"object_id": object_id, "object_id_field": field}}


# --- segments ---------------------------------------------------------------------------------------------------------


def in_segments(user: str, *names: str) -> dict[str, Any]:
    return an_event(user, event_attributes={"object": {"object_id": "p1"}, "segments": names})


def segment_keys(shop: Shop) -> int:
    client = shop.store._connected()
    return sum(1 for _ in client.scan_iter(match=f"{shop.settings.store.prefix}:{{g:*", count=10_000))


def test_names_in_events_make_no_more_keys_than_the_list_has_room(redis_url: str, prefix: str) -> None:
    """And what settings list is counted whoever came first."""
    shop = Shop(redis_url, prefix, max_segments=5, segments=("vip", "staff"))
    shop.append([in_segments(f"bot{n}", *(f"junk.{n}.{k}" for k in range(8))) for n in range(200)])
    shop.drain(worker := shop.worker())
    shop.append([in_segments(f"u{n}", "vip", "late") for n in range(40)])
    shop.append([in_segments(f"u{n}", "staff") for n in range(40)])
    shop.drain(worker, other := shop.worker())
    listed = json.loads(shop.store.read_text(shop.keys.segments) or "")
    assert len(listed) == 7
    assert {"vip", "staff"} <= set(listed)
    assert segment_keys(shop) <= 7 * 4 * 2
    parts = shop.store.read_many([shop.plan.keys.segment("vip", n) for n in range(4)], ("item",), 10)
    assert sum(part.events for part in parts if part is not None) == 40
    assert (worker.counts + other.counts)["counted"] == 280
    assert shop.total("segments_refused") == 200 * 8 - 5 + 40


def test_without_room_only_listed_segments_count(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, max_segments=0, segments=("vip",))
    shop.append([in_segments("u1", "vip", "junk")])
    shop.drained()
    assert json.loads(shop.store.read_text(shop.keys.segments) or "") == ["vip"]
    assert segment_keys(shop) == 2


def test_names_that_the_list_has_count_after_a_restart(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, max_segments=2)
    shop.append([in_segments("u1", "a", "b")])
    shop.drained()
    shop.append([in_segments("u1", "c", "b", "a")])
    shop.drained()
    part = [shop.store.read_many([shop.plan.keys.segment(name, n) for n in range(4)], ("item",), 10) for name in "abc"]
    assert [sum(one.events for one in parts if one is not None) for parts in part] == [2, 2, 0]


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", [50, 2_000, 60_000])
def test_dead_letters_are_bounded_in_bytes(redis_url: str, prefix: str, letter: int) -> None:
    shop = Shop(redis_url, prefix, partitions=2, dead_letter_bytes=MIB)
    count = max(200, 4 * MIB // letter)
    raw = b"x" * letter
    for start in range(0, count, 500):
        wanted = [("XADD", shop.keys.stream(0), "*", "event", raw) for _ in range(min(500, count - start))]
        shop.store.run(wanted)
    worker = shop.drained()
    dead = shop.keys.of_stream(0, "dead")
    taken, kept = shop.store.run([("MEMORY", "USAGE", dead, "SAMPLES", 0), ("XLEN", dead)])
    assert taken <= MIB // 2
    assert kept >= 1
    assert worker.counts == {"refused": count}
    if letter == 60_000:
        assert kept + shop.total("letters_dropped") == count
    newest = shop.store.run([("XREVRANGE", dead, "+", "-", "COUNT", 1)])[0][0][1]
    assert raw[:MAX_EVENT_BYTES] in (newest.values() if isinstance(newest, dict) else newest)


def test_a_batch_is_bounded_in_bytes(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=2, batch_bytes=MIB, batch=1_000)
    big = json.dumps(an_event("u1", note="x" * 60_000))
    shop.append([big] * 100)
    shop.append([an_event("u2")] * 100)
    worker = shop.worker()
    worker.step()
    assert 2 <= sum(worker.counts.values()) <= 1 + MIB // 60_000 + 100
    shop.drain(worker)
    assert worker.counts == {"counted": 200}


def a_full_worker(url: str, prefix: str) -> None:
    """The body of a process: fill a worker with all that its settings allow, and print how many MiB it takes at most."""
    shop = Shop(url, prefix, partitions=16, batch=1_000, batch_bytes=Settings().ingest.batch_bytes)
    shop.index.documents = Everything()
    objects = Objects(
        around(shop.index, is_async=False),
        ["products"],
        shop.plan.attributes,
        max_objects=100_000,
        age_s=600,
        clock_s=time.monotonic,
        max_bytes=shop.settings.ingest.objects_bytes // 2,
    )
    worker = Worker(shop.store, shop.store, objects, shop.plan, clock_s=time.monotonic, now_s=time.time)
    for start in range(0, 6_000, 500):  # objects of long texts, and events of many attributes, 60 KB each
        specs = [{"k": f"{start} {n}", "v": n} for n in range(1_500)]
        told = {"object": {"object_id": f"told{start}", "attributes": {"brand": "b", "specs": specs}}}
        shop.append([an_event(f"u{start + n}", event_attributes=told) for n in range(20)])
        looked_up = [an_event(f"v{start + n}", f"p{start + n}", note="x" * 50_000) for n in range(500)]
        shop.append(looked_up)
        shop.append([b"x" * 60_000] * 20)
        shop.drain(worker, deadline_s=300.0)
        shop.store.run([("XTRIM", shop.keys.stream(n), "MAXLEN", 0) for n in range(16)])
    memory = {"peak_mib": peak_mib(), "objects": len(objects._known)}
    sys.stdout.write(json.dumps(memory | {"counts": worker.counts}))


def peak_mib() -> float:
    """The most that this process had in memory. `getrusage` would count what its parent had when it made this one."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


class Everything(dict[str, Any]):
    """A document for every id, with 16 long brands."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> dict[str, Any]:
        return {"brand": [f"{key} {n} " + "x" * 900 for n in range(16)], "type": "t"}


def test_a_worker_stays_within_256_mib_by_default(redis_url: str, prefix: str) -> None:
    ingest = Settings().ingest
    assert ingest.objects_bytes + ingest.batch_bytes + ingest.dead_letter_bytes <= 224 * MIB
    code = "import sys; from tests.live.test_ingest_hostile import a_full_worker; a_full_worker(*sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", code, redis_url, prefix], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = json.loads(ended.stdout)
    assert said["counts"]["counted"] == 12 * 520
    assert said["objects"] < 6_000  # the bound was reached
    assert said["peak_mib"] <= 256


# --- the dialects of UBI ----------------------------------------------------------------------------------------------


def dialects(count: int) -> Iterator[dict[str, Any]]:
    """Events as three applications write them, made up here: half of the kinds have an action without a weight, or no object."""
    draw = random.Random(3)
    for number in range(count):
        at_s = 1_733_900_000 + 60 * number + 0.123
        at = datetime.fromtimestamp(at_s, UTC)
        action = draw.choice(["impression", "search", "click", "add_to_cart", "purchase", "global_click"])
        common = {"action_name": action, "query_id": str(uuid.UUID(int=number)), "client_id": f"client {number % 40}"}
        thing: dict[str, Any] | None = {"object_id": f"A{number % 90}", "object_id_field": "asin", "description": None}
        match number % 3:
            case 0:  # a demo's generator: epoch milliseconds, the session among the attributes, objects of any form
                thing = {"object_id": str(4_000 + number % 90), "object_id_field": "primary_ean", "internal_id": 17}
                thing = (
                    draw.choice([thing, None, {"search_term": "knn", "results_num": 44}])
                    if action[0] in "gs"
                    else thing
                )
                more = {"session_id": "s", "position": {"ordinal": 4, "x": -39, "trail": ["/a"]}, "dwell_time": 1.5}
                yield common | {
                    "timestamp": round(at_s * 1000),
                    "message_type": "INFO",
                    "event_attributes": more | ({} if thing is None else {"object": thing}),
                }
            case 1:  # a shop's browser: strict_date_time, an empty user, null attributes of searches
                yield common | {
                    "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "session_id": f"SESSION-{number % 50}",
                    "user_id": "",
                    "event_attributes": None
                    if action == "search"
                    else {"object": thing, "position": {"ordinal": number}},
                }
            case 2:  # an export: +0000, types that are null
                yield common | {
                    "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.123+0000"),
                    "session_id": f"{number % 50}",
                    "message_type": None,
                    "message": None,
                    "event_attributes": {"object": thing, "position": None},
                }


def ingested(
    opensearch: OpenSearch, index: MakeIndex, redis_url: str, prefix: str, events: Iterable[dict[str, Any]]
) -> tuple[Shop, Counter[str], int]:
    """Count events from years ago against an index made of their ids; return shop, counts, and how many have a known action."""
    listed = list(events)
    ids: dict[tuple[str, str], None] = {}
    for one in listed:
        thing = (one.get("event_attributes") or {}).get("object") or {}
        if thing.get("object_id"):
            ids[thing.get("object_id_field") or "_id", thing["object_id"]] = None
    documents = {f"d{n}": {name: one, "brand": f"b{n % 5}", "type": "t"} for n, (name, one) in enumerate(ids)}
    name = index(None, documents=documents)  # mapped as the server guesses: texts with keyword sub-fields
    shop = Shop(redis_url, prefix, retry_s=0.01)
    signals = SignalSettings(horizon_s=300 * 7 * 86_400.0)
    shop.settings = shop.settings.model_copy(update={"signals": signals})
    shop.plan = CountingRules.of(shop.settings)
    commands = []
    for one in listed:
        raw, found = json.dumps(one).encode(), parse(one)
        if isinstance(found, Event):
            commands.append(append_command(shop.keys, found, raw, shop.settings.ingest.partitions))
        else:
            commands.append(("XADD", shop.keys.stream(0), "*", "event", raw))
    for start in range(0, len(commands), 500):
        shop.store.run(commands[start : start + 500])
    finished(shop, worker := worker_on(shop, opensearch, name), deadline_s=120.0)
    known = sum(one["action_name"] in DEFAULT_ACTION_WEIGHTS for one in listed)
    return shop, worker.counts, known


def held_to_ubi(shop: Shop, counts: Counter[str], events: int, known: int) -> None:
    assert counts["counted"] == known
    assert counts["counted"] + counts["refused"] == events
    assert counts["missing"] == counts["no_consent"] == counts["duplicate"] == 0
    reasons = Counter(letter["reason"].partition(":")[0] for letter in shop.dead())
    assert sum(reasons.values()) == events - known
    assert set(reasons) <= {
        "action_name",
        "event_attributes.object",
        "event_attributes.object.object_id",
    }


def test_events_are_read_in_three_dialects(
    opensearch: OpenSearch, index: MakeIndex, redis_url: str, prefix: str
) -> None:
    shop, counts, known = ingested(opensearch, index, redis_url, prefix, dialects(900))
    assert known > 300
    held_to_ubi(shop, counts, 900, known)


def test_the_public_sample_is_read_whole(opensearch: OpenSearch, index: MakeIndex, redis_url: str, prefix: str) -> None:
    """opensearch-project/dashboards-search-relevance, server/sample_data/data (Apache-2.0): it is no part of this project."""
    folder = Path(os.environ.get("UBI_SAMPLE_DIR", ROOT / ".." / "shared" / "data" / "ubi-sample"))
    if not (folder / "ubi_events.json.gz").exists():
        pytest.skip("the UBI sample is not here: UBI_SAMPLE_DIR names its folder")
    with gzip.open(folder / "ubi_events.json.gz", "rt") as lines:
        events = [json.loads(line) for line in lines if line.strip()]
    shop, counts, known = ingested(opensearch, index, redis_url, prefix, events)
    assert (len(events), known) == (3_555, 582)
    held_to_ubi(shop, counts, 3_555, 582)
