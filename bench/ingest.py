"""Cost of ingest: the time from an append to the next search's read, events per second and worker, bytes per user, a backfill.

    python -m bench.ingest

It starts a Valkey, and a worker in another process. The worker has all objects in memory, as after the first minutes.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any

from rewriter.client.registry import around
from rewriter.demo.corpus import load
from rewriter.settings import PolicySettings, Settings, StoreSettings
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import SignalsQuery
from rewriter_engines import Valkey

RATE = 500
RATE_FOR_S = 20.0
LOAD = 60_000
PRODUCTS = 2_000
FIELDS: dict[str, Any] = {
    "brand": {},
    "product_type": {},
    "type_brand": {"of": ["product_type", "brand"]},
}
SETTINGS = Settings(
    store=StoreSettings(prefix="bench"),
    policies={"bench": PolicySettings.model_validate({"index": "products", "fields": FIELDS})},
)
PLAN = CountingRules.of(SETTINGS)
KEYS = StreamKeys("bench")


class Catalogue:
    """Answers look-ups from a dict: only the worker is measured, which looks each object up once."""

    def field_caps(self, *, index: str, **_: Any) -> Any:
        """Return the index alone: the worker looks up ids only."""
        return {"indices": [index], "fields": {"_id": {"_id": {"searchable": True, "aggregatable": True}}}}

    def search(self, *, body: Any, **_: Any) -> Any:
        """Return the documents, with as many brands and types as a real shop has."""
        (query,) = body["query"]["bool"]["filter"]
        hits = [{"_id": one, "_source": _source(int(one[1:]))} for one in query["ids"]["values"]]
        return {"hits": {"total": {"value": len(hits)}, "hits": hits}}


def _source(number: int) -> dict[str, str]:
    return {"brand": f"brand {number % 300}", "product_type": f"product type {number % 120}"}


def work(url: str) -> None:
    """Run a worker until the process is killed."""
    store = RedisStore(url)
    objects = Objects(
        around(Catalogue(), is_async=False),
        ["products"],
        PLAN.attributes,
        max_objects=100_000,
        age_s=600,
        clock_s=time.monotonic,
    )
    Worker(store, store, objects, PLAN, clock_s=time.monotonic, now_s=time.time).run(Flag())


def event(draw: random.Random, number: int, users: int) -> bytes:
    """Return a click or a view of some user, as a producer sends it."""
    user = f"user-{int(users * draw.random() ** 2)}"
    return json.dumps({
        "action_name": draw.choice(["view", "view", "view", "click", "purchase"]),
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "client_id": f"client-{user}", "user_id": user, "session_id": f"session-{user}", "event_id": f"event-{number}",
        "event_attributes": {"object": {"object_id": f"p{draw.randrange(PRODUCTS)}"}, "position": {"ordinal": 3}},
    }).encode()  # fmt: skip


def append(store: RedisStore, raw: list[bytes]) -> None:
    """Append events and wait for the acknowledgement."""
    commands = []
    for one in raw:
        found = parse(one)
        assert isinstance(found, Event)
        commands.append(append_command(KEYS, found, one, SETTINGS.ingest.partitions))
    for reply in store.run(commands):
        assert not isinstance(reply, Exception), reply


def passed(store: RedisStore) -> int:
    """Return the number of entries that the workers have processed."""
    wanted = [("HGET", KEYS.of_stream(number, "state"), "passed") for number in range(SETTINGS.ingest.partitions)]
    return sum(int(reply or 0) for reply in store.run(wanted))


@contextmanager
def workers(url: str, count: int) -> Iterator[None]:
    """Run workers in processes of their own, and wait until all partitions are held."""
    code = "import sys; from bench.ingest import work; work(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(count)]
    store = RedisStore(url)
    leases = [("EXISTS", KEYS.of_stream(number, "lease")) for number in range(SETTINGS.ingest.partitions)]
    try:
        while sum(store.run(leases)) < len(leases):
            time.sleep(0.05)
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def until_seen_ms(store: RedisStore, draw: random.Random) -> list[float]:
    """Append RATE events per second. Every fiftieth is of a new user, whose profile is read until it exists."""
    found, number, begun_s = [], 0, time.monotonic()
    while time.monotonic() - begun_s < RATE_FOR_S:
        due = int((time.monotonic() - begun_s) * RATE) - number
        append(store, [event(draw, number + at, 5_000) for at in range(due)])
        number += due
        user = f"probe-{number}-{draw.random()}"
        raw = event(draw, -number, 1).replace(b'"user-0"', json.dumps(user).encode())
        raw = raw.replace(f"event--{number}".encode(), user.encode())
        append(store, [raw])
        sent_s = time.monotonic()
        query = SignalsQuery(None, PLAN.keys.profile(user), None, tuple(PLAN.fields), 64)
        while store.read(query).profile is None:
            assert time.monotonic() - sent_s < 10.0
        found.append((time.monotonic() - sent_s) * 1_000)
    return sorted(found)


def bytes_per_user(store: RedisStore, events_each: int) -> tuple[float, float]:
    """Return the bytes of a profile and of a session with 64 counters and more, as the server reports them for the keys."""
    draw, users = random.Random(3), 50
    before = passed(store)
    for number in range(users):
        raw = [event(draw, 0, 1).replace(b"user-0", f"full-{number}".encode()) for _ in range(events_each)]
        append(store, [one.replace(b'"event-0"', f'"full-{number}-{at}"'.encode()) for at, one in enumerate(raw)])
    while passed(store) < before + users * events_each:
        time.sleep(0.01)

    def mean(bases: list[str]) -> float:
        wanted = [("MEMORY", "USAGE", f"{base}:{part}", "SAMPLES", 0) for base in bases for part in "zm"]
        return sum(int(reply or 0) for reply in store.run(wanted)) / len(bases)

    return (
        mean([PLAN.keys.profile(f"full-{number}") for number in range(users)]),
        mean([PLAN.keys.session(f"session-full-{number}") for number in range(users)]),
    )


def backfill_s(store: RedisStore, folder: Path) -> tuple[int, int, float, float]:
    """Return events and users of Complete Journey, attributes in the file, and the seconds for the sums and in total."""
    corpus, file = load(), folder / "history.csv"
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("user_id", "object_id", "timestamp", "brand", "product_type"))
        for one in corpus.purchases:
            product, at = corpus.products[one.product_id], datetime.fromtimestamp(one.at_s, UTC).isoformat()
            rows.writerow((one.household_id, one.product_id, at, product.brand, product.product_type))
    unasked = Objects(
        around(Catalogue(), is_async=False),
        ["products"],
        PLAN.attributes,
        max_objects=1,
        age_s=600,
        clock_s=time.monotonic,
    )
    begun_s = time.monotonic()
    history = History([str(file)], PLAN, SETTINGS.ingest.partitions, None, {})
    summary = history.add_up(unasked, lambda *_: None)
    added_up_s = time.monotonic() - begun_s
    with Swap(store, store, PLAN, SETTINGS.ingest.partitions) as swap:
        swap.write(history, unasked, "bench", lambda _: None)
    return summary["events"], summary["users"], added_up_s, time.monotonic() - begun_s


def main() -> None:
    """Print all figures."""
    draw = random.Random(1)
    with Valkey() as server:
        store = RedisStore(server.url)
        with workers(server.url, 1):
            seen = until_seen_ms(store, draw)
            p50, p99 = seen[len(seen) // 2], seen[int(len(seen) * 0.99)]
            print(
                f"append acknowledged → next read, {RATE} events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, n {len(seen)}"
            )
            for events_each in (16, 40, 150):
                profile, session = bytes_per_user(store, events_each)
                (count,) = store.run([("ZCARD", f"{PLAN.keys.profile('full-0')}:z")])
                print(f"bytes per user, about {count} counters: profile {profile:,.0f}, session {session:,.0f}")
                store.run([("UNLINK", f"{PLAN.keys.profile(f'full-{n}')}:{p}") for n in range(50) for p in "zm"])
                store.run(
                    [("UNLINK", f"{PLAN.keys.session(f'session-full-{n}')}:{p}") for n in range(50) for p in "zm"]
                )
                store.run([("DEL", KEYS.of_stream(n, "ids")) for n in range(SETTINGS.ingest.partitions)])
        for count in (1, 2):
            store.run([("FLUSHALL",)])
            raw = [event(draw, number, 5_000) for number in range(LOAD)]
            for start in range(0, LOAD, 1_000):
                append(store, raw[start : start + 1_000])
            with workers(server.url, count):
                first, begun_s = passed(store), time.monotonic()
                while passed(store) < LOAD:
                    time.sleep(0.01)
                took_s = time.monotonic() - begun_s
            print(f"{count} worker(s): {(LOAD - first) / took_s:,.0f} events/s")
        store.run([("FLUSHALL",)])
        with TemporaryDirectory() as folder:
            events, users, added_up_s, took_s = backfill_s(store, Path(folder))
        print(f"backfill of {events:,} purchases, {users:,} users: {took_s:.1f} s, {added_up_s:.1f} s of it adding up")


if __name__ == "__main__":
    main()
