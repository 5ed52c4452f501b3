"""Ingest worker: the loop that reads entries, looks up their objects, applies them to counters and commits.

Each entry has effect exactly once. Entries of a partition are applied in order. apply.lua moves a key's watermark together with its
counters, so a redelivered entry changes nothing. commit.lua moves the partition's position together with counts and dead letters,
and only for the holder of the lease and from the expected position. After any failure in between (a crash, a lost reply, an
unreachable or full store) the batch is read again from the last position, by this worker or the next.

No entry is skipped: while the index or the store is unreachable, entries stay in the stream and the worker waits.
"""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from logging import getLogger
from secrets import token_hex
from statistics import median
from sys import getsizeof
from threading import Event as Flag
from typing import Any

from redis.exceptions import RedisError, ResponseError

from rewriter.bounded import Bounded
from rewriter.errors import Fault, StoreError
from rewriter.signals.commands import Command
from rewriter.signals.events import MAX_EVENT_BYTES
from rewriter.signals.ingest.ailing import Ailing, is_refusal
from rewriter.signals.ingest.apply import apply_changes
from rewriter.signals.ingest.attempts import applied_before
from rewriter.signals.ingest.batch import Batch, Changes, CountingRules, Entry, Members, received_ms
from rewriter.signals.ingest.commit import commit_command, runs
from rewriter.signals.ingest.contract import StreamKeys, partition_count_commands
from rewriter.signals.ingest.dedupe import without_duplicates
from rewriter.signals.ingest.health import Backlog, backlog, find_gap
from rewriter.signals.ingest.leases import Leases
from rewriter.signals.ingest.objects import LookUpFailed, ObjectKey, Objects
from rewriter.signals.ingest.reading import pairs, read_batches
from rewriter.signals.ingest.reuse import Visits, note_uses
from rewriter.signals.ingest.scripts import (
    FIT,
    LETTERS,
    RETRY,
    Engine,
    ran,
    script_command,
    sound_replies,
)
from rewriter.signals.ingest.segment_names import SegmentNames
from rewriter.signals.near_table import read_near
from rewriter.signals.partitions import partition_count
from rewriter.signals.store_failures import described
from rewriter.signals.uses import Controls

IDLE_S = 0.005
BACKOFF_S = 0.5
MAX_BEAT_S = 2.0
MAX_SKEW_S = 5.0
RETRIED_AT_ONCE, MAX_RETRIES = 16, 100
"""Waiting entries that one call moves back to the stream, and the limit of such calls per beat."""

WENT_BACK = (
    "the store went back to an earlier state (a replica that lacked writes was promoted, a copy was put back, keys were deleted):"
    " events that it had acknowledged since may be gone"
)
SAME_WAY_BACK_S = 30.0
"""For how long workers take the latest dead letter for a report of the same loss."""
LEASE_LOST = "the lease of a partition was lost before its batch was applied"

_log = getLogger("rewriter")


class Worker:
    """One worker. Not thread-safe; any number of workers may run, on any machines.

    engine:   the store of streams and sessions.
    profiles: the store of profiles, segments and population, often the same one.
    objects:  looks up objects of which an event has only the id.
    clock_s:  monotonic seconds.
    now_s:    seconds since the epoch; it is only compared with the store's clock, which gives all times.

    trouble:  the error that keeps the worker from going on, "" if there is none.
    backlog:  the backlog at the last beat.
    counts:   entries by fate: counted, duplicate, refused, missing, waiting, no_consent, forgotten, lost.
    """

    def __init__(
        self,
        engine: Engine,
        profiles: Engine,
        objects: Objects,
        plan: CountingRules,
        *,
        clock_s: Callable[[], float],
        now_s: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._profiles = profiles
        self._objects = objects
        self._plan = plan
        self._ingest = plan.settings.ingest
        self._clock_s = clock_s
        self._now_s = now_s
        self._token = token_hex(16)
        self._keys = StreamKeys(plan.settings.store.prefix)
        self._leases = Leases(engine, self._keys, self._token, self._ingest.lease_s)
        self._beat_at_s = float("-inf")
        self._segments = SegmentNames(profiles, self._keys, self._ingest, clock_s)
        self._members: Bounded[ObjectKey, tuple[Mapping[str, Any], Members]] = Bounded(
            max_bytes=self._ingest.objects_bytes // 2,
            max_age_s=self._ingest.object_age_s,
            max_count=self._ingest.max_objects,
        )
        self._ailing = Ailing(self._keys)
        self._controls = Controls[str]()
        self._visits = Visits()
        self._is_skewed = False
        self._event_lags_s: list[float] = []
        self.trouble = ""
        self.counts: Counter[str] = Counter()
        self.partitions = 0
        self._first_partitions = 1
        self.backlog = Backlog(0, (), 0.0)

    @property
    def held(self) -> list[int]:
        """The partitions that this worker holds."""
        return sorted(self._leases.held)

    def run(self, stopping: Flag) -> None:
        """Work until `stopping` is set; then finish the current batch and release the leases."""
        while not stopping.is_set():
            handled = self.step()
            if handled == 0:
                stopping.wait(BACKOFF_S if self.trouble else IDLE_S)
        self.close()

    def step(self) -> int:
        """Run one round, and a beat if it is due; return the number of entries read. Errors are logged once, and 0 is returned."""
        began_s = self._clock_s()
        try:
            if began_s >= self._beat_at_s:
                self.beat()
            handled = self.round()
        except Exception as error:  # noqa: BLE001  an ended worker would leave the entry to the next, until no worker is left
            self._log_trouble(error)
            self._recall()
            self.due()  # a round without partitions goes well; only after a beat does ingest go on
            self._leases.note_round(self._clock_s() - began_s)
            return 0
        if handled and self._leases.note_round(took_s := self._clock_s() - began_s):
            _log.warning(
                "a round took %.1f s: leases last longer than lease_s, so that its batches are not refused", took_s
            )
        if self.trouble:
            _log.warning("ingest goes on")
            self.trouble = ""
        return handled

    def due(self) -> None:
        """Make a beat due in the next step."""
        self._beat_at_s = float("-inf")

    def close(self) -> None:
        """Release the leases, so that another worker need not wait for their expiry."""
        try:
            self._leases.release(self.held)
            sound_replies(self._engine, [("ZREM", self._keys.workers, self._token)])
        except (RedisError, StoreError, OSError) as error:
            _log.warning("the leases could not be released and will expire: %s", described(error))

    def beat(self) -> None:
        """Balance the leases, detect lost entries, move waiting entries back to their streams, publish the heartbeat."""
        self._beat_at_s = self._clock_s() + min(MAX_BEAT_S, self._ingest.lease_s / 3)
        self._refuse_unfit_roles()
        self.partitions = self._partition_count()
        server_s = self._leases.balance(self.partitions)
        self._compare_clocks(server_s)
        self._ailing.retry()
        for number, error in self._leases.unreadable.items():
            self._ailing.pause(number, error)
        self._leases.look_back()
        for number in sorted({*self.held, *self._leases.went_back}):
            try:
                if number in self._leases.went_back:
                    self._report_way_back(number, server_s)
                if number in self._leases.held:
                    self._tend(number)
            except (ResponseError, ValueError) as error:
                self._ailing.pause(number, error)
        self.backlog = backlog(self._engine, self._keys, self.partitions)
        beat = {
            "at": round(self.backlog.at_s, 3),
            "lag": round(self.backlog.lag_s, 3),
            "lags": [round(lag_s, 3) for lag_s in self.backlog.lags_s],
            "event_lag": round(median(self._event_lags_s), 3) if self._event_lags_s else 0.0,
            "backlog": self.backlog.entries,
        }
        self._event_lags_s = []
        sound_replies(self._engine, [("SET", self._keys.heartbeat, json.dumps(beat))])

    def round(self) -> int:
        """Read one batch of each held partition, count it and commit it. Raises LookUpFailed, or the client's exception."""
        batches = read_batches(self._engine, self._plan, self._leases.held, self._ailing)
        if not batches:
            return 0
        readable = [(batch, entry) for batch in batches for entry in batch.readable()]
        fresh, failed = without_duplicates(self._engine, self._keys, readable, self._plan, self._first_partitions)
        for number, error in failed.items():
            self._ailing.pause(number, error)
        batches = [batch for batch in batches if batch.partition not in failed]
        changes = self._changes(fresh)
        if not self._leases.note_unapplied({batch.partition: batch.unapplied for batch in batches if batch.unapplied}):
            raise StoreError(LEASE_LOST)  # nothing was applied; what is still held is read again
        note_uses(self._engine, self._profiles, changes, self._controls, self._visits)
        if self._plan.has_neighbours:
            changes.note_near(partial(read_near, self._profiles, self._plan.keys))
        apply_changes(self._engine, self._profiles, changes, self._plan)
        self._visits.keep_round()
        self._commit(batches)
        return sum(len(batch.entries) for batch in batches)

    def _changes(self, entries: Sequence[tuple[Batch, Entry]]) -> Changes:
        """Return the changes of entries. An entry whose object is not found waits once, and is a dead letter the second time."""
        documents = {id(entry): self._plan.document_in(entry) for _, entry in entries}
        known = self._objects.find({entry.object_key for _, entry in entries if documents[id(entry)] is None})
        changes = Changes(self._plan, self._admitted(entries))
        unapplied = {(number, entry_id) for number, ids in self._leases.unapplied.items() for entry_id in ids}
        gone = [
            (batch, entry)
            for batch, entry in entries
            if documents[id(entry)] is None
            and known.get(entry.object_key) is None
            and (batch.partition, entry.id) not in unapplied
        ]
        applied = applied_before(self._engine, self._profiles, self._plan, gone)
        for batch, entry in entries:
            if (batch.partition, entry.id) in applied:
                batch.counted_as("counted", entry)
                continue
            document = documents[id(entry)] or known.get(entry.object_key)
            if (batch.partition, entry.id) in unapplied:
                document = None
            if document is None and entry.first is None:
                batch.wait(entry)
            elif document is None:
                batch.counted_as("missing", entry, self._objects.fault_of(entry.object_key))
            elif (members := self._members_of(entry, document, is_known=documents[id(entry)] is None)).every:
                batch.counted_as("counted", entry)
                changes.add(batch, entry, members)
            else:
                batch.counted_as(
                    "refused", entry, Fault("event_attributes.object", "has none of the fields that are counted")
                )
            if batch.fates[entry.id] != "counted" and documents[id(entry)] is None:
                batch.unapplied.add(entry.id)
        return changes

    def _members_of(self, entry: Entry, document: Mapping[str, Any], *, is_known: bool) -> Members:
        """Return a document's members. They are cached for looked-up documents, since they take a tenth of a worker's time."""
        if not is_known:
            return Members.of(self._plan.values(document))
        now_s = self._clock_s()
        kept = self._members.get(entry.object_key, now_s)
        if kept is not None and kept[0] is document:
            return kept[1]
        found = Members.of(self._plan.values(document))
        self._members.put(entry.object_key, (document, found), _size(found), now_s)
        return found

    def _admitted(self, entries: Sequence[tuple[Batch, Entry]]) -> frozenset[str]:
        """Return the entries' segments that may have keys; count the refused ones."""
        names = {name for _, entry in entries for name in entry.counted_event.event_attributes.segments}
        if not names:
            return frozenset()
        admitted = self._segments.admitted(names)
        for batch, entry in entries:
            if refused := sum(name not in admitted for name in entry.counted_event.event_attributes.segments):
                batch.beside["segments_refused"] += refused
        return admitted

    def _commit(self, batches: Sequence[Batch]) -> None:
        committed = [run for batch in batches for run in runs(batch)]
        wanted = [self._committed(run) for run in committed]
        cut = [self._cut_letters(batch.partition) for batch in batches if batch.dead]
        out_of_turn = set()
        for run, reply in zip(committed, ran(self._engine, wanted + cut), strict=False):
            if run.partition in self._ailing:
                continue
            if isinstance(reply, Exception):
                self._ailing.pause(run.partition, reply)
                continue
            status, server_ms = reply
            if status == 1:
                self._ailing.recovered(run.partition)
                self._leases.held[run.partition] = run.after
                self.counts += run.counts
                self._event_lags_s += [server_ms / 1000.0 - one.at_s for one in run.entries[:100] if one.event]
            else:  # the lease was lost, and its holder commits; or a run came before its turn
                self._leases.lost(run.partition)
                out_of_turn |= {run.partition} if status < 0 else set()
        if out_of_turn:
            self._leases.recall(out_of_turn)

    def _committed(self, run: Batch) -> Command:
        return commit_command(self._keys, run, self._token, self._leases.lease_ms, self._ingest, self.backlog.lag_s)

    def _cut_letters(self, number: int) -> Command:
        """Return the command that trims a partition's dead letters to its share of `dead_letter_bytes`."""
        most_bytes = max(2 * MAX_EVENT_BYTES, self._ingest.dead_letter_bytes // max(1, self.partitions))
        keys = [self._keys.of_stream(number, part) for part in ("dead", "state")]
        return script_command(LETTERS, keys, [most_bytes, MAX_EVENT_BYTES])

    def _tend(self, number: int) -> None:
        """Renew a lease, move the partition's waiting entries back to the stream, and report entries that the stream lost."""
        keys = self._keys
        retry = script_command(
            RETRY,
            [keys.of_stream(number, "lease"), keys.stream(number), keys.of_stream(number, "waiting")],
            [self._token, self._leases.lease_ms, RETRIED_AT_ONCE],
        )
        (moved,) = sound_replies(self._engine, [retry])
        for _ in range(MAX_RETRIES):
            if moved < RETRIED_AT_ONCE:
                break
            (moved,) = sound_replies(self._engine, [retry])
        if moved < 0:
            self._leases.lost(number)
            return
        if found := find_gap(self._engine, keys, number):
            _log.error("partition %d: %s", number, found.what)
            other = Counter(lost=found.lost, passed=found.passed)
            note = Batch(number, self._leases.held[number], [], other=other, note=found.what)
            sound_replies(self._engine, [self._committed(note)])
            self.counts["lost"] += found.lost

    def _report_way_back(self, number: int, server_s: float) -> None:
        """Report that the store lost writes of a partition: in this worker's log, and in one dead letter for all workers."""
        dead = self._keys.of_stream(number, "dead")
        (latest,) = sound_replies(self._engine, [("XREVRANGE", dead, "+", "-", "COUNT", 1)])
        is_known = any(
            pairs(parts).get(b"reason") == WENT_BACK.encode()
            and server_s - received_ms(entry_id.decode(), None) / 1000 < SAME_WAY_BACK_S
            for entry_id, parts in latest
        )
        if not is_known:
            letter = ("entry", "", "reason", WENT_BACK, "event", "")
            sound_replies(self._engine, [("XADD", dead, "MAXLEN", "~", self._ingest.dead_letters, "*", *letter)])
        _log.error("partition %d: %s", number, WENT_BACK)
        self._leases.went_back.discard(number)

    def _refuse_unfit_roles(self) -> None:
        """Raise NoPermissionError if a role may not run all that applies entries: the second half might be refused."""
        for engine in (self._engine, self._profiles) if self._profiles is not self._engine else (self._engine,):
            sound_replies(engine, [script_command(FIT, [self._keys.partitions], [])])

    def _partition_count(self) -> int:
        *_, found = sound_replies(self._engine, partition_count_commands(self._keys, self._ingest.partitions))
        partitions = partition_count(self._keys.partitions, found)
        if self._profiles is not self._engine:  # searches read it from the population's store
            sound_replies(self._profiles, [("SET", self._keys.partitions, partitions)])
        first = [("SET", self._keys.first_partitions, partitions, "NX"), ("GET", self._keys.first_partitions)]
        *_, first_count = sound_replies(self._engine, first)
        self._first_partitions = partition_count(self._keys.first_partitions, first_count)
        return partitions

    def _compare_clocks(self, server_s: float) -> None:
        """Log once if this machine's clock is wrong: the worker does not use it, but producers on this machine may."""
        off_s = self._now_s() - server_s
        if abs(off_s) > MAX_SKEW_S and not self._is_skewed:
            _log.warning(
                "this machine's clock is %.0f s %s the store's", abs(off_s), "ahead of" if off_s > 0 else "behind"
            )
        self._is_skewed = abs(off_s) > MAX_SKEW_S

    def _log_trouble(self, error: Exception) -> None:
        match error:
            case LookUpFailed():
                what = f"{error}; events wait"
            case _ if is_refusal(error):
                what = f"the store refuses a command, events wait: {described(error)}"
            case RedisError() | StoreError() | OSError():
                what = f"the store fails, events wait: {described(error)}"
            case _:  # its message may quote an event
                where = traceback.extract_tb(error.__traceback__)[-1]
                what = (
                    f"an error in the worker, events wait: {type(error).__name__} in {where.name}, line {where.lineno}"
                )
        if what != self.trouble:
            _log.error("%s", what)
            self.trouble = what

    def _recall(self) -> None:
        try:
            self._leases.recall()
        except (RedisError, StoreError, OSError):
            self._leases.drop_all()  # this worker or another takes them once the store is back


def _size(found: Members) -> int:
    """Return the bytes of memory that cached members take."""
    return 500 + 16 * len(found.every) + sum(map(getsizeof, found.every))
