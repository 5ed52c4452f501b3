"""A shop's events, its products in a dict, and its expected counters: shared by the tests of ingest."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from opensearchpy.exceptions import ConnectionError as Unreachable

from rewriter.client.registry import around
from rewriter.settings import IngestSettings, PolicySettings, Settings, SignalSettings, StoreSettings
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.redis_store import RedisStore

if TYPE_CHECKING:
    from tests.conftest import MakeIndex

PRODUCTS: dict[str, dict[str, Any]] = {
    f"p{number}": {"brand": f"b{number % 7}", "type": f"t{number % 5}"} for number in range(200)
}
ACTIONS = ("view", "view", "view", "click", "click", "add_to_cart", "purchase", "remove_from_cart")


class Index:
    """Stands for the search client where only look-ups matter."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self.documents = dict(documents)
        self.away = False
        self.asked = 0

    def field_caps(self, *, index: str, **_: Any) -> Any:
        if self.away:
            raise Unreachable("N/A", "away", Exception())
        return {"indices": [index], "fields": {"_id": {"_id": {"searchable": True, "aggregatable": True}}}}

    def search(self, *, index: str, body: Any, **_: Any) -> Any:
        if self.away:
            raise Unreachable("N/A", "away", Exception())
        self.asked += 1
        (query,) = body["query"]["bool"]["filter"]
        hits = [
            {"_index": index, "_id": one, "_source": self.documents[one]}
            for one in query["ids"]["values"]
            if one in self.documents
        ]
        return {"hits": {"total": {"value": len(hits)}, "hits": hits}}


def shop_settings(prefix: str, max_counters: int, **ingest: Any) -> Settings:
    """A brand, a combination and the item; short half-lives, so that landmarks move."""
    return Settings(
        store=StoreSettings(prefix=prefix),
        signals=SignalSettings(session_half_life_s=60, profile_half_life_s=86_400, max_counters=max_counters),
        ingest=IngestSettings(**{"partitions": 4, "lease_s": 1.0, "batch": 200} | ingest),
        policies={
            "shop": PolicySettings.model_validate(
                {
                    "index": "products",
                    "fields": {"brand": {}, "type_brand": {"of": ["type", "brand"], "half_life_s": 43_200}},
                }
            )
        },
    )


class Shop:
    """Producers, workers and counters of one prefix on one server."""

    def __init__(self, url: str, prefix: str, max_counters: int = 16, **ingest: Any) -> None:
        self.settings = shop_settings(prefix, max_counters, **ingest)
        self.plan = CountingRules.of(self.settings)
        self.url = url
        self.store = RedisStore(url)
        self.keys = StreamKeys(prefix)
        self.index = Index(PRODUCTS)

    def worker(self, engine: Any = None, **clocks: Callable[[], float]) -> Worker:
        store = engine or self.store
        clocks = {"clock_s": time.monotonic, "now_s": time.time} | clocks
        return Worker(store, store, self.objects(clocks["clock_s"]), self.plan, **clocks)

    def objects(self, clock_s: Callable[[], float] = time.monotonic) -> Objects:
        """What a worker or a backfill knows of the shop's products."""
        return Objects(
            around(self.index, is_async=False),
            ["products"],
            self.plan.attributes,
            max_objects=1_000,
            age_s=60,
            clock_s=clock_s,
        )

    def append(self, events: Iterable[Mapping[str, Any] | str | bytes]) -> list[bytes]:
        """Append events as producers do; what is no event goes to the first partition."""
        commands = []
        for one in events:
            raw = one if isinstance(one, bytes) else (one if isinstance(one, str) else json.dumps(one)).encode()
            found = parse(raw)
            if isinstance(found, Event):
                commands.append(append_command(self.keys, found, raw, self.settings.ingest.partitions))
            else:
                commands.append(("XADD", self.keys.stream(0), "*", "event", raw))
        replies = self.store.run(commands) if commands else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def drain(self, *workers: Worker, deadline_s: float = 30.0) -> None:
        """Let workers work until nothing waits in any stream."""
        late_at = time.monotonic() + deadline_s
        while True:
            handled = sum(worker.step() for worker in workers)
            if not handled and all(self.passed(n) == self.added(n) for n in range(self.settings.ingest.partitions)):
                return
            assert time.monotonic() < late_at, "the streams were not drained in time"

    def drained(self, engine: Any = None) -> Worker:
        """Let a worker of its own work until nothing waits, and close it: the next one need not wait for its leases."""
        worker = self.worker(engine)
        self.drain(worker)
        worker.close()
        return worker

    def passed(self, partition: int) -> int:
        (found,) = self.store.run([("HGET", self.keys.of_stream(partition, "state"), "passed")])
        return int(found or 0)

    def added(self, partition: int) -> int:
        (info,) = self.store.run([("XINFO", "STREAM", self.keys.stream(partition))])
        return (
            0 if isinstance(info, Exception) else int(dict(zip(info[::2], info[1::2], strict=True))[b"entries-added"])
        )

    def dead(self) -> list[dict[str, str]]:
        """The dead letters of all partitions."""
        wanted = [("XRANGE", self.keys.of_stream(n, "dead"), "-", "+") for n in range(self.settings.ingest.partitions)]
        found = []
        for entries in self.store.run(wanted):
            for _, parts in entries:
                pairs = parts if isinstance(parts, dict) else dict(zip(parts[::2], parts[1::2], strict=True))
                found.append({name.decode(): text.decode("utf-8", "replace") for name, text in pairs.items()})
        return found

    def state(self, partition: int) -> dict[str, str]:
        (found,) = self.store.run([("HGETALL", self.keys.of_stream(partition, "state"))])
        listed = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        return {name.decode(): text.decode() for name, text in listed.items()}

    def total(self, counter: str) -> int:
        return sum(int(self.state(n).get(counter, 0)) for n in range(self.settings.ingest.partitions))

    def counters(self) -> dict[str, Any]:
        """All counters of this prefix, byte for byte, without what tells of clocks: the lag."""
        prefix = self.settings.store.prefix
        client = self.store._connected()
        found: dict[str, Any] = {}
        for key in sorted(client.scan_iter(match=f"{prefix}:*", count=1_000)):
            name = key.decode().removeprefix(prefix)
            if name.endswith(":z"):
                found[name] = client.zrange(key, 0, -1, withscores=True)
            elif name.endswith(":m"):
                fields = client.hgetall(key)
                found[name] = {
                    field: text for field, text in fields.items() if field != b"lag" and b"watermark" not in field
                }
        return found


def an_event(user: str = "u1", item: str = "p1", at_s: float | None = None, **more: Any) -> dict[str, Any]:
    """A click of a user in their session, now or at `at_s`."""
    at = datetime.fromtimestamp(time.time() if at_s is None else at_s, UTC)
    return {
        "action_name": "click",
        "timestamp": at.isoformat(timespec="milliseconds"),
        "client_id": f"c-{user}",
        "user_id": user,
        "session_id": f"s-{user}",
        "event_attributes": {"object": {"object_id": item}},
    } | more


def many_events(count: int, seed: int = 7, users: int = 50, spread_s: float = 7_200.0) -> Iterator[dict[str, Any]]:
    """Events of some users in the last hours, out of order by as much, some of them sent twice."""
    draw = random.Random(seed)
    now_s = time.time() - 60
    sent: list[dict[str, Any]] = []
    for number in range(count):
        if sent and draw.random() < 0.02:
            yield draw.choice(sent[-100:])
            continue
        user, item = f"u{int(users * draw.random() ** 2)}", draw.choice(list(PRODUCTS))
        more = {"action_name": draw.choice(ACTIONS), "event_id": f"e{number}"}
        sent.append(an_event(user, item, now_s - spread_s * draw.random(), **more))
        yield sent[-1]


def work(url: str, prefix: str, ingest: str) -> None:
    """Be a worker until killed: the body of a process that a test starts."""
    Shop(url, prefix, **json.loads(ingest)).worker().run(Flag())


def toml_of(
    folder: Path, redis_url: str, opensearch_url: str, prefix: str, index: MakeIndex, more_ingest: str = ""
) -> Path:
    """Write the settings of a shop with an index of its products. more_ingest: lines of the table `ingest`."""
    properties = {"brand": {"type": "keyword"}, "type": {"type": "keyword"}}
    name = index(properties, documents=PRODUCTS)
    path = folder / "rewriter.toml"
    path.write_text(f"""
[opensearch]
hosts = ["{opensearch_url}"]
[store]
url = "{redis_url}"
prefix = "{prefix}"
[ingest]
partitions = 4
{more_ingest}
[policies.shop]
index = "{name}"
fields.brand = {{}}
fields.type_brand = {{ of = ["type", "brand"] }}
""")
    return path
