"""Swap: replaces profiles, population and segments by those of a history, while producers go on appending events.

Counted entries of the streams that are later than the history are added to it. Most are read while workers run. Then workers pause,
and every partition's lease is taken: no worker counts meanwhile, and events wait in their streams. Each key is replaced in one
step, watermarks included: a reader sees the old counters or the new ones, and a worker continues exactly after them. If a key was
changed in spite of the pause, it is not replaced, and the run fails.

The pause expires `PAUSE_S` after this process ends. The progress is saved, and a run with the same history continues from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, Self

from redis.exceptions import ResponseError

from rewriter.errors import ConfigurationError, Fault, StoreError
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.hold import LOST, Hold
from rewriter.signals.backfill.live import Live
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.commands import Command, members_of, meta_of, staged_classes
from rewriter.signals.counters import Counters
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import MAX_SEGMENTS, STREAM_START, StreamKeys
from rewriter.signals.ingest.health import added_and_removed
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.scripts import REPLACE, SEGMENTS, ran, script_command, sound_replies
from rewriter.signals.near_table import name_table, write_slots
from rewriter.signals.neighbours import Table, slots_for
from rewriter.signals.redis_store import RedisStore

PAUSE_S = 20.0
KEYS_AT_ONCE, MEMBERS_AT_ONCE = 100, 20_000
PER_COMMAND = 500
"""Members that one command adds: about a millisecond of the server."""
STAGED_S = 3_600


class Replacement(NamedTuple):
    """New counters of one key: its base, the partition that feeds it, and for a profile the user's pseudonym (`person`)."""

    base: str
    partition: int
    counters: Counters
    person: str | None = None
    classes: Mapping[str, ClassCounters] = {}


class Swap:
    """One backfill of a store, as a context manager within which workers pause.

    store:    the store of streams and sessions.
    profiles: the store of profiles, segments and population, often the same one.
    """

    def __init__(self, store: RedisStore, profiles: RedisStore, plan: CountingRules, partitions: int) -> None:
        self._store = store
        self._profiles = profiles
        self._plan = plan
        self._partitions = partitions
        self._keys = StreamKeys(plan.settings.store.prefix)
        self._hold = Hold(store, self._keys, partitions, PAUSE_S)
        self._live: Live | None = None
        self._table: Table | None = None
        self._forgotten: Mapping[str, float] = {}

    def __enter__(self) -> Self:
        """Take every partition. Raises StoreError if a worker does not release one."""
        self._hold.take(self._plan.settings.ingest.lease_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._hold.release()

    def refuse_gap(self, until_s: float) -> None:
        """Raise ConfigurationError if events after the history may have left the streams, since they would be lost."""
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

    def read_ahead(self, history: History, objects: Objects, on_progress: Callable[[int], None]) -> None:
        """Read the streams' events after the history before workers pause, so that the pause is short."""
        self._live = Live(self._store, self._plan, objects, history.sums, history.until_s, on_progress)
        for _ in range(2):  # the second time, entries that were counted during the first
            wanted = [("HGET", self._keys.of_stream(number, "state"), "position") for number in range(self._partitions)]
            found = [one.decode() if one else STREAM_START for one in sound_replies(self._store, wanted)]
            self._live.read_to(dict(enumerate(found)))

    def stage_neighbours(self, history: History, fingerprint: str) -> None:
        """Write the table of neighbours beside the one that workers read, before they pause. Equal histories write the same one."""
        if not history.sums.near_items:
            return
        items = history.sums.near_items
        of = repr((fingerprint, items, self._plan.settings.class_field))
        self._table = Table(sha256(of.encode()).hexdigest()[:16], slots_for(items), items, history.until_s)
        write_slots(
            lambda commands: sound_replies(self._profiles, commands), self._plan.keys, self._table, history.sums.near()
        )

    def _name_neighbours(self) -> None:
        """Have workers read the staged table from now on, or none where no policy boosts neighbours."""
        name_table(lambda commands: sound_replies(self._profiles, commands), self._plan.keys, self._table)

    def live(self, history: History, objects: Objects) -> None:
        """Add the events that were counted after the history, up to the positions at which the workers paused."""
        live = self._live or Live(self._store, self._plan, objects, history.sums, history.until_s)
        live.read_to(self._hold.positions)
        live.read_waiting(self._hold.positions)
        (pairs,) = sound_replies(self._store, [("ZRANGE", self._keys.forgotten, 0, -1, "WITHSCORES")])
        self._forgotten = forgotten_in(pairs)
        history.sums.add_live(self._forgotten)

    def write(
        self, history: History, objects: Objects, fingerprint: str, on_progress: Callable[[int], None]
    ) -> dict[str, int]:
        """Write all keys; return the numbers of profiles written now, and before by an aborted run.

        fingerprint: identifies the history, so that only a run with the same one continues.
        on_progress: called with the number of written profiles.
        """
        self.live(history, objects)
        noted, last = sound_replies(self._store, [("HMGET", self._keys.backfill, "history", "last")])[0]
        last = last.decode() if last and last.isalnum() and noted == fingerprint.encode() else ""
        sums, keys = history.sums, self._plan.keys
        self._hold.check()
        self._name_neighbours()
        shared_keys = [
            (Replacement(keys.population(number), number, counters) for number, counters in sums.populations()),
            (Replacement(keys.segment(name, number), number, counters) for name, number, counters in sums.segments()),
        ]
        for shared in shared_keys:
            for chunk in _chunks(shared):
                self._replace(chunk)
        if names := sums.segment_names:
            self._hold.check()
            listed = script_command(SEGMENTS, [self._keys.segments], [MAX_SEGMENTS, *names])
            sound_replies(self._profiles, [listed])
        written, skipped = 0, sums.users_up_to(last)
        profiles = (
            Replacement(f"{keys.prefix}:{{u:{digest}}}", number, counters, digest, classes)
            for digest, number, counters, classes in sums.profiles(last)
        )
        for chunk in _chunks(profiles):
            written += self._replace(chunk)
            self._note(fingerprint, chunk[-1].person or "")
            on_progress(skipped + written)
        sound_replies(self._store, [("DEL", self._keys.backfill)])
        return {"written": written, "written_before": skipped}

    def _replace(self, wanted: Sequence[Replacement]) -> int:
        """Replace keys; return how many were. Raises StoreError if the hold was lost, or a key was changed meanwhile."""
        self._hold.check()
        names = [
            (f"{one.base}:z", f"{one.base}:m", f"{one.base}:fresh", f"{one.base}:c", f"{one.base}:fresh:c")
            for one in wanted
        ]
        looks = ran(self._profiles, [("HGETALL", meta) for _, meta, *_ in names])
        self._hold.check()  # what was looked at is what workers left, who had paused
        commands: list[Command] = []
        for one, keys, look in zip(wanted, names, looks, strict=True):
            if isinstance(look, ResponseError):  # not a hash, so no key of ours
                commands.append(("UNLINK", keys[1]))
            elif isinstance(look, Exception):
                raise look
            known = {} if isinstance(look, ResponseError) else _texts(look)
            commands += self._commands(one, keys, known)
        replies = [
            reply
            for command, reply in zip(commands, sound_replies(self._profiles, commands), strict=True)
            if command[0] == "EVALSHA"
        ]
        if 0 in replies:
            raise StoreError(LOST)
        return replies.count(1)

    def _commands(self, one: Replacement, keys: tuple[str, ...], known: Mapping[str, str]) -> Iterator[Command]:
        fresh, members = keys[2], members_of(one.counters)
        yield ("UNLINK", fresh)
        for start in range(0, len(members), 2 * PER_COMMAND):
            yield ("ZADD", fresh, *members[start : start + 2 * PER_COMMAND])
            if not start:  # before the rest: a run that is killed in between leaves nothing for ever
                yield ("EXPIRE", fresh, STAGED_S)
        yield from staged_classes(keys[4], one.classes, STAGED_S)
        applied = {name: text for name, text in known.items() if name.startswith(("watermark:", "part:"))}
        positions = self._hold.positions
        fed = {
            one.partition,
            *(int(of) for name in applied if (of := name.partition(":")[2]).isdecimal()),
        } & positions.keys()
        marks = [part for number in sorted(fed) for part in (f"watermark:{number}", positions[number])]
        arguments = [
            *(int(self._plan.settings.signals.profile_ttl_s), repr(self._forgotten.get(one.person or "", 0.0))),
            *(len(applied), *(part for pair in applied.items() for part in pair)),
            *meta_of(one.base, one.counters),
            *marks,
        ]
        yield script_command(REPLACE, keys, arguments)

    def _note(self, fingerprint: str, last: str) -> None:
        """Save the progress: the last written user."""
        wanted = [
            ("HSET", self._keys.backfill, "history", fingerprint, "last", last),
            ("EXPIRE", self._keys.backfill, 86_400),
        ]
        sound_replies(self._store, wanted)


def forgotten_in(reply: Sequence[Any]) -> dict[str, float]:
    """Return the time of erasure by pseudonym from a reply to ZRANGE … WITHSCORES: pairs, or a flat list."""
    flat = [part for pair in reply for part in pair] if reply and isinstance(reply[0], list) else list(reply)
    return {name.decode("utf-8", "replace"): float(at) for name, at in zip(flat[::2], flat[1::2], strict=True)}


def _texts(reply: Any) -> dict[str, str]:
    pairs = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in pairs}


def _chunks(wanted: Iterable[Replacement]) -> Iterator[list[Replacement]]:
    """Yield replacements in chunks of at most KEYS_AT_ONCE keys and about MEMBERS_AT_ONCE members."""
    chunk: list[Replacement] = []
    members = 0
    for one in wanted:
        chunk.append(one)
        members += len(one.counters.weights) + sum(len(own.weights) for own in one.classes.values())
        if len(chunk) >= KEYS_AT_ONCE or members >= MEMBERS_AT_ONCE:
            yield chunk
            chunk, members = [], 0
    if chunk:
        yield chunk
