"""Hold of a backfill on a store: a pause of all workers, and the leases of all partitions, until it is released.

A thread renews both. `check`, before each write, raises if they were lost, so that a process that was stopped for longer than they
last does not write.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from secrets import token_hex
from threading import Event as Flag
from threading import Thread

from redis.exceptions import RedisError

from rewriter.errors import StoreError
from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.leases import Leases
from rewriter.signals.ingest.scripts import RELEASE, ran, script_command, sound_replies
from rewriter.signals.partitions import partition_count
from rewriter.signals.redis_store import RedisStore

POLL_S = 0.1
PATIENCE_S = 10.0
ANOTHER = (
    "another backfill is under way, or was killed less than half a minute ago; nothing was written: run it again then"
)
UNPAUSED = "a worker does not pause: it may be of an older version; nothing was written"
LOST = "the lease of a partition was lost meanwhile, and workers may count again: run it again"


class Hold:
    """The hold of one backfill. After `take`, `release` must be called in any case.

    lasts_s: seconds for which pause and leases outlive this process.
    """

    def __init__(self, store: RedisStore, keys: StreamKeys, partitions: int, lasts_s: float) -> None:
        self._store = store
        self._keys = keys
        self._partitions = partitions
        self._lasts_s = lasts_s
        self._token = token_hex(16)
        self._leases = Leases(store, keys, self._token, lasts_s)
        self._until_s = 0.0
        self._is_lost = False
        self._released = Flag()
        self._thread = Thread(target=self._keep, name="rewriter-backfill-hold", daemon=True)

    @property
    def positions(self) -> Mapping[int, str]:
        """The position of each held partition: all entries up to it were counted."""
        return self._leases.held

    def take(self, lease_s: float) -> None:
        """Take every partition; workers' leases last `lease_s` seconds.

        Raises StoreError if a worker or another backfill does not release one. Of two that begin at once, the one that set the
        pause last goes on; the other one gives back what it has, since each would wait for the other.
        """
        late_at_s = time.monotonic() + max(2 * lease_s, self._lasts_s) + PATIENCE_S
        while True:
            is_others = self._is_others()
            if is_others:
                self._leases.release(sorted(self._leases.held))
            else:
                self._renew()
                self._leases.take_all(self._partitions)
            if len(self._leases.held) == self._partitions:
                self._refuse_more()
                self._thread.start()
                return
            for number, error in self._leases.unreadable.items():
                self.release()
                raise StoreError(f"the position of partition {number} cannot be read: {error}; nothing was written")
            if time.monotonic() >= late_at_s:
                self.release()
                raise StoreError(ANOTHER if is_others else UNPAUSED)
            time.sleep(POLL_S)

    def _is_others(self) -> bool:
        """Whether another backfill pauses the workers. A key of another kind, or one that does not expire, is nobody's."""
        found, left_ms = ran(self._store, [("GET", self._keys.pause), ("PTTL", self._keys.pause)])
        for reply in (found, left_ms):
            if isinstance(reply, Exception) and not is_of_one(reply):
                raise reply
        return isinstance(found, bytes) and found != self._token.encode() and isinstance(left_ms, int) and left_ms > 0

    def _refuse_more(self) -> None:
        """Raise StoreError if there are other partitions by now: what was counted from them would be lost with the profiles.

        A worker reads their number before the pause, and the pause was set before: no worker takes further ones.
        """
        (found,) = sound_replies(self._store, [("GET", self._keys.partitions)])
        partitions = self._partitions if found is None else partition_count(self._keys.partitions, found)
        if partitions != self._partitions:
            self.release()
            what = f"{self._keys.partitions} was changed from {self._partitions} to {partitions} meanwhile"
            raise StoreError(f"{what}; nothing was written: run it again")

    def check(self) -> None:
        """Raise StoreError if the hold was lost, or could not be renewed in time."""
        if not self._is_lost and time.monotonic() >= self._until_s:
            self._renew()
        if self._is_lost:
            raise StoreError(LOST)

    def release(self) -> None:
        """Release the leases and end the pause, so that workers go on."""
        self._released.set()
        if self._thread.is_alive():
            self._thread.join()
        self._leases.release(sorted(self._leases.held))
        ran(self._store, [script_command(RELEASE, [self._keys.pause], [self._token])])  # it may be another backfill's

    def _keep(self) -> None:
        while not self._released.wait(self._lasts_s / 5):
            try:
                self._renew()
            except (RedisError, StoreError, OSError):
                continue  # it is retried; `check` raises once the hold is lost
            if self._is_lost:
                return

    def _renew(self) -> None:
        """Renew pause and leases. Their duration is counted from before the commands were sent, by this machine's clock."""
        sent_s = time.monotonic()
        if not self._leases.renewed():
            self._is_lost = True
            return
        sound_replies(self._store, [("SET", self._keys.pause, self._token, "PX", int(self._lasts_s * 1000))])
        self._until_s = sent_s + 0.8 * self._lasts_s
