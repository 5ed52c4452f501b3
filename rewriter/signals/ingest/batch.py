"""What a batch of one partition's entries asks of which key. Pure.

An entry's fate depends on the entry alone, on what was marked before it and on its object, never on the clock: it was received when
its id says. So a batch that is read again after a crash comes to the same end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewriter.errors import Fault
from rewriter.settings import Settings
from rewriter.signals.affinities import SignalField, profile_half_lives, signal_fields
from rewriter.signals.commands import Command
from rewriter.signals.counters import SEPARATOR, HalfLives, Value
from rewriter.signals.events import MAX_EVENT_BYTES, Event, parse, refused, values
from rewriter.signals.ingest.scripts import APPLY, script_command
from rewriter.signals.store import Keys

POPULATION_KEPT = 20_000
"""Values per partition of the population, and of each segment; as many as the search side reads."""
Target = tuple[str, str]
"""The scope of a key ("session", "profile" or "everybody") and its base."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How the counters of one kind of key age, and how many are kept for how long."""

    half_lives: HalfLives
    ttl_s: float
    kept: int

    def arguments(self, partition: int) -> list[Any]:
        """Return the head of apply.lua's arguments."""
        own = self.half_lives.by_field_s
        ages = [repr(self.half_lives.default_s), repr(self.half_lives.shortest_s), len(own)]
        return [partition, int(self.ttl_s), self.kept, *ages, *(part for pair in own.items() for part in pair)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the settings say about counting."""

    settings: Settings
    keys: Keys
    fields: Mapping[str, SignalField]
    scopes: Mapping[str, Scope]
    attributes: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Plan:
        """Return the plan of settings: the signal fields of all policies, which share their counters."""
        signals = settings.signals
        fields: dict[str, SignalField] = {}
        for policy in settings.policies.values():
            fields = {**signal_fields(policy), **fields}
        profile = profile_half_lives(settings.policies.values(), signals)
        scopes = {
            "session": Scope(HalfLives(signals.session_half_life_s), signals.session_ttl_s, 2 * signals.max_counters),
            "profile": Scope(profile, signals.profile_ttl_s, 2 * signals.max_counters),
            "everybody": Scope(profile, signals.profile_ttl_s, POPULATION_KEPT),
        }
        attributes = frozenset(of for one in fields.values() for of in one.fields)
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
    """One entry of a stream. `event` is None where `fault` says why. `first` is the entry that this one takes up again."""

    id: str
    raw: bytes
    event: Event | None
    fault: Fault | None
    first: str | None = None

    @property
    def told(self) -> Event:
        """The event of an entry that has no fault."""
        assert self.event is not None
        return self.event

    @property
    def received_s(self) -> float:
        """When it was appended, by the server's clock."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def at_s(self) -> float:
        """When the event happened; a producer's clock that is ahead counts as the time of receipt."""
        return min(self.told.at_s, self.received_s)

    @property
    def mark(self) -> int:
        """The number by which duplicates of its `event_id` tell it from themselves: in the order of entries, below 2^53."""
        ms, _, sequence = (self.first or self.id).partition("-")
        return int(ms) * 4096 + int(sequence) % 4096

    @property
    def object_key(self) -> tuple[str, str]:
        """The document field that knows its object, and the object's id."""
        acted_on = self.told.event_attributes.object
        return acted_on.object_id_field, acted_on.object_id


def entry_of(entry_id: bytes, parts: Mapping[bytes, bytes], plan: Plan) -> Entry:
    """Read an entry as the stream holds it."""
    raw = parts.get(b"event")
    first = parts[b"first"].decode() if b"first" in parts else None
    if raw is None:
        return Entry(entry_id.decode(), b"", None, Fault("event", "is missing from the entry"), first)
    found = parse(raw)
    if isinstance(found, Fault):
        return Entry(entry_id.decode(), raw[:MAX_EVENT_BYTES], None, found, first)
    entry = Entry(entry_id.decode(), raw, found, None, first)
    fault = refused(found, entry.received_s, plan.settings.signals)
    return entry if fault is None else Entry(entry.id, raw, None, fault, first)


@dataclass(slots=True)
class Batch:
    """Consecutive entries of a partition, and what became of them: each is counted once under one name of `counts`.

    note: something to be told of the partition itself, as a dead letter about no entry.
    """

    partition: int
    before: str
    entries: Sequence[Entry]
    counts: Counter[str] = field(default_factory=Counter)
    dead: list[tuple[Entry, Fault]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)
    note: str = ""

    @property
    def after(self) -> str:
        """The position behind the batch."""
        return self.entries[-1].id if self.entries else self.before

    def counted_as(self, name: str, entry: Entry, fault: Fault | None = None) -> None:
        """Note an entry's fate; with a fault it becomes a dead letter."""
        self.counts[name] += 1
        if fault is not None:
            self.dead.append((entry, fault))

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


class Changes:
    """The changes that entries make, by key, in the order of the stream."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._arguments: dict[Target, list[Any]] = {}
        self.entries: dict[Target, list[tuple[Batch, Entry]]] = {}

    def add(self, batch: Batch, entry: Entry, found: Iterable[Value]) -> None:
        """Note what an entry says, in values that `events.values` made: of its session, profile, segments, and of everybody."""
        event = entry.told
        weight = self._plan.settings.signals.action_weights[event.action_name]
        members = [SEPARATOR.join(value).encode() for value in found]
        arguments = [entry.id, repr(entry.at_s), repr(weight), len(members), *members]
        for target in self._targets(batch.partition, entry, event):
            if target not in self._arguments:
                self._arguments[target] = self._plan.scopes[target[0]].arguments(batch.partition)
                self.entries[target] = []
            self._arguments[target] += arguments
            self.entries[target].append((batch, entry))

    def commands(self, scopes: frozenset[str]) -> dict[Target, Command]:
        """Return one command per key of `scopes`."""
        return {
            target: script_command(APPLY, [f"{target[1]}:z", f"{target[1]}:m"], arguments)
            for target, arguments in self._arguments.items()
            if target[0] in scopes
        }

    def segments(self) -> list[str]:
        """Return the names of the segments that were told of."""
        names = {
            name
            for entries in self.entries.values()
            for _, entry in entries
            for name in entry.told.event_attributes.segments
        }
        return sorted(names)

    def _targets(self, partition: int, entry: Entry, event: Event) -> Iterable[Target]:
        keys, age_s = self._plan.keys, entry.received_s - entry.at_s
        if event.session_id is not None and age_s <= self._plan.settings.signals.session_ttl_s:
            yield "session", keys.session(event.session_id)
        if event.user is not None:
            yield "profile", keys.profile(event.user)
        yield "everybody", keys.population(partition)
        for name in dict.fromkeys(event.event_attributes.segments):
            yield "everybody", keys.segment(name, partition)
