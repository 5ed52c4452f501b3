"""`track`: events from the shop's own process into the streams, without making anybody wait.

`track` reads the event, puts it into a bounded buffer and returns; a thread or task appends what is there, many at once. While the
store is away or full, events stay and are tried again; once the buffer is full, what comes is dropped and counted. *Accepted*
counts what the store acknowledged. Every event gets an `event_id`, so that one whose acknowledgement was lost, and that is sent
again, counts once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import islice
from logging import getLogger
from threading import Condition, Thread
from typing import Any
from uuid import uuid4

from rewriter.errors import Fault
from rewriter.settings import Settings
from rewriter.signals.commands import Command
from rewriter.signals.events import MAX_EVENT_BYTES, Event, parse
from rewriter.signals.ingest.contract import StreamKeys, append_command, partition_count_commands
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore

AT_ONCE = 500
RETRY_S = 0.5
CLOSE_S = 2.0
PARTITIONS_PERIOD_S = 30.0

_log = getLogger("rewriter")


class Outbox:
    """The events that are not acknowledged yet, oldest first. One thread or task takes, any may put.

    `counts`: accepted, dropped, refused, no_consent.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = StreamKeys(settings.store.prefix)
        self._wanted_partitions = settings.ingest.partitions
        self._room = settings.ingest.track_buffer
        self._waiting: deque[tuple[Event, bytes]] = deque()
        self._partitions = 0
        self._ask_at_s = float("-inf")
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Any) -> bool:
        """Take an event in; False where it is none, lacks consent, or finds no room. Raises nothing."""
        found = parse(event) if isinstance(event, Mapping) else Fault("event", "is no mapping")
        if isinstance(found, Fault):
            return self._not("refused", found)
        if not found.consent:
            return self._not("no_consent")
        if len(self._waiting) >= self._room:
            return self._not("dropped")
        try:
            raw = json.dumps({**event, "event_id": found.event_id or str(uuid4())}, default=str).encode()
        except (TypeError, ValueError, RecursionError):
            return self._not("refused", Fault("event", "is not JSON"))
        if len(raw) > MAX_EVENT_BYTES:
            return self._not("refused", Fault("event", f"has {len(raw):,} bytes, and may have {MAX_EVENT_BYTES:,}"))
        self._waiting.append((found, raw))
        return True

    def commands(self, now_s: float) -> list[Command]:
        """Return what appends the oldest events; the first two ask for the number of partitions where that is due."""
        ask = partition_count_commands(self._keys, self._wanted_partitions) if now_s >= self._ask_at_s else []
        if not self._partitions:
            return ask  # where events go is not known before the answer
        return ask + [
            append_command(self._keys, event, raw, self._partitions) for event, raw in islice(self._waiting, AT_ONCE)
        ]

    def acknowledged(self, replies: Sequence[Any], now_s: float) -> bool:
        """Take the replies in; what was refused stays. Returns whether all went well."""
        rest, failed = list(replies), any(isinstance(reply, Exception) for reply in replies)
        if now_s >= self._ask_at_s:
            count, rest = rest[1], rest[2:]
            if isinstance(count, Exception) or count is None:
                return False
            self._partitions, self._ask_at_s = int(count), now_s + PARTITIONS_PERIOD_S
        tried = [self._waiting.popleft() for _ in rest]
        again = [one for one, reply in zip(tried, rest, strict=True) if isinstance(reply, Exception)]
        self._waiting.extendleft(reversed(again))
        self.counts["accepted"] += len(tried) - len(again)
        return not failed

    def drop(self) -> None:
        """Give up what waits."""
        if self._waiting:
            _log.warning("%d events were dropped: the store did not take them", len(self._waiting))
        self.counts["dropped"] += len(self._waiting)
        self._waiting.clear()

    def _not(self, why: str, fault: Fault | None = None) -> bool:
        self.counts[why] += 1
        if self.counts[why] == 1:  # told once; the count tells the rest
            _log.warning("an event was not tracked: %s", fault or why)
        return False


class Tracker:
    """Appends from a daemon thread, which begins with the first event."""

    def __init__(self, store: RedisStore, settings: Settings) -> None:
        self._store = store
        self._outbox = Outbox(settings)
        self._changed = Condition()
        self._thread: Thread | None = None
        self._closed = False

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of the events, and how many wait."""
        return {**self._outbox.counts, "waiting": len(self._outbox)}

    def track(self, event: Mapping[str, Any]) -> bool:
        """See Outbox.put."""
        with self._changed:
            if self._closed or not self._outbox.put(event):
                return False
            if self._thread is None:
                self._thread = Thread(target=self._work, name="rewriter-track", daemon=True)
                self._thread.start()
            self._changed.notify()
        return True

    def close(self) -> None:
        """Send what waits, within two seconds; the rest is dropped and counted."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        give_up_s: float | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._outbox) or self._closed)
                if self._closed:
                    give_up_s = give_up_s or time.monotonic() + CLOSE_S
                    if not len(self._outbox):
                        return
                wanted = self._outbox.commands(now_s := time.monotonic())
            try:
                replies = self._store.run(wanted)
            except Exception:  # noqa: BLE001  whatever keeps the store from answering, the events stay
                replies = None
            with self._changed:
                went_well = replies is not None and self._outbox.acknowledged(replies, now_s)
                if went_well:
                    continue
                if give_up_s is not None and time.monotonic() >= give_up_s:
                    self._outbox.drop()
                    return
                if self._closed:
                    self._changed.wait(RETRY_S / 5)
                else:  # new events are no reason to try sooner
                    self._changed.wait_for(lambda: self._closed, RETRY_S)


class AsyncTracker:
    """Appends from a task, which begins with the first event."""

    def __init__(self, store: AsyncRedisStore, settings: Settings) -> None:
        self._store = store
        self._outbox = Outbox(settings)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of the events, and how many wait."""
        return {**self._outbox.counts, "waiting": len(self._outbox)}

    def track(self, event: Mapping[str, Any]) -> bool:
        """See Outbox.put."""
        if self._closed or not self._outbox.put(event):
            return False
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return True

    async def close(self) -> None:
        """Send what waits, within two seconds; the rest is dropped and counted."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_S)
            self._task.cancel()
        self._outbox.drop()

    async def _work(self) -> None:
        while len(self._outbox):
            wanted = self._outbox.commands(now_s := time.monotonic())
            try:
                went_well = self._outbox.acknowledged(await self._store.run(wanted), now_s)
            except Exception:  # noqa: BLE001  whatever keeps the store from answering, the events stay
                went_well = False
            if not went_well:
                await asyncio.sleep(RETRY_S)
