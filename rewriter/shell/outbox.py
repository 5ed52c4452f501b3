"""The events that `track` took and that the store has not acknowledged: a queue for each partition, bounded in events and bytes.

What one partition refuses (its node is away, its stream is no stream) waits in its own queue and delays nobody else: a partition
that failed is sent alone, after a pause that doubles, in a fifth of the time at most; all others are sent together. It may fill as
much of the buffer as is still free, so one that refuses takes half of it and leaves the rest to the others. An event stays in the
queue that it was put into when `rw:partitions` grows: sent again elsewhere, it would not be recognized as the same.

One thread or task sends, any may put; whoever owns the outbox guards it.
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
from rewriter.settings import Settings
from rewriter.signals.absent import is_absent_id
from rewriter.signals.commands import Command
from rewriter.signals.events import MAX_DIGITS, MAX_EVENT_BYTES, parse
from rewriter.signals.ingest.contract import (
    StreamKeys,
    append_many_command,
    partition_count,
    partition_count_commands,
    partition_of,
)

AT_ONCE = 500
AT_ONCE_BYTES = 2**20
RETRY_S = 0.5
MAX_RETRY_S = 4.0
REST = 4.0
"""How many times as long as a failed attempt took no partition that failed is tried: the others have four fifths of the time."""
PARTITIONS_PERIOD_S = 30.0
SUBJECTS = 2**32
"""An event's partition among so many is the hash itself, of which any lower number's partition is the remainder."""
OVERHEAD_BYTES = 128
"""What an event takes in memory beside its JSON."""

_log = getLogger("rewriter")


@dataclass(slots=True)
class _Queue:
    """What waits for one partition: `events` of `size` bytes, those that are being sent included.

    failures: in a row; 0 where the last attempt went well. suspect: it was sent together with others, and one of them failed all.
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
    """What is sent at once: a command for each partition of `events`, or, without any, the question how many there are."""

    commands: Sequence[Command]
    events: Mapping[int, Sequence[bytes]]
    began_s: float


class Outbox:
    """See the module. `counts`: accepted, dropped, refused, no_weight, no_consent. Times are monotonic seconds."""

    def __init__(self, settings: Settings) -> None:
        self._keys = StreamKeys(settings.store.prefix)
        self._wanted_partitions = settings.ingest.partitions
        self._weights = settings.signals.action_weights
        self._room, self._room_bytes = settings.ingest.track_buffer, settings.ingest.track_buffer_bytes
        self._unplaced: deque[tuple[int, bytes]] = deque()  # while the number of partitions is not known
        self._queues: dict[int, _Queue] = {}
        self._partitions = 0
        self._partition_count_read = _Queue()  # for the number of partitions: when to ask, and how often that failed
        self._alone_from_s = float("-inf")
        self._turn = 0
        self._said = ""
        self._events = self._bytes = 0
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many events wait, those that are being sent included."""
        return self._events

    def put(self, event: Any) -> bool:
        """Take an event in; False where it is none, lacks consent or a weight, or finds no room. Raises nothing."""
        try:
            return self._put(event)
        except Exception as error:  # noqa: BLE001  a mapping may raise whatever it likes
            return self._not("refused", Fault("event", f"cannot be read: {type(error).__name__}"))

    def _put(self, event: Any) -> bool:
        """Read what is sent, as workers will: what is given may differ (bytes, mappings that are no dicts)."""
        if not isinstance(event, Mapping):
            return self._not("refused", Fault("event", "is no mapping"))
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
        if not self._place(partition_of(found, SUBJECTS), raw):
            return self._not("dropped", Fault("event", "finds no room: the store does not take what waits"))
        return True

    def _place(self, subject: int, raw: bytes) -> bool:
        size = len(raw) + OVERHEAD_BYTES
        events, free_bytes = self._room - self._events, self._room_bytes - self._bytes
        if not self._partitions:
            if events < 1 or free_bytes < size:
                return False
            self._unplaced.append((subject, raw))
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
        """Return what is to be sent now, or None. Each is to be given back to `finish` before the next is taken."""
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
        """Return after how many seconds there may be something to send; None where nothing waits."""
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
        """Take the replies to a shipment in, None where there are none; what was not acknowledged stays."""
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
            self._alone_from_s = now_s + REST * (now_s - shipment.began_s)
        if succeeded and was_away:  # the store is back
            self._hurry(now_s)

    def _finish_count(self, replies: Sequence[Any] | None, now_s: float) -> None:
        try:
            found = partition_count(self._keys.partitions, replies[1]) if replies else 0
        except StoreError as error:
            found = 0
            if str(error) != self._said:
                self._said = str(error)
                _log.error("events wait: %s", error)
        if not found:
            self._partition_count_read.failed(now_s)
            if self._partitions:  # a number that was good stays in use
                self._partition_count_read.due_s = now_s + PARTITIONS_PERIOD_S
            return
        self._partitions, self._said = found, ""
        self._partition_count_read.failures, self._partition_count_read.due_s = 0, now_s + PARTITIONS_PERIOD_S
        while self._unplaced:
            subject, raw = self._unplaced.popleft()
            self._enqueue(self._queues.setdefault(subject % self._partitions, _Queue()), raw)

    def _acknowledge(self, queue: _Queue, events: int, raw_bytes: int) -> None:
        size = raw_bytes + events * OVERHEAD_BYTES
        queue.events, queue.size = queue.events - events, queue.size - size
        self._events, self._bytes = self._events - events, self._bytes - size
        self.counts["accepted"] += events

    def hurry(self) -> None:
        """Try everything again at once: there is not much time left."""
        self._hurry(float("-inf"))
        self._alone_from_s = float("-inf")
        if not self._partitions:
            self._partition_count_read.due_s = float("-inf")

    def _hurry(self, now_s: float) -> None:
        for queue in self._queues.values():
            queue.due_s = min(queue.due_s, now_s)

    def drop(self) -> None:
        """Give up what waits."""
        if self._events:
            _log.warning("%d events were dropped: the store did not take them", self._events)
            self.counts["dropped"] += self._events
        self._unplaced.clear()
        self._queues.clear()
        self._events = self._bytes = 0

    def _not(self, why: str, fault: Fault | None = None) -> bool:
        self.counts[why] += 1
        if self.counts[why] == 1:  # logged once; the count says the rest
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
    """Spell for JSON what it has no spelling for."""
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
