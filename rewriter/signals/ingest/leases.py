"""Which worker holds which partition.

A lease is a key that expires. Whoever holds it reads the partition, and renews it with every batch. It makes work efficient, not
right: a holder that stalls, loses its lease and comes back finds its batch refused by commit.lua, and what it may have applied
meanwhile was either applied before (the watermark says so) or will not be applied again.

Each worker takes its fair share: the partitions divided by the workers seen lately. One that holds more gives the rest back.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.contract import STREAM_START, StreamKeys
from rewriter.signals.ingest.scripts import ENROLL, RELEASE, RENEW, Engine, ran, script_command, sound_replies


class Leases:
    """The partitions of one worker. `held` gives the position in each: the last entry that was settled.

    `unreadable` are those that were free when `balance` last looked, and whose position cannot be read.
    """

    def __init__(self, engine: Engine, keys: StreamKeys, token: str, lease_s: float) -> None:
        self._engine = engine
        self._keys = keys
        self._token = token
        self._lease_s = lease_s
        self.held: dict[int, str] = {}
        self.unreadable: dict[int, Exception] = {}

    @property
    def lease_ms(self) -> int:
        """How long a lease lasts without being renewed."""
        return int(self._lease_s * 1000)

    def balance(self, partitions: int) -> float:
        """Announce this worker; take partitions that are free, up to the fair share, and give back what is more.

        A pause ends by itself; a key that does not is none. Returns the server's time in seconds since the epoch: who is alive is
        judged by it.
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
        """Give partitions back."""
        for number in partitions:
            self.held.pop(number, None)
        sound_replies(
            self._engine,
            [script_command(RELEASE, [self._keys.of_stream(number, "lease")], [self._token]) for number in partitions],
        )

    def take_all(self, partitions: int) -> None:
        """Take every partition that is free."""
        self._take(partitions, partitions)

    def renewed(self) -> bool:
        """Renew every lease that is held; say whether none was lost meanwhile."""
        wanted = [
            script_command(RENEW, [self._keys.of_stream(number, "lease")], [self._token, self.lease_ms])
            for number in self.held
        ]
        return all(sound_replies(self._engine, wanted))

    def lost(self, partition: int) -> None:
        """Note that a partition is another's now."""
        self.held.pop(partition, None)

    def recall(self, partitions: Iterable[int] | None = None) -> None:
        """Read positions again, by default all, after a reply was lost that may have moved them; drop what is no longer ours."""
        numbers = sorted(set(self.held if partitions is None else partitions))
        for number in numbers:
            self.lost(number)
        self._note([number for number in numbers if self._holder(number) == self._token])

    def _take(self, share: int, partitions: int) -> None:
        """Begin at another place than other workers do, so that they do not ask for the same ones."""
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
        """Read positions, which only counts once the lease is held."""
        wanted = [("HGET", self._keys.of_stream(number, "state"), "position") for number in partitions]
        for number, position in zip(partitions, ran(self._engine, wanted), strict=True):
            if is_of_one(position):
                self.unreadable[number] = position
            elif isinstance(position, Exception):
                raise position
            else:
                self.held[number] = position.decode("utf-8", "replace") if position else STREAM_START

    def _holder(self, partition: int) -> str | None:
        (token,) = sound_replies(self._engine, [("GET", self._keys.of_stream(partition, "lease"))])
        return token.decode() if token else None
