"""Batches of one partition's entries, their fates, and the changes that they make to each key. Pure.

An entry's fate depends only on the entry, on earlier marks and on its object, not on the clock: the time of receipt is in its id.
So a batch that is read again after a crash has the same result. The exception is an id in the future: its entry counts as received
when it is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from rewriter.errors import Fault
from rewriter.record import record
from rewriter.settings import Settings
from rewriter.signals.affinities import class_combinations, profile_half_lives, signal_fields
from rewriter.signals.counters import SEPARATOR, HalfLives, Value
from rewriter.signals.events import MAX_EVENT_BYTES, Event, parse, refused, values
from rewriter.signals.kinds.item import ITEM, WITH_CLASS
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.neighbours import Near
from rewriter.signals.store import Keys

ITEM_PREFIX = f"{ITEM}{SEPARATOR}".encode()
POPULATION_KEPT = 20_000
"""Values kept per partition of the population, and of each segment: as many as searches read."""
ENTRY_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
REPLAY = re.compile(rb"[0-9a-f]{16}")
PARTLY_COUNTED = "holds something else than counters"
"""Fault of a key of a wrong type: the entry was counted in its other keys, so its dead letter cannot be replayed."""
ScopeName = Literal["session", "profile", "population"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Half-lives of the counters of one kind of key, their time to live in seconds, and the number of values kept."""

    half_lives: HalfLives
    ttl_s: float
    kept: int

    @property
    def decay_arguments(self) -> list[Any]:
        """The arguments that decay.lua reads."""
        own = self.half_lives.by_field_s
        ages = [repr(self.half_lives.default_s), repr(self.half_lives.shortest_s), len(own)]
        return [*ages, *(part for pair in own.items() for part in pair)]


@dataclass(frozen=True, slots=True)
class CountingRules:
    """The settings that ingest and backfill count by.

    fields:     all policies' signal fields by name.
    scopes:     decay and limits by kind of key.
    attributes: the document fields that signal fields need.
    """

    settings: Settings
    keys: Keys
    fields: Mapping[str, SignalField]
    scopes: Mapping[ScopeName, Scope]
    attributes: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> CountingRules:
        """Return the counting rules of settings, with the signal fields of all policies, which share their counters."""
        signals = settings.signals
        fields: dict[str, SignalField] = {}
        for policy in settings.policies.values():
            fields = {**signal_fields(policy), **fields}
        if ITEM in fields:
            fields[ITEM] = replace(fields[ITEM], class_field=settings.class_field)
        profile = profile_half_lives(settings.policies.values(), signals)
        scopes: dict[ScopeName, Scope] = {
            "session": Scope(HalfLives(signals.session_half_life_s), signals.session_ttl_s, signals.kept_counters),
            "profile": Scope(profile, signals.profile_ttl_s, signals.kept_counters),
            "population": Scope(profile, signals.profile_ttl_s, POPULATION_KEPT),
        }
        attributes = frozenset(of for one in fields.values() for of in (*one.fields, one.class_field) if of is not None)
        return cls(
            settings,
            Keys(settings.store.prefix, settings.store.key_salt.get_secret_value()),
            fields,
            scopes,
            attributes,
        )

    @property
    def class_combinations(self) -> frozenset[str]:
        """The names of the combinations that begin with the class field: profiles keep them by class."""
        return class_combinations(self.fields, self.settings.class_field)

    def document_in(self, entry: Entry) -> Mapping[str, Any] | None:
        """Return the object's document from the event itself, or None if the event does not have it."""
        name, text = entry.object_key
        if self.attributes <= {name}:
            return {name: text}
        return entry.counted_event.event_attributes.object.document

    @property
    def has_neighbours(self) -> bool:
        """Whether profiles count the neighbours of their items too."""
        return any(policy.has_neighbours for policy in self.settings.policies.values())

    def values(self, document: Mapping[str, Any]) -> tuple[Value, ...]:
        """Return the signal values of a document."""
        return values(document, self.fields)


@record(frozen=True, slots=True)
class Entry:
    """One entry of a stream.

    event:   the parsed event, None if `fault` is set.
    first:   the id of the earlier entry that this one repeats (after a wait, or from a dead letter), or None.
    replay:  the token of the file replay that appended it and counts its fate, or None.
    read_ms: when it was read, by the server's clock (milliseconds since the epoch), None if unknown. Ids never decrease: once the
             clock was ahead, or a producer chose an id of its own, all later ids are in the future too.
    """

    id: str
    raw: bytes
    event: Event | None
    fault: Fault | None
    first: str | None = None
    replay: str | None = None
    read_ms: int | None = None

    @property
    def counted_event(self) -> Event:
        """The event of an entry that has no fault."""
        assert self.event is not None
        return self.event

    @property
    def received_s(self) -> float:
        """The time of its append by the server's clock, at most the time of its read (seconds since the epoch)."""
        return received_ms(self.id, self.read_ms) / 1000

    @property
    def at_s(self) -> float:
        """The event's time (seconds since the epoch), but at most the time of receipt, since a producer's clock may be ahead."""
        return min(self.counted_event.at_s, self.received_s)

    @property
    def dedupe_key(self) -> int:
        """A number in the order of entries that distinguishes it from duplicates with the same `event_id`."""
        ms, _, sequence = (self.first or self.id).partition("-")
        return int(ms) * 4096 + int(sequence) % 4096

    @property
    def object_key(self) -> tuple[str, str]:
        """The document field that holds its object's id, and the id."""
        acted_on = self.counted_event.event_attributes.object
        return acted_on.object_id_field, acted_on.object_id


def received_ms(entry_id: str, read_ms: int | None) -> int:
    """Return when an entry was appended, by its id, at most when it was read (milliseconds since the epoch)."""
    by_id = int(entry_id.partition("-")[0])
    return by_id if read_ms is None else min(by_id, read_ms)


def entry_of(entry_id: bytes, parts: Mapping[bytes, bytes], plan: CountingRules, read_ms: int | None = None) -> Entry:
    """Parse an entry of a stream; `read_ms` is the server's time. Never raises; a fault is returned in the entry."""
    raw, first, replay, fault = _parts(entry_id, parts)
    name, kept = entry_id.decode(), raw[:MAX_EVENT_BYTES]
    if fault is not None:
        return Entry(name, kept, None, fault)
    found = parse(raw)
    if isinstance(found, Fault):
        return Entry(name, kept, None, found, first, replay)
    entry = Entry(name, raw, found.keeping(plan.attributes), None, first, replay, read_ms)
    fault = refused(found, entry.received_s, plan.settings.signals)
    return entry if fault is None else Entry(name, raw, None, fault, first, replay)


def _parts(entry_id: bytes, parts: Mapping[bytes, bytes]) -> tuple[bytes, str | None, str | None, Fault | None]:
    """Return an entry's event, the first entry that it repeats, its replay, and its fault.

    After a wait, the replay follows the first entry's id in the same field.
    """
    raw, named, replay = parts.get(b"event"), parts.get(b"first"), parts.get(b"replay")
    if raw is None:
        return b"", None, None, Fault("event", "is missing from the entry")
    if named is not None and b" " in named:
        named, _, replay = named.partition(b" ")
    if named is not None and not _is_earlier(named, entry_id):
        return raw, None, None, Fault("first", "is not the id of an earlier entry")
    if replay is not None and not REPLAY.fullmatch(replay):
        replay = None
    return raw, named.decode() if named is not None else None, replay.decode() if replay is not None else None, None


def _is_earlier(first: bytes, entry_id: bytes) -> bool:
    return ENTRY_ID.fullmatch(first) is not None and int(first.partition(b"-")[0]) <= int(entry_id.partition(b"-")[0])


@dataclass(slots=True)
class Batch:
    """Consecutive entries of a partition, and their fates.

    before: the position before the first entry.
    fates:  fate by entry id; each entry has one.
    other:  counts that belong to no entry.
    beside: counts of parts of entries that were left out: segments_refused.
    note:   a message about the partition itself, written as a dead letter without an entry.
    unapplied: the ids of entries that are not applied for what the look-up of their objects found, while later ones are.
    """

    partition: int
    before: str
    entries: Sequence[Entry]
    fates: dict[str, str] = field(default_factory=dict)
    dead: list[tuple[Entry, Fault]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    note: str = ""
    unapplied: set[str] = field(default_factory=set)

    @property
    def after(self) -> str:
        """The position after the batch."""
        return self.entries[-1].id if self.entries else self.before

    @property
    def counts(self) -> Counter[str]:
        """The number of entries by fate."""
        counts = Counter(self.fates.values())
        counts.update(self.other)  # the sum of two Counters would drop negative counts
        return counts

    def counted_as(self, name: str, entry: Entry, fault: Fault | None = None) -> None:
        """Set an entry's fate; with a fault it becomes a dead letter."""
        self.fates[entry.id] = name
        if fault is not None:
            self.dead.append((entry, fault))

    def wait(self, entry: Entry) -> None:
        """Make an entry wait, so that its object is looked up again later."""
        self.fates[entry.id] = "waiting"
        self.waiting.append(entry)

    def readable(self) -> list[Entry]:
        """Return the entries that may be counted; set the fate of the others."""
        found = []
        for entry in self.entries:
            if entry.event is None:
                self.counted_as("refused", entry, entry.fault)
            elif not entry.event.consent:
                self.counted_as("no_consent", entry)
            else:
                found.append(entry)
        return found


class CounterKey(NamedTuple):
    """One key and the partition that feeds it. A session that changes partition has a watermark, and so a key, for each."""

    scope: ScopeName
    base: str
    partition: int


class Members(NamedTuple):
    """The members of an object's values in the order of the values: all of them, and apart the items and the others."""

    every: tuple[bytes, ...]
    items: tuple[bytes, ...]
    others: tuple[bytes, ...]

    @classmethod
    def of(cls, found: Iterable[Value]) -> Members:
        """Return the members of values from `events.values`."""
        every = tuple([SEPARATOR.join(value).encode() for value in found])
        items = tuple([one for one in every if one.startswith(ITEM_PREFIX)])
        return cls(every, items, tuple([one for one in every if not one.startswith(ITEM_PREFIX)]))


class Change(NamedTuple):
    """What one entry adds to each of its keys. `profile` and `session` are bases of keys, `head` is id, time and weight.

    items: the members that are items, or would be: the population's changes name items that they do not count.
    uses: members that count 1 each, whatever the action weighs; None where none may. Which of both depends on the entry alone.
    """

    batch: Batch
    entry: Entry
    at_s: float
    head: tuple[str, str, str]
    members: tuple[bytes, ...]
    items: tuple[bytes, ...]
    profile: str | None
    session: str | None
    uses: tuple[bytes, ...] | None = None

    @property
    def weight(self) -> float:
        """What the action weighs."""
        return float(self.head[2])


class Changes:
    """The changes of entries by target, in the order of the stream.

    segments: names of segments that may have keys; others are left out.
    near:     neighbours of the items that profiles count, by the item's member.
    """

    def __init__(self, plan: CountingRules, segments: Collection[str]) -> None:
        self._plan = plan
        self._segments = segments
        self.by_target: dict[CounterKey, list[Change]] = {}
        self.near: dict[bytes, Near] = {}
        self._used: list[tuple[Change, list[Change], int]] = []

    @property
    def used(self) -> list[Change]:
        """The changes of users by items, whose uses are to be noted, in the order of the stream."""
        return [change for change, _, _ in self._used]

    def note_near(self, find: Callable[[Collection[str]], Mapping[str, Near]]) -> None:
        """Note the neighbours of the items with a class that profiles count; `find` returns those of some ids."""
        ids: dict[bytes, str] = {}
        for member in {one for change, _, _ in self._used for one in change.items}:
            parts = member.decode().split(SEPARATOR)
            if len(parts) == WITH_CLASS:
                ids[member] = parts[1]
        found = find(set(ids.values()))
        self.near = {member: found[item] for member, item in ids.items() if item in found}

    def note_uses(self, uses: Sequence[tuple[bytes, ...]]) -> None:
        """Note what each of `used` adds to the population besides."""
        for (_, changes, at), members in zip(self._used, uses, strict=True):
            if members:
                changes[at] = changes[at]._replace(uses=members)

    def add(self, batch: Batch, entry: Entry, members: Members) -> None:
        """Add the members of an entry's object to its session, its profile, its segments and the population."""
        event, keys = entry.counted_event, self._plan.keys
        signals = self._plan.settings.signals
        received_s = entry.received_s
        at_s = min(event.at_s, received_s)
        head = (entry.id, repr(at_s), repr(signals.action_weights[event.action_name]))
        in_session = event.session_id is not None and received_s - at_s <= signals.session_ttl_s
        session = keys.session(event.session_id) if event.session_id is not None and in_session else None
        profile = keys.profile(event.user) if event.user is not None else None
        change = Change(batch, entry, at_s, head, members.every, members.items, profile, session)
        if session is not None:
            self._of("session", session, batch.partition).append(change)
        if profile is not None:
            self._of("profile", profile, batch.partition).append(change)
        shared = self._of("population", keys.population(batch.partition), batch.partition)
        uses: tuple[bytes, ...] | None = None
        if profile is not None and members.items:
            uses = ()
            self._used.append((change, shared, len(shared)))
        # An item's affinity needs no population, and items would displace values that do.
        shared.append(Change(batch, entry, at_s, head, members.others, members.items, profile, session, uses))
        for name in dict.fromkeys(event.event_attributes.segments):
            if name in self._segments:
                self._of("population", keys.segment(name, batch.partition), batch.partition).append(change)

    def _of(self, scope: ScopeName, base: str, partition: int) -> list[Change]:
        return self.by_target.setdefault(CounterKey(scope, base, partition), [])
