"""Dead letters: entries that could not be counted, with the reason, and their replay into the stream.

A replayed letter is a new entry with the id of the original one, so that it is no duplicate of itself, and does not wait for its
object again. The server moves it in one step: after any failure a letter is either still a dead letter or in the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import ResponseError

from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.batch import ENTRY_ID, PARTLY_COUNTED
from rewriter.signals.ingest.commit import kind_of
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.scripts import REQUEUE, Engine, ran, script_command, sound_replies, with_key
from rewriter.signals.partitions import partition_count

READ_AT_ONCE = 100
LEFT_OUT = ("lost", "letters_dropped", "segments_refused")
"""Counters of a partition's state that no dead letter stands for."""
LATEST_MS = 253_402_300_799_000
"""The end of the year 9999: an id may lie behind it, a date may not."""
MOVED_AT_ONCE = 50
"""Letters per command. Each may have 64 KiB, and the server moves all of one command in one step."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter. `entry` is the id of the original entry, "" for a message about the partition itself."""

    partition: int
    id: str
    entry: str
    reason: str
    event: bytes

    @property
    def at(self) -> str:
        """The time at which it was written, ISO 8601 in UTC."""
        ms = min(int(self.id.partition("-")[0]), LATEST_MS)
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def kind(self) -> str:
        """Its reason without numbers, by which letters are grouped."""
        return kind_of(self.reason)

    @property
    def can_be_replayed(self) -> bool:
        """Whether it has an entry of which no part was counted."""
        return bool(ENTRY_ID.fullmatch(self.entry.encode())) and bool(self.event) and PARTLY_COUNTED not in self.reason


def partitions_of(engine: Engine, keys: StreamKeys) -> int:
    """Return the number of partitions, 0 before the first producer or worker. Raises the client's exception, or StoreError."""
    (found,) = sound_replies(engine, [("GET", keys.partitions)])
    return 0 if found is None else partition_count(keys.partitions, found)


def dead_letter_counts(engine: Engine, keys: StreamKeys, unreadable: list[str]) -> dict[int, int]:
    """Return the number of letters by partition, for partitions that have some. Faults of partitions go to `unreadable`."""
    found = {}
    looks = [("XLEN", keys.of_stream(number, "dead")) for number in range(partitions_of(engine, keys))]
    for number, (look, reply) in enumerate(zip(looks, ran(engine, looks), strict=True)):
        with of_one_partition(unreadable):
            if isinstance(reply, Exception):
                raise with_key(look, reply)
            if reply:
                found[number] = reply
    return found


def left_out(engine: Engine, keys: StreamKeys) -> dict[str, int]:
    """Return the sum of each counter of `LEFT_OUT` over all partitions, without zeros. What is no number counts nothing."""
    states = [keys.of_stream(number, "state") for number in range(partitions_of(engine, keys))]
    sums: Counter[str] = Counter()
    for reply in ran(engine, [("HMGET", state, *LEFT_OUT) for state in states]):
        if not isinstance(reply, Exception):
            sums.update(
                {name: int(text) for name, text in zip(LEFT_OUT, reply, strict=True) if (text or b"").isdigit()}
            )
    return +sums


def dead_letters(engine: Engine, keys: StreamKeys, unreadable: list[str]) -> Iterator[DeadLetter]:
    """Yield the present letters, the oldest of each partition first; letters written meanwhile are left out.

    Faults of partitions whose letters cannot be read, since another kind of key stands there, go to `unreadable`.
    """
    for number in range(partitions_of(engine, keys)):
        stream = keys.of_stream(number, "dead")
        last: list[Any] = []
        with of_one_partition(unreadable):
            (last,) = sound_replies(engine, [("XREVRANGE", stream, "+", "-", "COUNT", 1)])
        after = "-"
        while last:
            (entries,) = sound_replies(engine, [("XRANGE", stream, after, last[0][0], "COUNT", READ_AT_ONCE)])
            for letter_id, parts in entries:
                yield _letter(number, letter_id, parts)
            if len(entries) < READ_AT_ONCE:
                break
            after = f"({entries[-1][0].decode()}"


@contextmanager
def of_one_partition(faults: list[str]) -> Iterator[None]:
    """Note an error about the content of a partition's key in `faults`, so that the other partitions go on."""
    try:
        yield
    except ResponseError as error:
        if not is_of_one(error):
            raise
        faults.append(str(error))


def requeue(engine: Engine, keys: StreamKeys, letters: Iterable[DeadLetter]) -> int:
    """Move letters back into their streams; return how many were moved. Raises the client's exception; it may be called again."""
    moved = 0
    batch: list[DeadLetter] = []
    for letter in letters:
        if batch and (batch[0].partition != letter.partition or len(batch) == MOVED_AT_ONCE):
            moved += _moved(engine, keys, batch)
            batch = []
        batch.append(letter)
    return moved + (_moved(engine, keys, batch) if batch else 0)


def _moved(engine: Engine, keys: StreamKeys, batch: list[DeadLetter]) -> int:
    number = batch[0].partition
    arguments = [part for letter in batch for part in (letter.id, letter.entry)]
    wanted = script_command(REQUEUE, [keys.of_stream(number, "dead"), keys.stream(number)], arguments)
    (moved,) = sound_replies(engine, [wanted])
    return int(moved)


def _letter(number: int, letter_id: bytes, parts: Any) -> DeadLetter:
    pairs = parts if isinstance(parts, dict) else dict(zip(parts[::2], parts[1::2], strict=True))
    entry, reason = (pairs.get(name, b"").decode("utf-8", "replace") for name in (b"entry", b"reason"))
    return DeadLetter(number, letter_id.decode(), entry, reason, pairs.get(b"event", b""))
