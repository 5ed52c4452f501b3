"""The buffer of events: bounded in events and bytes, shared fairly among partitions, retried in turns; the store is a fake."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import pytest

from rewriter import Settings
from rewriter.shell.outbox import OVERHEAD_BYTES, Outbox, Shipment
from rewriter.shell.track import AsyncTracker
from rewriter.signals.events import Event, parse
from rewriter.signals.redis_store import AsyncRedisStore

KEYS = 8


class Fake:
    """A store of eight partitions: what it took, and how it fails."""

    def __init__(self) -> None:
        self.took: Counter[int] = Counter()
        self.refuses: Callable[[int], bool] = lambda _: False
        self.raises = False
        self.away_s = 1.0
        """For which an attempt that fails hangs."""
        self.now_s = 0.0

    def run(self, shipment: Shipment) -> Sequence[Any] | None:
        if not shipment.events:
            return [True, b"8"]
        refused = [number for number in shipment.events if self.refuses(number)]
        if refused:
            self.now_s += self.away_s
            if self.raises:
                return None
        replies: list[Any] = []
        for number, raws in shipment.events.items():
            if number in refused:
                replies.append(ConnectionError())
            else:
                self.took[number] += len(raws)
                replies.append(len(raws))
        return replies

    def work(self, outbox: Outbox, until_s: float) -> None:
        while self.now_s < until_s:
            shipment = outbox.take(self.now_s)
            if shipment is not None:
                outbox.finish(shipment, self.run(shipment), self.now_s)
            elif (pause_s := outbox.pause_s(self.now_s)) is None:
                return
            else:
                self.now_s += max(pause_s, 0.001)


def outbox_of(**ingest: Any) -> Outbox:
    return Outbox(Settings.model_validate({"ingest": {"partitions": KEYS} | ingest}))


def taken(outbox: Outbox, now_s: float) -> Shipment:
    shipment = outbox.take(now_s)
    assert shipment is not None
    return shipment


def event(number: int, **more: Any) -> dict[str, Any]:
    acted_on = {"object": {"object_id": "p1"}}
    at = "2026-01-01T00:00:00Z"
    return {"action_name": "view", "timestamp": at, "user_id": f"u{number}", "event_attributes": acted_on} | more


@pytest.mark.parametrize("raises", [False, True])
def test_healthy_partitions_are_sent_while_three_of_eight_hang(raises: bool) -> None:
    store, outbox = Fake(), outbox_of()
    store.work(outbox, 1.0)
    store.refuses, store.raises = lambda number: number < 3, raises
    put = 0
    for second in range(60):
        store.now_s = max(store.now_s, float(second))
        for number in range(40):
            put += outbox.put(event(second * 100 + number))
        store.work(outbox, second + 1.0)
    healthy = sum(count for number, count in store.took.items() if number >= 3)
    assert put == 60 * 40
    assert healthy >= 0.9 * put * 5 / 8
    assert store.took[0] == store.took[1] == store.took[2] == 0
    store.refuses = lambda _: False
    store.work(outbox, store.now_s + 60)
    assert (store.took.total(), len(outbox), outbox.counts["accepted"]) == (put, 0, put)


def test_a_store_that_is_back_gets_everything_at_once() -> None:
    store, outbox = Fake(), outbox_of()
    for number in range(500):
        assert outbox.put(event(number))
    store.refuses, store.raises = lambda _: True, True
    store.work(outbox, 120)
    store.refuses = lambda _: False
    began_s = store.now_s
    store.work(outbox, began_s + 5)
    assert store.took.total() == 500
    assert store.now_s - began_s < 5


def test_the_buffer_is_bounded_in_bytes() -> None:
    outbox = outbox_of(track_buffer_bytes=2**17)
    size = len(json.dumps(event(1, note="x" * 1_000) | {"event_id": "e" * 36})) + OVERHEAD_BYTES
    taken = sum(outbox.put(event(number, note="x" * 1_000, event_id="e" * 36)) for number in range(1_000))
    assert 2**17 // (size + 8) <= taken <= 2**17 // (size - 8)
    assert outbox.counts["dropped"] == 1_000 - taken


def test_what_one_partition_may_fill_leaves_as_much_to_the_others() -> None:
    store, outbox = Fake(), outbox_of(track_buffer=1_000)
    outbox.put(event(0))
    store.work(outbox, 1.0)
    one = [outbox.put(event(0)) for _ in range(1_000)]
    assert sum(one) == 500
    assert sum(outbox.put(event(number)) for number in range(1, 300)) > 200


def test_a_partition_that_takes_a_part_keeps_the_rest_in_order() -> None:
    outbox = outbox_of(partitions=1)
    for number in range(5):
        outbox.put(event(number, event_id=f"e{number}"))
    ask = taken(outbox, 0.0)
    outbox.finish(ask, [True, b"1"], 0.0)
    first = taken(outbox, 0.0)
    outbox.finish(first, [2], 0.0)
    second = taken(outbox, 29.0)
    assert [json.loads(raw)["event_id"] for raw in second.events[0]] == ["e2", "e3", "e4"]
    outbox.finish(second, [3], 29.0)
    assert (len(outbox), outbox.counts["accepted"]) == (0, 5)


def test_an_event_stays_with_its_partition_when_their_number_grows() -> None:
    outbox = outbox_of(partitions=1)
    outbox.put(event(1))
    outbox.finish(taken(outbox, 0.0), [True, b"1"], 0.0)
    sent = taken(outbox, 1.0)
    outbox.finish(sent, None, 1.0)
    outbox.finish(taken(outbox, 31.0), [True, b"64"], 31.0)
    again = taken(outbox, 32.0)
    assert again.events == sent.events


class Action(Enum):
    VIEW = "view"


ITSELF: list[Any] = []
ITSELF.append(ITSELF)

PYTHONS_OWN: dict[str, tuple[dict[Any, Any], str | None]] = {
    "bytes": ({"user_id": b"u1"}, "u1"),
    "a UUID": ({"user_id": UUID(int=17)}, str(UUID(int=17))),
    "a decimal": ({"user_id": Decimal("17.0")}, "17.0"),
    "a number": ({"user_id": 17}, "17"),
    "a view of a dict": (
        {"event_attributes": MappingProxyType({"object": MappingProxyType({"object_id": "p1"})})},
        "u",
    ),
    "a set": ({"event_attributes": {"object": {"object_id": "p1"}, "segments": {"b", "a"}}}, "u"),
    "an enum": ({"action_name": Action.VIEW}, "u"),
    "half a character": ({"message": "shoe \ud83d"}, "u"),
    "half a character of a person": ({"user_id": "u\ud83d"}, None),
    "bytes that are no text": ({"user_id": b"\xff"}, None),
    "not a number": ({"message": float("nan"), "user_id": float("nan"), "client_id": "c1"}, "c1"),
    "a number that is too long": ({"message": [1, (10**5_000,)]}, "u"),
    "a number that is too long for a person": ({"user_id": 10**5_000}, None),
    "a message of bytes that are no text": ({"message": {"a": [b"\xff", bytearray(b"\xfe")]}}, "u"),
    "nested too deeply": ({"message": json.loads("[" * 900 + "]" * 900)}, "u"),
    "named by a number": ({17: "x"}, "u"),
    "named by a tuple": ({("a", "b"): "x"}, "u"),
    "named by what is no text": ({"message": {UUID(int=1): 1, Action.VIEW: 2, b"x": 3, None: 4, 1.5: {(): ()}}}, "u"),
    "holds itself": ({"message": ITSELF}, None),
    "an id that is none": ({"event_id": "undefined"}, "u"),
}


@pytest.mark.parametrize("case", PYTHONS_OWN)
def test_what_track_takes_is_what_a_worker_reads(case: str) -> None:
    more, user = PYTHONS_OWN[case]
    outbox = outbox_of()
    assert outbox.put(event(1) | {"user_id": "u"} | more) is (user is not None)
    assert outbox.counts == ({} if user else {"refused": 1})
    if user is None:
        return
    outbox.finish(taken(outbox, 0.0), [True, b"8"], 0.0)
    ((raw,),) = taken(outbox, 0.0).events.values()
    found = parse(raw)
    assert isinstance(found, Event)
    assert found.user == user
    assert found.event_id not in {None, "undefined"}


@pytest.mark.parametrize("steps", [0, 3])
def test_a_loop_that_ends_without_close_drops_what_waits_and_counts_it(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        async def run(self, wanted: Sequence[Any]) -> list[Any]:
            del wanted
            await asyncio.sleep(60)
            return []

    trackers = []

    async def visit() -> None:
        trackers.append(AsyncTracker(cast("AsyncRedisStore", Away()), Settings()))
        for number in range(7):
            assert trackers[0].track(event(number))
        for _ in range(steps):
            await asyncio.sleep(0)

    asyncio.run(visit())
    assert trackers[0].counts == {"dropped": 7, "waiting": 0}
    assert "7 events were dropped: the store did not accept them in time" in caplog.text
