"""What a batch of one partition's entries asks of which key. Pure.

An entry's fate depends on the entry alone, on what was marked before it and on its object, not on the clock: it was received when
its id says. So a batch that is read again after a crash comes to the same end. Only an id that lies ahead says nothing: its entry
was received when it is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from rewriter.errors import Fault
from rewriter.settings import Settings
from rewriter.signals.affinities import ITEM, SignalField, profile_half_lives, signal_fields
from rewriter.signals.counters import SEPARATOR, HalfLives, Value
from rewriter.signals.events import MAX_EVENT_BYTES, Event, parse, refused, values
from rewriter.signals.store import Keys

ITEM_PREFIX = f"{ITEM}{SEPARATOR}".encode()
POPULATION_KEPT = 20_000
"""Values per partition of the population, and of each segment; as many as the search side reads."""
ENTRY_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
REPLAY = re.compile(rb"[0-9a-f]{16}")
PARTLY_COUNTED = "holds something else than counters"
"""Of a key: the entry was counted in its other keys, so that it cannot be taken up again."""
ScopeName = Literal["session", "profile", "everybody"]


@dataclass(frozen=True, slots=True)
class Scope:
    """How the counters of one kind of key age, and how many are kept for how long."""

    half_lives: HalfLives
    ttl_s: float
    kept: int

    @property
    def decay_arguments(self) -> list[Any]:
        """Return the arguments that decay.lua reads."""
        own = self.half_lives.by_field_s
        ages = [repr(self.half_lives.default_s), repr(self.half_lives.shortest_s), len(own)]
        return [*ages, *(part for pair in own.items() for part in pair)]


@dataclass(frozen=True, slots=True)
class CountingRules:
    """What the settings say about counting."""

    settings: Settings
    keys: Keys
    fields: Mapping[str, SignalField]
    scopes: Mapping[ScopeName, Scope]
    attributes: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> CountingRules:
        """Return the plan of settings: the signal fields of all policies, which share their counters."""
        signals = settings.signals
        fields: dict[str, SignalField] = {}
        for policy in settings.policies.values():
            fields = {**signal_fields(policy), **fields}
        if ITEM in fields:
            fields[ITEM] = replace(fields[ITEM], class_field=settings.class_field)
        profile = profile_half_lives(settings.policies.values(), signals)
        scopes: dict[ScopeName, Scope] = {
            "session": Scope(HalfLives(signals.session_half_life_s), signals.session_ttl_s, 2 * signals.max_counters),
            "profile": Scope(profile, signals.profile_ttl_s, 2 * signals.max_counters),
            "everybody": Scope(profile, signals.profile_ttl_s, POPULATION_KEPT),
        }
        attributes = frozenset(of for one in fields.values() for of in (*one.fields, one.class_field) if of is not None)
        return cls(
            settings,
            Keys(settings.store.prefix, settings.store.key_salt.get_secret_value()),
            fields,
            scopes,
            attributes,
        )

    def values(self, document: Mapping[str, Any]) -> tuple[Value, ...]:
        """Return what acting on a document says."""
        return values(document, self.fields)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. `event` is None where `fault` says why. `first` is the entry that this one takes up again.

    replay: the replay of a file that appended it, and that wants to know what becomes of it.
    read_ms: when it was read, by the server's clock, where that is known. Ids never go back: where that clock once ran ahead, or a
    producer named an id of its own, all that follow lie ahead too.
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
        """When it was appended, by the server's clock; at the latest when it was read."""
        return received_ms(self.id, self.read_ms) / 1000

    @property
    def at_s(self) -> float:
        """When the event happened; a producer's clock that is ahead counts as the time of receipt."""
        return min(self.counted_event.at_s, self.received_s)

    @property
    def dedupe_key(self) -> int:
        """The number by which duplicates of its `event_id` tell it from themselves: in the order of entries, below 2^53."""
        ms, _, sequence = (self.first or self.id).partition("-")
        return int(ms) * 4096 + int(sequence) % 4096

    @property
    def object_key(self) -> tuple[str, str]:
        """The document field that knows its object, and the object's id."""
        acted_on = self.counted_event.event_attributes.object
        return acted_on.object_id_field, acted_on.object_id


def received_ms(entry_id: str, read_ms: int | None) -> int:
    """Return when an entry was appended, by its id; no later than it was read."""
    by_id = int(entry_id.partition("-")[0])
    return by_id if read_ms is None else min(by_id, read_ms)


def entry_of(entry_id: bytes, parts: Mapping[bytes, bytes], plan: CountingRules, read_ms: int | None = None) -> Entry:
    """Read an entry as the stream holds it, whatever it holds; `read_ms` is the server's time. Raises nothing."""
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
    """Return the event of an entry, the entry that it takes up again, the replay that it is of, and what is wrong.

    An entry that waited names its replay after its first one.
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
    """Consecutive entries of a partition, and what became of them.

    fates:  by entry id, the name under which it is counted, once; other: counts that are of no entry.
    beside: counts of what entries named and that was left out: segments_refused.
    note:   something to be told of the partition itself, as a dead letter about no entry.
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

    @property
    def after(self) -> str:
        """The position behind the batch."""
        return self.entries[-1].id if self.entries else self.before

    @property
    def counts(self) -> Counter[str]:
        """How many entries had which fate."""
        counts = Counter(self.fates.values())
        counts.update(self.other)  # a sum of two would drop what is below 0
        return counts

    def counted_as(self, name: str, entry: Entry, fault: Fault | None = None) -> None:
        """Note an entry's fate; with a fault it becomes a dead letter."""
        self.fates[entry.id] = name
        if fault is not None:
            self.dead.append((entry, fault))

    def wait(self, entry: Entry) -> None:
        """Note that an entry's object is to be looked up again later."""
        self.fates[entry.id] = "waiting"
        self.waiting.append(entry)

    def readable(self) -> list[Entry]:
        """Return the entries that may be counted; note the fate of the others."""
        found = []
        for entry in self.entries:
            if entry.event is None:
                self.counted_as("refused", entry, entry.fault)
            elif not entry.event.consent:
                self.counted_as("no_consent", entry)
            else:
                found.append(entry)
        return found


class Target(NamedTuple):
    """One key, and the partition that feeds it. A session that changes partition has a watermark, and so a target, for each."""

    scope: ScopeName
    base: str
    partition: int


class Change(NamedTuple):
    """What one entry adds to each of its targets. `profile` and `session` are bases of keys, `head` is id, time and weight.

    uses: members that count 1 each, whatever the action weighs; None where none may. Which of both depends on the entry alone.
    """

    batch: Batch
    entry: Entry
    at_s: float
    head: tuple[str, str, str]
    members: tuple[bytes, ...]
    profile: str | None
    session: str | None
    uses: tuple[bytes, ...] | None = None

    @property
    def weight(self) -> float:
        """What the action weighs."""
        return float(self.head[2])

    @property
    def items(self) -> tuple[bytes, ...]:
        """The members that are items."""
        return tuple(one for one in self.members if one.startswith(ITEM_PREFIX))


class Changes:
    """The changes that entries make, by target, in the order of the stream.

    segments: the names that may have keys; others are left out.
    """

    def __init__(self, plan: CountingRules, segments: Collection[str]) -> None:
        self._plan = plan
        self._segments = segments
        self.by_target: dict[Target, list[Change]] = {}
        self._used: list[tuple[Change, list[Change], int]] = []

    @property
    def used(self) -> list[Change]:
        """The changes of users by items, whose uses are to be noted, in the order of the stream."""
        return [change for change, _, _ in self._used]

    def note_uses(self, uses: Sequence[tuple[bytes, ...]]) -> None:
        """Note what each of `used` adds to the population besides."""
        for (_, changes, at), members in zip(self._used, uses, strict=True):
            changes[at] = changes[at]._replace(uses=members)

    def add(self, batch: Batch, entry: Entry, found: Iterable[Value]) -> None:
        """Note what an entry says, in values that `events.values` made: of its session, profile, segments, and of everybody."""
        event, keys = entry.counted_event, self._plan.keys
        signals = self._plan.settings.signals
        at_s = entry.at_s
        head = (entry.id, repr(at_s), repr(signals.action_weights[event.action_name]))
        members = tuple(SEPARATOR.join(value).encode() for value in found)
        in_session = event.session_id is not None and entry.received_s - at_s <= signals.session_ttl_s
        session = keys.session(event.session_id) if event.session_id is not None and in_session else None
        profile = keys.profile(event.user) if event.user is not None else None
        change = Change(batch, entry, at_s, head, members, profile, session)
        # An item's affinity needs no population, and items would push out what does.
        shared = change._replace(members=tuple(one for one in members if not one.startswith(ITEM_PREFIX)))
        population = keys.population(batch.partition)
        for scope, base in self._bases(batch.partition, event, change):
            one = shared if base == population else change
            changes = self.by_target.setdefault(Target(scope, base, batch.partition), [])
            if base == population and profile is not None and change.items:
                one = one._replace(uses=())
                self._used.append((change, changes, len(changes)))
            changes.append(one)

    def _bases(self, partition: int, event: Event, change: Change) -> Iterable[tuple[ScopeName, str]]:
        keys = self._plan.keys
        if change.session is not None:
            yield "session", change.session
        if change.profile is not None:
            yield "profile", change.profile
        yield "everybody", keys.population(partition)
        for name in dict.fromkeys(event.event_attributes.segments):
            if name in self._segments:
                yield "everybody", keys.segment(name, partition)
