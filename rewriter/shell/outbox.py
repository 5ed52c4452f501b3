"""The buffer of events that `track` accepted and no store acknowledged yet: one queue per partition, bounded in events and bytes.

A partition that refuses events (its node is away, its key is no stream) delays no other: its events wait in its own queue. It is
sent alone, after a pause that doubles, and for a fifth of the time at most; all other partitions are sent together. A queue may
grow as large as the free part of the buffer, so one failing partition fills half of it at most. When `rw:partitions` grows, an
event stays in its queue: sent again to another partition, it would not be recognized as a duplicate.

One thread or task sends, and any may put; the owner of the outbox synchronizes the calls.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat
from logging import getLogger
from typing import Any
from uuid import uuid4

from rewriter.errors import Fault, StoreError
from rewriter.plural import count_of
from rewriter.settings import Settings
from rewriter.signals.absent import is_absent_id
from rewriter.signals.commands import Command
from rewriter.signals.events import MAX_DIGITS, MAX_EVENT_BYTES, parse
from rewriter.signals.ingest.contract import (
    StreamKeys,
    append_many_command,
    partition_count_commands,
    partition_of,
)
from rewriter.signals.partitions import partition_count

AT_ONCE = 500
AT_ONCE_BYTES = 2**20
RETRY_S = 0.5
MAX_RETRY_S = 4.0
PAUSE_FACTOR = 4.0
"""The pause after a failed attempt, as a multiple of its duration, before any failed partition is tried: the others have four
fifths of the time."""
PARTITIONS_PERIOD_S = 30.0
SUBJECTS = 2**32
"""Among so many partitions, an event's partition is the hash itself. Its remainder by any smaller number is the partition there."""
OVERHEAD_BYTES = 128
"""The memory that an event takes beside its JSON."""

_log = getLogger("rewriter")


@dataclass(slots=True)
class _Queue:
    """The events that wait for one partition, including those that are being sent: `events` in number, `size` in bytes.

    failures: how many attempts failed in a row.
    suspect:  whether the last attempt failed as a whole together with other partitions, so that each is tried alone.
    due_s:    when the next attempt may start (monotonic).
    """

    waiting: deque[bytes] = field(default_factory=deque)
    events: int = 0
    size: int = 0
    failures: int = 0
    suspect: bool = False
    due_s: float = float("-inf")

    def failed(self, now_s: float) -> None:
        self.due_s = now_s + min(MAX_RETRY_S, RETRY_S * 2**self.failures)
        self.failures = min(self.failures + 1, 8)


@dataclass(frozen=True, slots=True)
class Shipment:
    """Commands that are sent together: one per partition in `events`; without events, those that read the number of partitions."""

    commands: Sequence[Command]
    events: Mapping[int, Sequence[bytes]]
    began_s: float


class Outbox:
    """The buffer of one rewriter; see the module. Times are monotonic seconds.

    counts: events by outcome: accepted, dropped, refused, no_weight, no_consent.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = StreamKeys(settings.store.prefix)
        self._wanted_partitions = settings.ingest.partitions
        self._weights = settings.signals.action_weights
        self._room, self._room_bytes = settings.ingest.track_buffer, settings.ingest.track_buffer_bytes
        self._unassigned: deque[tuple[int, bytes]] = deque()  # events while the number of partitions is not known
        self._queues: dict[int, _Queue] = {}
        self._partitions = 0
        self._partition_count_read = _Queue()  # when the number of partitions is to be read, and how often that failed
        self._alone_from_s = float("-inf")
        self._turn = 0
        self._logged = ""
        self._events = self._bytes = 0
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many events wait, including those that are being sent."""
        return self._events

    def put(self, event: Any) -> bool:
        """Accept an event. Returns False if it is no event, lacks consent or a weight, or the buffer is full. Never raises."""
        try:
            return self._put(event)
        except Exception as error:  # noqa: BLE001  a caller's mapping may raise anything
            return self._not("refused", Fault("event", f"cannot be read: {type(error).__name__}"))

    def _put(self, event: Any) -> bool:
        """Check the event's JSON, as workers will read it: the caller's object may differ (bytes, mappings that are no dicts)."""
        if not isinstance(event, Mapping):
            return self._not("refused", Fault("event", "is not a mapping"))
        event_id = event.get("event_id")
        own = str(uuid4()) if is_absent_id(event_id) else event_id
        raw = _written({**event, "event_id": own})
        if len(raw) > MAX_EVENT_BYTES:
            return self._not("refused", Fault("event", f"has {len(raw):,} bytes, and may have {MAX_EVENT_BYTES:,}"))
        found = parse(raw)
        if isinstance(found, Fault):
            return self._not("refused", found)
        if not found.consent:
            return self._not("no_consent")
        if found.action_name not in self._weights:
            return self._not(
                "no_weight", Fault("action_name", "has no weight", "give it one in [signals] action_weights")
            )
        if not self._enqueue_bounded(partition_of(found, SUBJECTS), raw):
            what, remedy = "does not fit into the buffer: the store accepts no events", "`rewriter status` says why"
            return self._not("dropped", Fault("event", what, remedy))
        return True

    def _enqueue_bounded(self, subject: int, raw: bytes) -> bool:
        size = len(raw) + OVERHEAD_BYTES
        events, free_bytes = self._room - self._events, self._room_bytes - self._bytes
        if not self._partitions:
            if events < 1 or free_bytes < size:
                return False
            self._unassigned.append((subject, raw))
        else:
            queue = self._queues.setdefault(subject % self._partitions, _Queue())
            shared = self._partitions > 1
            if events < 1 + shared * queue.events or free_bytes < size + shared * queue.size:
                return False
            self._enqueue(queue, raw)
        self._events, self._bytes = self._events + 1, self._bytes + size
        return True

    def _enqueue(self, queue: _Queue, raw: bytes) -> None:
        queue.waiting.append(raw)
        queue.events += 1
        queue.size += len(raw) + OVERHEAD_BYTES

    def take(self, now_s: float) -> Shipment | None:
        """Return the shipment that is due now, or None. Call `finish` with it before the next `take`."""
        if not self._events:
            return None
        if now_s >= self._partition_count_read.due_s:
            return Shipment(partition_count_commands(self._keys, self._wanted_partitions), {}, now_s)
        due = {number: queue for number, queue in self._queues.items() if queue.waiting and now_s >= queue.due_s}
        failed = {number: queue.due_s for number, queue in due.items() if queue.failures}
        if suspects := [number for number, queue in due.items() if queue.suspect]:
            chosen = suspects[:1]
        elif failed and now_s >= self._alone_from_s:
            chosen = [min(failed, key=failed.__getitem__)]
        else:
            chosen = [number for number in due if number not in failed]
        return self._shipment(chosen, now_s) if chosen else None

    def _shipment(self, chosen: list[int], now_s: float) -> Shipment:
        self._turn += 1
        first = self._turn % len(chosen)
        chosen = (chosen[first:] + chosen[:first])[:AT_ONCE]
        each, each_bytes = AT_ONCE // len(chosen), AT_ONCE_BYTES // len(chosen)
        taken: dict[int, list[bytes]] = {}
        for number in chosen:
            waiting, raws, size = self._queues[number].waiting, taken.setdefault(number, []), 0
            while waiting and len(raws) < each and (not raws or size + len(waiting[0]) <= each_bytes):
                raws.append(waiting.popleft())
                size += len(raws[-1])
        commands = [append_many_command(self._keys, number, raws) for number, raws in taken.items()]
        return Shipment(commands, taken, now_s)

    def pause_s(self, now_s: float) -> float | None:
        """Return the seconds until something may be due, or None if no event waits."""
        if not self._events:
            return None
        due = [self._partition_count_read.due_s] if not self._partitions else []
        due += [
            max(queue.due_s, self._alone_from_s if queue.failures else queue.due_s)
            for queue in self._queues.values()
            if queue.waiting
        ]
        return max(0.0, min(due, default=now_s) - now_s)

    def finish(self, shipment: Shipment, replies: Sequence[Any] | None, now_s: float) -> None:
        """Process the replies to a shipment; None if the store did not answer. Events that are not acknowledged stay."""
        if not shipment.events:
            self._finish_count(replies, now_s)
            return
        was_away = all(queue.failures for queue in self._queues.values() if queue.events)
        failed = succeeded = False
        for (number, raws), reply in zip(shipment.events.items(), replies or repeat(0), strict=False):
            queue = self._queues[number]
            again = raws[0 if isinstance(reply, Exception) else reply :]
            queue.waiting.extendleft(reversed(again))
            self._acknowledge(queue, len(raws) - len(again), sum(map(len, raws)) - sum(map(len, again)))
            if not again:
                queue.failures, succeeded = 0, True
            elif replies is None and len(shipment.events) > 1:
                queue.suspect = True  # each is tried alone, at once
                continue
            else:
                queue.failed(now_s)
                failed = True
            queue.suspect = False
        if failed:
            self._alone_from_s = now_s + PAUSE_FACTOR * (now_s - shipment.began_s)
        if succeeded and was_away:  # the store is back
            self._hurry(now_s)

    def _finish_count(self, replies: Sequence[Any] | None, now_s: float) -> None:
        try:
            found = partition_count(self._keys.partitions, replies[1]) if replies else 0
        except StoreError as error:
            found = 0
            if str(error) != self._logged:
                self._logged = str(error)
                _log.error("events wait: %s", error)
        if not found:
            self._partition_count_read.failed(now_s)
            if self._partitions:  # the last number that was read stays in use
                self._partition_count_read.due_s = now_s + PARTITIONS_PERIOD_S
            return
        self._partitions, self._logged = found, ""
        self._partition_count_read.failures, self._partition_count_read.due_s = 0, now_s + PARTITIONS_PERIOD_S
        while self._unassigned:
            subject, raw = self._unassigned.popleft()
            self._enqueue(self._queues.setdefault(subject % self._partitions, _Queue()), raw)

    def _acknowledge(self, queue: _Queue, events: int, raw_bytes: int) -> None:
        size = raw_bytes + events * OVERHEAD_BYTES
        queue.events, queue.size = queue.events - events, queue.size - size
        self._events, self._bytes = self._events - events, self._bytes - size
        self.counts["accepted"] += events

    def hurry(self) -> None:
        """Make every queue due at once: for the last attempts before `close` ends."""
        self._hurry(float("-inf"))
        self._alone_from_s = float("-inf")
        if not self._partitions:
            self._partition_count_read.due_s = float("-inf")

    def _hurry(self, now_s: float) -> None:
        for queue in self._queues.values():
            queue.due_s = min(queue.due_s, now_s)

    def drop(self) -> None:
        """Drop and count the events that wait."""
        if self._events:
            _log.warning("%s dropped: the store did not accept them in time", count_of(self._events, "event", "were"))
            self.counts["dropped"] += self._events
        self._unassigned.clear()
        self._queues.clear()
        self._events = self._bytes = 0

    def _not(self, why: str, fault: Fault | None = None) -> bool:
        self.counts[why] += 1
        if self.counts[why] == 1:  # only the first is logged; all are counted
            _log.warning("an event was not tracked: %s", fault or why)
        return False


def _written(event: dict[str, Any]) -> bytes:
    """Write an event as JSON. What JSON cannot hold costs its own value alone: keys that are no texts, bytes, a number too long.

    Raises ValueError or RecursionError where an event holds itself.
    """
    try:
        return json.dumps(event, default=_plain).encode()
    except (TypeError, ValueError):
        return json.dumps(_spelled(event), default=_plain).encode()


def _spelled(value: Any) -> Any:
    """Return a copy without what only `json.dumps` itself refuses."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(_plain(key)): _spelled(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(one) for one in value]
    if isinstance(value, int) and value.bit_length() > 3 * MAX_DIGITS:
        return float("inf")  # as it is read
    return value


def _plain(value: Any) -> Any:
    """Return a JSON value for an object that JSON has no form for."""
    match value:
        case bytes() | bytearray():
            return value.decode("utf-8", "surrogateescape")  # refused in an identifier, and nowhere else
        case Mapping():
            return dict(value)
        case AbstractSet():
            return sorted(value, key=str)
        case Enum():
            return value.value
        case _:
            return str(value)
