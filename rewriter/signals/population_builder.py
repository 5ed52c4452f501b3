"""Builder of the two packed values, population and segments, that every searching process reads (`population_reader`).

One process builds them, the holder of a lease in the store: an ingest worker if one runs, else a searching process. A worker takes
the lease over from a searching process; no process takes it from a worker. The lease lasts for three look-ups, after which another
process takes over from a holder that ended. Two builders at once only waste time, since both compute the same values.

Unchanged values are not built again. After a change the population is rebuilt after `MADE_EVERY_S`, or at once if its events grew
by a tenth (a young installation, a backfill). Each segment is read at the same interval; if that fails, its last counters stay.

Pure except for the given engine, which runs commands on a thread, and `wait`, which pauses between slices of work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Literal, TypeVar

from rewriter.errors import StoreError
from rewriter.signals.commands import MAX_TEXT_BYTES, text_command, text_in
from rewriter.signals.counters import Counters, HalfLives
from rewriter.signals.packed import (
    MAX_POPULATION,
    MAX_SEGMENTS_VALUES,
    Header,
    PackedPopulation,
    PackedSegments,
    header_of,
    population_body,
    segments_body,
)
from rewriter.signals.partial_sums import Sources, Steps, gather_population, gather_segment, sources_of
from rewriter.signals.partitions import partition_count
from rewriter.signals.population_reader import PAUSE_S, Engine, Look, PackedReader
from rewriter.signals.store import Keys

LOOK_EVERY_S = 10.0
UNMADE_EVERY_S = 1.0
"""Interval of look-ups while there is no population yet."""
MADE_EVERY_S = 60.0
LEASE_MS = 30_000
GROWN = 0.1
FIRST_PAUSE_S = 0.001
"""Pause while there is no population yet: only items have an affinity then, so the first population is built faster."""
MAX_SEGMENTS = 1_000
SEGMENTS_AT_ONCE = 50
"""Segments read by one build, the least recently read first."""
Role = Literal["worker", "search"]
_T = TypeVar("_T")


class PopulationBuilder:
    """Builds the two packed values while this process holds the lease.

    role, token: the lease's holder; the token distinguishes processes of one role.
    max_counters: number of values per segment, the heaviest.
    ttl_s:       time to live of both values in seconds.
    now_s:       a clock, seconds since the epoch.
    wait:        called with seconds between slices; it returns True at shutdown.
    """

    def __init__(
        self,
        engine: Engine,
        keys: Keys,
        half_lives: HalfLives,
        *,
        role: Role,
        token: str,
        max_counters: int,
        ttl_s: float,
        now_s: Callable[[], float],
        wait: Callable[[float], bool],
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._half_lives = half_lives
        self._name = f"{role}:{token}"
        self._role = role
        self._limit = max_counters
        self._ttl_s = max(1, int(ttl_s))
        self._now_s = now_s
        self._pause_s = PAUSE_S
        self._segments_read_s: dict[str, float] = {}
        self._sound: dict[str, Header] = {}  # by key, the header of the value that this process wrote or has read
        self._known: PackedSegments | None = None
        self._published: PackedSegments | None = None
        self.reader = PackedReader(engine, keys, wait)

    def leads(self, look: Look) -> bool:
        """Take or renew the lease if possible; return whether this process holds it."""
        taken, mine = look.maker, look.maker == self._name
        if mine or (self._role == "worker" and not (taken or "").startswith("worker:")):
            self.reader.run([("SET", self._keys.maker, self._name, "PX", LEASE_MS)])
            return True
        if taken is None:
            (got,) = self.reader.run([("SET", self._keys.maker, self._name, "NX", "PX", LEASE_MS)])
            return bool(got)
        return False

    def release(self) -> None:
        """Release the lease, so that the next holder need not wait for its expiry."""
        (holder,) = self.reader.run([("GET", self._keys.maker)])
        if holder == self._name.encode():
            self.reader.run([("DEL", self._keys.maker)])

    def make(self, look: Look) -> None:
        """Build the values that are due, those that cannot be read among them.

        Raises StoreError if a part of the population cannot be read (the segments are built first), Stopped, or the client's error.
        """
        count, listed = self.reader.run(
            [text_command(f"{self._keys.prefix}:{part}") for part in ("partitions", "segments")]
        )
        partitions = self._partitions(count)
        self._pause_s = PAUSE_S if look.population else FIRST_PAUSE_S
        unread: StoreError | None = None
        try:
            self._make_population(look.population, partitions)
        except StoreError as error:  # segments do not need it
            unread = error
        self._make_segments(look.segments, _names(listed), partitions)
        if unread is not None:
            raise unread

    def current(self, header: Header | None) -> PackedPopulation | None:
        """Return the population as it is now: the published one, or if that is missing or old the sum of its parts; None without
        any. Writes nothing and needs no lease. Raises StoreError, ValueError, or the client's error.
        """
        (count,) = self.reader.run([text_command(f"{self._keys.prefix}:partitions")])
        partitions = self._partitions(count)
        sources = self._driven(sources_of(self._keys, partitions))
        if header is not None and header.version == sources.version:
            return self.reader.population(header)
        if sources.landmark_s is None:
            return None
        whole = self._driven(
            gather_population(self._keys, partitions, sources.landmark_s, self._half_lives, MAX_POPULATION)
        )
        return whole if whole.totals else None

    def _partitions(self, count: bytes | None) -> int:
        key = f"{self._keys.prefix}:partitions"
        return partition_count(key, text_in(count)) if count else 1  # none before the first producer or worker

    def _make_population(self, header: Header | None, partitions: int) -> None:
        sources = self._driven(sources_of(self._keys, partitions))
        header = self._readable(self._keys.whole_population, header, self.reader.population)
        if sources.landmark_s is not None and self._is_due(header, sources):
            steps = gather_population(self._keys, partitions, sources.landmark_s, self._half_lives, MAX_POPULATION)
            whole = self._driven(steps)
            if whole.totals:
                self._put(self._keys.whole_population, sources.version, sources.events, population_body(whole))

    def _readable(self, key: str, header: Header | None, read: Callable[[Header], object]) -> Header | None:
        """Return the header of a value that can be read; None for any other, so that it is built again though nothing changed."""
        if header is None or self._sound.get(key) == header:
            return header
        try:
            read(header)
        except ValueError:
            return None
        self._sound[key] = header
        return header

    def _is_due(self, header: Header | None, sources: Sources) -> bool:
        if header is None or header.version[:8] != sources.version[:8]:  # none yet, or a landmark moved
            return True
        if header.version == sources.version:
            return False
        grown = abs(sources.events - header.events) > GROWN * header.events
        return grown or not 0.0 <= self._now_s() - header.made_s < MADE_EVERY_S

    def _make_segments(self, header: Header | None, names: Sequence[str], partitions: int) -> None:
        wanted = list(names[:MAX_SEGMENTS])
        if not wanted and header is None:
            return
        header = self._readable(self._keys.all_segments, header, self.reader.segments)
        before = self._before(header)
        now_s = self._now_s()
        read_s = self._segments_read_s = {name: at for name, at in self._segments_read_s.items() if name in wanted}
        due = [name for name in wanted if not 0.0 <= now_s - read_s.get(name, float("-inf")) < MADE_EVERY_S]
        due.sort(key=lambda name: read_s.get(name, float("-inf")))
        counters: dict[str, Counters] = {name: one for name, one in before.counters.items() if name in wanted}
        failed: dict[str, str] = {name: why for name, why in before.failed.items() if name in wanted}
        limit = max(1, min(self._limit, MAX_SEGMENTS_VALUES // max(1, len(wanted))))
        for name in due[:SEGMENTS_AT_ONCE]:
            try:
                found = self._driven(gather_segment(self._keys, name, partitions, self._half_lives, limit))
            except (StoreError, ValueError) as error:  # no key can have half of a surrogate pair in its name
                failed[name] = type(error.__cause__ or error).__name__
            else:
                failed.pop(name, None)
                counters.pop(name, None)
                if found is not None:
                    counters[name] = found
            read_s[name] = now_s
        made = PackedSegments(dict(sorted(counters.items())), failed, max(0, len(names) - MAX_SEGMENTS))
        self._known = made
        body = segments_body(made)
        version = blake2b(body, digest_size=8).hexdigest()
        if header is not None and header.version == version:
            return
        last = self._published
        differs = last is None or (last.failed, last.counters.keys()) != (made.failed, made.counters.keys())
        complete = all(name in read_s for name in wanted)
        if header is None or (differs and complete) or not 0.0 <= now_s - header.made_s < MADE_EVERY_S:
            self._put(self._keys.all_segments, version, 0.0, body)
            self._published = made

    def _before(self, header: Header | None) -> PackedSegments:
        """Return the segments of this process's last build, else those that are published."""
        if self._known is None and header is not None:
            with suppress(ValueError):  # it was replaced meanwhile: all segments are read again
                self._known = self._published = self.reader.segments(header)
        return self._known or PackedSegments({}, {})

    def _put(self, key: str, version: str, events: float, body: bytes) -> None:
        header = Header(version, self._now_s(), events, len(body))
        self.reader.run([("SET", key, header.bytes() + body, "EX", self._ttl_s)])
        self._sound[key] = header_of(header.bytes()) or header

    def _driven(self, steps: Steps[_T]) -> _T:
        """Run a generator of `partial_sums`: each slice of commands, then a pause."""
        try:
            wanted = next(steps)
            while True:
                replies = self._engine.run(wanted) if wanted else []
                self.reader.pause(self._pause_s)
                wanted = steps.send(replies)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()


def _names(raw: bytes) -> list[str]:
    """Return the names of the segments. Raises StoreError for an invalid list."""
    try:
        listed = json.loads(text_in(raw) or "[]") if len(raw or b"") <= MAX_TEXT_BYTES else None
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise StoreError("the list of segments cannot be read")
    return list(dict.fromkeys(name for name in listed if isinstance(name, str)))
