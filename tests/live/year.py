"""A year of purchases with a day of live entries behind it, and an independent count of both: what the soak of backfill is made of.

Everything follows from a seed and a time, so that the processes of a test and its count draw the same. The count is plain Python
over dicts, and shares no line with the library's.
"""

from __future__ import annotations

import csv
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from typing import Any
from zlib import crc32

from rewriter.client.registry import around
from rewriter.settings import IngestSettings, PolicySettings, Settings, SignalSettings, StoreSettings
from rewriter.signals.backfill import swap as swapping
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.redis_store import RedisStore
from tests.live.shop import PRODUCTS, Index

DAY_S = 86_400.0
PARTITIONS = 8
HALF_LIFE_S = {"brand": 112 * DAY_S, "type_brand": 56 * DAY_S, "item": 112 * DAY_S}
WEIGHTS = {"view": 1.0, "click": 2.0, "purchase": 8.0}
LATE = "late"
"""The object of the first entries, which the index gets only later."""


@dataclass(frozen=True)
class Year:
    """What is drawn: `purchases` rows of a history up to `until_s`, and `entries` of the streams in the 24 h behind it."""

    prefix: str
    purchases: int
    entries: int
    users: int
    until_s: float
    pause_s: float
    retry_s: float
    chunk_delay_s: float = 0.0

    @property
    def head(self) -> int:
        """How many entries come first: some of them wait for an object."""
        return self.entries // 200

    @property
    def plan(self) -> CountingRules:
        """Settings under which no counter is pruned: what is counted is compared, not what is kept."""
        fields = {"brand": {}, "type_brand": {"of": ["type", "brand"], "half_life_s": HALF_LIFE_S["type_brand"]}}
        return CountingRules.of(
            Settings(
                store=StoreSettings(prefix=self.prefix),
                signals=SignalSettings(action_weights=WEIGHTS, max_counters=512, horizon_s=400 * DAY_S),
                ingest=IngestSettings(
                    partitions=PARTITIONS,
                    lease_s=1.0,
                    retry_s=self.retry_s,
                    retention_s=3 * DAY_S,
                    dead_letters=1_000_000,
                ),
                policies={"year": PolicySettings.model_validate({"index": "products", "fields": fields})},
            )
        )

    def rows(self) -> Iterator[tuple[list[str], str]]:
        """Yield the rows of the file, each with the reason for which it is left out, or an empty text."""
        draw = random.Random(1)
        for number in range(self.purchases):
            at_s = self.until_s - draw.random() * 364 * DAY_S
            row = [
                f"u{draw.randrange(self.users)}",
                f"p{draw.randrange(200)}",
                iso(at_s),
                "purchase",
                f"h{number}",
                "true",
            ]
            reason = ""
            if number < 2:  # the first of those with its event_id, and the end of the history
                row[2] = iso(self.until_s - (1 - number) * 365 * DAY_S)
            elif draw.random() < 0.04:
                reason = draw.choice(list(SPOILED))
                SPOILED[reason](row, self.until_s)
            yield row, reason

    def events(self) -> Iterator[tuple[int, float, dict[str, Any], str]]:
        """Yield partition-free entries in the order of their ids: milliseconds, event time, event, fate."""
        draw = random.Random(2)
        begin_ms = int(self.until_s * 1000) + 60_000
        step = (24 * 3_600_000 - 120_000) / self.entries
        before: tuple[dict[str, Any], float] | None = None
        for number in range(self.entries):
            ms = begin_ms + int(number * step)
            if before is not None and draw.random() < 0.01 and number % 100:
                yield ms, before[1], before[0], "duplicate"
                continue
            chance = draw.random()
            at_s = round(ms / 1000 - draw.random() * 50, 3)
            event: dict[str, Any] = {
                "action_name": draw.choice(("view", "view", "click", "purchase")),
                "timestamp": iso(at_s),
                "user_id": f"u{draw.randrange(self.users * 5 // 4)}",  # a fifth of them are not in the history
                "event_id": f"e{number}",
                "event_attributes": {"object": {"object_id": f"p{draw.randrange(200)}"}},
            }
            fate = "counted"
            if number < self.head:
                if chance < 0.05:
                    event["event_attributes"] = {"object": {"object_id": LATE}}
                    fate = "late"
            elif chance < 0.002:
                event["event_attributes"] = {"object": {"object_id": "nowhere"}}
                fate = "missing"
            elif chance < 0.01:
                event["action_name"], fate = "yawn", "refused"
            elif chance < 0.02:
                event["consent"], fate = draw.choice((False, None, "denied")), "no_consent"
            before = (event, at_s) if fate == "counted" else None
            yield ms, at_s, event, fate


def _earlier(row: list[str], until_s: float) -> None:
    row[2] = iso(until_s - 500 * DAY_S)


def _put(at: int, text: str) -> Callable[[list[str], float], None]:
    def put(row: list[str], _: float) -> None:
        row[at] = text

    return put


SPOILED: Mapping[str, Callable[[list[str], float], None]] = {
    "no_time": _put(2, ""),
    "too_old": _earlier,
    "no_person": _put(0, "nan"),
    "unknown_action": _put(3, "Purchase"),
    "no_consent": _put(5, ""),
    "no_object": _put(1, "nowhere"),
    "doubled": _put(4, "h0"),
}


def iso(at_s: float) -> str:
    """A time in milliseconds."""
    return datetime.fromtimestamp(round(at_s, 3), UTC).isoformat(timespec="milliseconds")


class GrowingIndex(Index):
    """An index that has one more object once a key says so."""

    def __init__(self, store: RedisStore, prefix: str) -> None:
        super().__init__(PRODUCTS)
        self._store, self._key = store, f"{prefix}:late-is-there"

    def search(self, **asked: Any) -> Any:
        if LATE not in self.documents and self._store.read_text(self._key):
            self.documents[LATE] = PRODUCTS["p0"]
        return super().search(**asked)


def _objects(year: Year, store: RedisStore) -> Objects:
    index = GrowingIndex(store, year.prefix)
    return Objects(
        around(index, is_async=False),
        ["products"],
        year.plan.attributes,
        max_objects=1_000,
        age_s=600,
        clock_s=time.monotonic,
    )


def work(url: str, year: str) -> None:
    """Be a worker until killed."""
    own, store = Year(**json.loads(year)), RedisStore(url)
    Worker(store, store, _objects(own, store), own.plan, clock_s=time.monotonic, now_s=time.time).run(Flag())


def backfill(url: str, year: str, file: str) -> None:
    """Backfill as the command does, and print what is said."""
    own, store = Year(**json.loads(year)), RedisStore(url)
    swapping.PAUSE_S = own.pause_s
    objects = _objects(own, store)
    begun_s = time.monotonic()
    history = History([file], own.plan, PARTITIONS, None, {})
    said = history.add_up(objects, lambda *_: None)
    said["until_s"] = history.until_s
    said["added_up_s"] = time.monotonic() - begun_s
    swap = Swap(store, store, own.plan, PARTITIONS)
    swap.refuse_gap(history.until_s)
    swap.read_ahead(history, objects, lambda _: None)
    said["read_ahead_s"] = time.monotonic() - begun_s
    with swap:
        said |= swap.write(history, objects, "year", lambda _: time.sleep(own.chunk_delay_s))
    said["took_s"] = time.monotonic() - begun_s
    print(json.dumps(said))  # noqa: T201  it is a process of its own


def write_file(year: Year, path: Path) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["user_id", "object_id", "timestamp", "action_name", "event_id", "consent"])
        out.writerows(row for row, _ in year.rows())


@dataclass
class Count:
    """Sums by subject: worth as of the end of the history by value, events, latest event."""

    worth: dict[str, dict[tuple[str, ...], float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    events: Counter[str] = field(default_factory=Counter)
    last_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(
        self, subject: str, product: Mapping[str, Any], item: str, weight: float, at_s: float, until_s: float
    ) -> None:
        values = (("brand", product["brand"]), ("type_brand", product["type"], product["brand"]), ("item", item))
        for value in values if subject else values[:2]:  # the population holds no items
            self.worth[subject][value] += weight * 2.0 ** ((at_s - until_s) / HALF_LIFE_S[value[0]])
        self.events[subject] += 1
        self.last_s[subject] = max(self.last_s[subject], at_s)


def recount(year: Year) -> tuple[Count, Counter[str], Counter[str]]:
    """Return all counters, the account of the rows, and the fates of the entries, counted by hand."""
    count, rows, fates = Count(), Counter[str](), Counter[str]()
    for row, reason in year.rows():
        rows["rows"] += 1
        rows[reason or "events"] += 1
        if not reason:
            at_s = datetime.fromisoformat(row[2]).timestamp()
            for subject in (row[0], ""):
                count.add(subject, PRODUCTS[row[1]], row[1], 8.0, at_s, year.until_s)
    for _, at_s, event, fate in year.events():
        fates["passed"] += 1
        if fate in ("late", "missing"):  # it waits, and comes again
            fates["passed"] += 1
            fates["waiting"] += 1
        fates["counted" if fate == "late" else fate] += 1
        if fate in ("counted", "late"):
            item = event["event_attributes"]["object"]["object_id"]
            product = PRODUCTS["p0" if item == LATE else item]
            for subject in (event["user_id"], ""):
                count.add(subject, product, item, WEIGHTS[event["action_name"]], at_s, year.until_s)
    return count, rows, fates


def stream_commands(year: Year, start: int, stop: int, *, now: bool = False) -> Iterator[tuple[Any, ...]]:
    """Yield what appends a slice of the entries, under the ids of their times or as of now."""
    keys = StreamKeys(year.prefix)
    for ms, _, event, _ in islice(year.events(), start, stop):
        number = crc32(event["user_id"].encode()) % PARTITIONS
        yield ("XADD", keys.stream(number), "*" if now else f"{ms}-*", "event", json.dumps(event))
