"""Leases: the assignment of partitions to workers, by keys that expire.

The holder of a lease reads the partition and renews the lease with every batch. Leases avoid double work; correctness does not
depend on them. A holder that stalls and loses its lease has its batch refused by commit.lua; the watermarks of the keys ensure that
no entry is applied twice.

Each worker takes its fair share, the partitions divided by the live workers, and releases those beyond it.

A lease must outlast the round that began with it, or the round's batches are refused, and so are the next ones: a worker on a
machine that is too busy, or whose store or index is slow, would count nothing for ever. So leases last `ROUNDS` of the longest
recent round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from math import ceil

from rewriter.signals.commands import Command
from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.contract import STREAM_START, StreamKeys
from rewriter.signals.ingest.scripts import (
    ENROLL,
    RELEASE,
    RENEW,
    UNAPPLIED,
    Engine,
    ran,
    script_command,
    sound_replies,
)

ROUNDS = 3
"""How many rounds a lease outlasts."""
MAX_LEASE_S = 30.0
"""The longest lease that slow rounds ask for: as long as a backfill waits for one."""
FADING = 0.9
"""What each round leaves of the longest one, so that leases become short again."""


class Leases:
    """The leases of one worker.

    held:       the position of each held partition: the id of its last committed entry.
    unapplied:  the entries beyond a position that a batch which may not have been committed did not apply, though it applied later
                ones. Their objects may be known by now; but the watermarks of their keys have passed them, so they are decided as
                they were.
    went_back:  partitions of which the store has lost what this worker saw, until the worker has reported it.
    unreadable: partitions that were free at the last `balance` and whose position cannot be read, with the exception.
    """

    def __init__(self, engine: Engine, keys: StreamKeys, token: str, lease_s: float) -> None:
        self._engine = engine
        self._keys = keys
        self._token = token
        self._lease_s = lease_s
        self._longest_s = 0.0
        self.held: dict[int, str] = {}
        self.unapplied: dict[int, frozenset[str]] = {}
        self.unreadable: dict[int, Exception] = {}
        self.went_back: set[int] = set()
        self._seen: dict[int, str] = {}

    @property
    def lease_ms(self) -> int:
        """The time to live of a lease in milliseconds."""
        return int(max(self._lease_s, min(MAX_LEASE_S, ROUNDS * self._longest_s)) * 1000)

    def note_round(self, took_s: float) -> bool:
        """Note how long a round took, with the beat before it; return whether leases last longer than `lease_s` from now on."""
        before_ms = self.lease_ms
        self._longest_s = max(took_s, FADING * self._longest_s)
        return before_ms <= int(self._lease_s * 1000) < self.lease_ms

    def balance(self, partitions: int) -> float:
        """Register this worker, take free partitions up to the fair share, and release those beyond it.

        A pause key without an expiry is ignored. Returns the server's time (seconds since the epoch), by which workers count as
        live.
        """
        enroll = script_command(ENROLL, [self._keys.workers], [self._token, repr(self._lease_s)])
        (alive, server_ms), pause_ms = sound_replies(self._engine, [enroll, ("PTTL", self._keys.pause)])
        share = 0 if pause_ms > 0 else ceil(partitions / max(1, alive))
        self.release(sorted(self.held)[share:])
        self.unreadable = {}
        if len(self.held) < share:
            self._take(share, partitions)
        return float(server_ms) / 1000.0

    def release(self, partitions: list[int]) -> None:
        """Release the leases of partitions."""
        for number in partitions:
            self._drop(number)
        sound_replies(
            self._engine,
            [script_command(RELEASE, [self._keys.of_stream(number, "lease")], [self._token]) for number in partitions],
        )

    def take_all(self, partitions: int) -> None:
        """Take the leases of all free partitions."""
        self._take(partitions, partitions)

    def renewed(self) -> bool:
        """Renew every held lease; return False if one was lost."""
        wanted = [
            script_command(RENEW, [self._keys.of_stream(number, "lease")], [self._token, self.lease_ms])
            for number in self.held
        ]
        return all(sound_replies(self._engine, wanted))

    def lost(self, partition: int) -> None:
        """Drop a partition whose lease was lost."""
        self._drop(partition)

    def drop_all(self) -> None:
        """Drop all partitions, which this worker or another takes later."""
        for number in list(self.held):
            self._drop(number)

    def look_back(self) -> None:
        """Note in `went_back` the partitions of which the store has lost what this worker saw.

        Another worker may have taken such a partition, and have read later entries. But the entry at the position that was seen is
        gone from the stream then, while earlier ones are there: a trim removes these first. Somebody may have deleted that entry
        alone; it is noted once.
        """
        seen = sorted((number, position) for number, position in self._seen.items() if position != STREAM_START)
        wanted: list[Command] = []
        for number, position in seen:
            stream = self._keys.stream(number)
            wanted += [
                ("HGET", self._keys.of_stream(number, "state"), "position"),
                ("XRANGE", stream, position, position),
                ("XRANGE", stream, "-", position, "COUNT", 1),
            ]
        replies = iter(ran(self._engine, wanted))
        for (number, position), now, own, earlier in zip(seen, replies, replies, replies, strict=True):
            if error := next((one for one in (now, own, earlier) if isinstance(one, Exception)), None):
                if not is_of_one(error):
                    raise error
                continue
            current = now.decode("utf-8", "replace") if now else STREAM_START
            is_gone = bool(earlier and not own)
            if order(current) < order(position) or is_gone:
                self.went_back.add(number)
            if number in self.held:
                del self._seen[number]  # `held` is later than it from now on
            else:
                self._seen[number] = STREAM_START if is_gone and current == position else current

    def recall(self, partitions: Iterable[int] | None = None) -> None:
        """Read positions again, by default all, after a lost reply may have moved them; drop partitions whose lease was lost."""
        numbers = sorted(set(self.held if partitions is None else partitions))
        for number in numbers:
            self.lost(number)
        self._note([number for number in numbers if self._holder(number) == self._token])

    def note_unapplied(self, wanted: Mapping[int, AbstractSet[str]]) -> bool:
        """Note the entries that a batch does not apply, before it applies later ones; return False if a lease was lost.

        Those beyond the position that an earlier attempt noted stay noted: this batch may be smaller.
        """
        fresh = {}
        for number, ids in wanted.items():
            noted, position = self.unapplied.get(number, frozenset()), order(self.held.get(number, STREAM_START))
            if not ids <= noted:
                fresh[number] = ids | {one for one in noted if order(one) > position}
        commands = [
            script_command(
                UNAPPLIED,
                [self._keys.of_stream(number, part) for part in ("lease", "state")],
                [self._token, " ".join(sorted(ids))],
            )
            for number, ids in fresh.items()
        ]
        are_held = True
        for (number, ids), is_held in zip(fresh.items(), sound_replies(self._engine, commands), strict=True):
            if is_held:
                self.unapplied[number] = frozenset(ids)
            else:
                self.lost(number)
                are_held = False
        return are_held

    def _take(self, share: int, partitions: int) -> None:
        """Take free partitions, beginning at an offset of this worker's own, so that workers do not compete for the same ones."""
        offset = int(self._token[:4], 16) % partitions
        free = [number for at in range(partitions) if (number := (at + offset) % partitions) not in self.held]
        for number in free:
            if len(self.held) >= share:
                break
            lease = self._keys.of_stream(number, "lease")
            (got,) = sound_replies(self._engine, [("SET", lease, self._token, "NX", "PX", self.lease_ms)])
            if got:
                self._note([number])

    def _note(self, partitions: list[int]) -> None:
        """Read the positions of leased partitions; a position is only stable while the lease is held."""
        wanted = [("HMGET", self._keys.of_stream(number, "state"), "position", "unapplied") for number in partitions]
        for number, reply in zip(partitions, ran(self._engine, wanted), strict=True):
            if is_of_one(reply):
                self.unreadable[number] = reply
            elif isinstance(reply, Exception):
                raise reply
            else:
                position, unapplied = [one.decode("utf-8", "replace") if one else "" for one in reply]
                self.held[number] = position = position or STREAM_START
                if order(position) < order(self._seen.get(number, STREAM_START)):
                    self.went_back.add(number)
                self.unapplied[number] = frozenset(unapplied.split())

    def _drop(self, partition: int) -> None:
        """Drop a partition; what this worker saw of it is kept, since a position never moves back but where the store did."""
        if (position := self.held.pop(partition, None)) is not None:
            self._seen[partition] = position

    def _holder(self, partition: int) -> str | None:
        (token,) = sound_replies(self._engine, [("GET", self._keys.of_stream(partition, "lease"))])
        return token.decode() if token else None


def order(position: str) -> tuple[int, int]:
    """Return an entry's id as numbers; one that is none comes first."""
    ms, _, sequence = position.partition("-")
    return (int(ms), int(sequence)) if ms.isdecimal() and sequence.isdecimal() else (0, 0)
