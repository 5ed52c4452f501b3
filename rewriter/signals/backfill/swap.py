"""Puts profiles, population and segments made of history in the place of those that are there, while events go on coming in.

Workers are asked to pause, and every partition's lease is taken: nobody counts meanwhile, and events wait in their streams. What
those hold that was counted and is later than the history is added to it, and each key is written in one transaction, watermark
included: a reader sees the old profile or the new one, and a worker goes on exactly behind it. A worker that stalled and comes
back finds its batch refused; what it then applies, a key at a time, is either overwritten here or behind the watermark.

The pause ends by itself 60 s after this process does. How far it came is noted, and the same history goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from secrets import token_hex
from typing import Self

from rewriter.errors import ConfigurationError, Fault, StoreError
from rewriter.signals.backfill.history import History
from rewriter.signals.commands import write_commands
from rewriter.signals.counters import Counters, Observation, counted
from rewriter.signals.ingest.batch import Batch, Plan, Scope, entry_of
from rewriter.signals.ingest.contract import MAX_SEGMENTS, StreamKeys
from rewriter.signals.ingest.health import added_and_removed
from rewriter.signals.ingest.leases import Leases
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.scripts import SEGMENTS, ran, script_command, sound_replies
from rewriter.signals.redis_store import RedisStore

PAUSE_S = 60.0
NOTE_EVERY = 200
AT_ONCE = 1_000
POLL_S = 0.1

Live = dict[str, list[Observation]]
"""By base of a key: what the streams hold that was counted, and is later than the history."""


class Swap:
    """One backfill of a store. Close it, or use it as a context manager: workers pause until then."""

    def __init__(self, store: RedisStore, profiles: RedisStore, plan: Plan, partitions: int) -> None:
        self._store = store
        self._profiles = profiles
        self._plan = plan
        self._partitions = partitions
        self._keys = StreamKeys(plan.settings.store.prefix)
        self._leases = Leases(store, self._keys, token_hex(16), PAUSE_S)

    def __enter__(self) -> Self:
        """Take every partition. Raises StoreError where a worker does not let go."""
        late_at_s = time.monotonic() + 2 * self._plan.settings.ingest.lease_s + 10.0
        while True:
            sound_replies(self._store, [("SET", self._keys.pause, "backfill", "PX", int(PAUSE_S * 1000))])
            self._leases.take_all(self._partitions)
            if len(self._leases.held) == self._partitions:
                return self
            if time.monotonic() >= late_at_s:
                self.__exit__()
                raise StoreError("a worker does not pause: it may be of an older version; nothing was written")
            time.sleep(POLL_S)

    def __exit__(self, *_: object) -> None:
        self._leases.release(sorted(self._leases.held))
        sound_replies(self._store, [("DEL", self._keys.pause)])

    def refuse_gap(self, until_s: float) -> None:
        """Raise ConfigurationError where events after the history may be in no stream any more: they would be lost."""
        streams = [("XINFO", "STREAM", self._keys.stream(number)) for number in range(self._partitions)]
        firsts = [("XRANGE", command[2], "-", "+", "COUNT", 1) for command in streams]
        for info, first in zip(ran(self._store, streams), sound_replies(self._store, firsts), strict=True):
            if isinstance(info, Exception) or not added_and_removed(info)[1]:
                continue
            oldest_s = int(first[0][0].partition(b"-")[0]) / 1000 if first else time.time()
            if oldest_s > until_s:
                what = (
                    f"the history ends {oldest_s - until_s:.0f} s before the oldest entry that the streams still hold"
                )
                raise ConfigurationError(
                    [Fault("history", what, "export it up to a later time: what was counted between would be lost")]
                )

    def live(self, until_s: float, objects: Objects) -> Live:
        """Return what was counted after `until_s`."""
        found: Live = {}
        weights, keys = self._plan.settings.signals.action_weights, self._plan.keys
        for number, position in self._leases.held.items():
            seen: set[str] = set()
            for batch in self._passed(number, position):
                readable = [entry for entry in batch.readable() if entry.at_s > until_s]
                known = objects.find(
                    {one.object_key for one in readable if one.told.event_attributes.object.document is None}
                )
                for entry in readable:
                    told = entry.told
                    document = told.event_attributes.object.document or known.get(entry.object_key)
                    if document is None or told.event_id in seen:
                        continue
                    seen |= {told.event_id} if told.event_id else set()
                    one = Observation(self._plan.values(document), weights[told.action_name], entry.at_s)
                    bases = [keys.population(number)]
                    bases += [keys.segment(name, number) for name in set(told.event_attributes.segments)]
                    bases += [keys.profile(told.user)] if told.user is not None else []
                    for base in bases:
                        found.setdefault(base, []).append(one)
        return found

    def write(
        self, history: History, objects: Objects, fingerprint: str, on_progress: Callable[[int], None]
    ) -> dict[str, int]:
        """Write everything; return how many profiles were written, and how many had been by a run that broke off."""
        live = self.live(history.until_s, objects)
        noted, last = sound_replies(self._store, [("HMGET", self._keys.backfill, "history", "last")])[0]
        last = last.decode() if last and noted == fingerprint.encode() else ""
        written = skipped = 0
        for count, (base, number, counters) in enumerate(self._everybody(history), start=1):
            self._put(base, number, self._merged(counters, live.get(base, []), self._plan.scopes["everybody"]))
            if count % NOTE_EVERY == 0:
                self._note(fingerprint, last)
        if names := history.segment_names:
            listed = script_command(SEGMENTS, [self._keys.segments], [MAX_SEGMENTS, *names])
            sound_replies(self._profiles, [listed])
        for digest, number, counters in history.profiles():
            if digest <= last:
                skipped += 1
                continue
            base = f"{self._plan.keys.prefix}:{{u:{digest}}}"
            self._put(base, number, self._merged(counters, live.get(base, []), self._plan.scopes["profile"]))
            written += 1
            if written % NOTE_EVERY == 0:
                self._note(fingerprint, digest)
                on_progress(written + skipped)
        sound_replies(self._store, [("DEL", self._keys.backfill)])
        return {"written": written, "written_before": skipped}

    def _everybody(self, history: History) -> Iterator[tuple[str, int, Counters]]:
        """Yield base, partition and counters of the population and of the segments that the history names.

        Of such a segment every part is replaced, also where the history says nothing: the sum would be of old and new.
        """
        keys = self._plan.keys
        for number, counters in history.populations():
            yield keys.population(number), number, counters
        silent = {(name, number) for name in history.segment_names for number in range(self._partitions)}
        for name, number, counters in history.segments():
            silent.discard((name, number))
            yield keys.segment(name, number), number, counters
        for name, number in sorted(silent):
            yield keys.segment(name, number), number, Counters({}, {}, history.until_s)

    def _passed(self, number: int, position: str) -> Iterable[Batch]:
        after = "-"
        while True:
            wanted = [("XRANGE", self._keys.stream(number), after, position, "COUNT", AT_ONCE)]
            (entries,) = sound_replies(self._store, wanted)
            if entries:
                pairs = [
                    (entry_id, parts if isinstance(parts, dict) else dict(zip(parts[::2], parts[1::2], strict=True)))
                    for entry_id, parts in entries
                ]
                yield Batch(number, position, [entry_of(entry_id, parts, self._plan) for entry_id, parts in pairs])
            if len(entries) < AT_ONCE:
                return
            after = f"({entries[-1][0].decode()}"

    def _merged(self, counters: Counters, live: list[Observation], scope: Scope) -> Counters:
        """Return the sum of history and of what came after it, as of the end of the history."""
        if not live:
            return counters
        later = counted(live, scope.half_lives, counters.landmark_s)
        weights, totals = dict(counters.weights), dict(counters.totals)
        for value, weight in later.weights.items():
            weights[value] = max(0.0, weights.get(value, 0.0) + weight)
        for name, total in later.totals.items():
            totals[name] = max(0.0, totals.get(name, 0.0) + total)
        heaviest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[: scope.kept]
        return replace(
            counters,
            weights=dict(heaviest),
            totals=totals,
            last_event_s=max(counters.last_event_s, later.last_event_s),
            events=counters.events + later.events,
        )

    def _put(self, base: str, number: int, counters: Counters) -> None:
        commands = write_commands(base, counters, int(self._plan.settings.signals.profile_ttl_s))
        mark = ("HSET", f"{base}:m", f"watermark:{number}", self._leases.held[number])
        self._profiles.run([*commands, mark], atomic=True)

    def _note(self, fingerprint: str, last: str) -> None:
        """Note how far it came, and go on holding what is held. Raises StoreError where it was lost meanwhile."""
        self._leases.renew()
        sound_replies(
            self._store,
            [
                ("SET", self._keys.pause, "backfill", "PX", int(PAUSE_S * 1000)),
                ("HSET", self._keys.backfill, "history", fingerprint, "last", last),
                ("EXPIRE", self._keys.backfill, 86_400),
            ],
        )
