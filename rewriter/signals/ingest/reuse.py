"""Finds which entries of a batch use an item, and which use it again: what the repeat guard counts (`rewriter.signals.repeats`).

Profiles and sessions tell which items were used before, as they are before anything of the batch is applied to them; what the
batch itself adds is known here. The population is applied before both, so a batch that is read again after a crash either
finds the population's part applied, which is then not applied again, or finds everything as it was. It may be read again with
more entries behind it, whose part of the population is new, while its first ones are applied to the profile and not to the session
yet: an entry up to a key's watermark adds nothing to what the key holds.

An entry is a use where its session holds its item with a smaller strength, or not at all, and a use again where the profile holds
it with at least that of its action (`strengths`). What the profile holds more than the session is from an earlier visit. Nothing is
counted of a subject whose profile holds no other visit. Without a session, a visit is a run of events with at most `VISIT_S`
between them, and this worker remembers what was done in it (`Visits`): after a restart, a visit that had begun counts no more.

Each use is compared with the latest one of its class and weight by another subject (`Controls`), among those that this worker
counted: after a restart, or at another worker, the first use of a class is compared with none, and a subject's share of all uses
begins anew. Uses of a batch that is applied again are noted again: they may be compared with later ones of the same batch, which
are by others too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rewriter.signals.class_layout import held_items, wanted_fields
from rewriter.signals.commands import Command
from rewriter.signals.counters import SEPARATOR, sound
from rewriter.signals.ingest.batch import Change, Changes
from rewriter.signals.ingest.scripts import Engine, ran
from rewriter.signals.repeats import AGAIN, CHANCE, CONTROLS, NO_CLASS, USES
from rewriter.signals.strengths import number_of, strength_in
from rewriter.signals.uses import UNKNOWN, Controls, level_of

VISIT_S = 1_800.0
MAX_IN_VISIT = 500
"""Items of one visit without a session that a worker remembers: a visit of more counts no further."""
_strength_of = lru_cache(256)(number_of)
Position = tuple[int, int]
NOWHERE: Position = (-1, -1)
ENTRY_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


@dataclass(slots=True)
class _Counted:
    """What a profile or a session holds: the strengths of the items used (0: unknown), how many events, and the time of the latest.

    applied: the last entry that was applied to it, by partition.
    """

    items: dict[bytes, int] = field(default_factory=dict)
    events: float = 0.0
    last_event_s: float = 0.0
    readable: bool = True
    applied: Mapping[int, Position] = field(default_factory=dict)

    def add(self, items: Iterable[bytes], strength: int) -> None:
        """Note that something was done with items."""
        for item in items:
            self.items[item] = max(strength, self.items.get(item, 0))

    def holds(self, change: Change) -> bool:
        """Whether a change was applied to it before it was read."""
        return _position(change.entry.id) <= self.applied.get(change.batch.partition, NOWHERE)


class Visits:
    """What subjects without sessions did in the visit that they are in: a round's is kept once it was applied.

    max_subjects: beyond it, the subject whose visit began first is left out.
    """

    def __init__(self, max_subjects: int = 2_000) -> None:
        self._max_subjects = max_subjects
        self._kept: dict[str, dict[bytes, int]] = {}
        self._fresh: dict[str, dict[bytes, int]] = {}

    def begin(self, subject: str) -> dict[bytes, int]:
        """Return what a subject did in its visit, which begins: nothing."""
        self._fresh.pop(subject, None)
        return self._fresh.setdefault(subject, {})

    def of(self, subject: str) -> dict[bytes, int] | None:
        """Return what a subject did in the visit that it is in, to be added to, or None if unknown."""
        if subject not in self._fresh and subject in self._kept:
            self._fresh[subject] = dict(self._kept[subject])
        return self._fresh.get(subject)

    def forget_round(self) -> None:
        """Leave out what was noted since the last `keep_round`: those entries are read again."""
        self._fresh.clear()

    def keep_round(self) -> None:
        """Keep what was noted: its entries were applied."""
        for subject, items in self._fresh.items():
            self._kept.pop(subject, None)
            if len(items) <= MAX_IN_VISIT:
                self._kept[subject] = items
        self._fresh.clear()
        while len(self._kept) > self._max_subjects:
            del self._kept[next(iter(self._kept))]


def note_uses(engine: Engine, profiles: Engine, changes: Changes, controls: Controls[str], visits: Visits) -> None:
    """Note of each change of a user by an item what it adds to the repeat guard's fields of the population.

    engine: the store of sessions; profiles: that of profiles; controls, visits: what the worker counted before. A key that cannot
    be read counts for nothing. Raises what the client raises.
    """
    visits.forget_round()
    noted = changes.used
    if not noted:
        return
    others = [_others(one, controls) for one in noted]
    items: dict[str, set[bytes]] = {}
    partitions: dict[str, set[int]] = {}
    for one, of in zip(noted, others, strict=True):
        for base in (one.profile, one.session):
            if base is not None:
                items.setdefault(base, set()).update(one.items, of.values())
                partitions.setdefault(base, set()).add(one.batch.partition)
    sessions = {one.session for one in noted if one.session is not None}
    own = {base: wanted for base, wanted in items.items() if base not in sessions}
    known = _read(profiles, own, partitions, by_class=True)
    known |= _read(engine, {base: wanted for base, wanted in items.items() if base in sessions}, partitions)
    changes.note_uses([_uses(one, of, known, controls, visits) for one, of in zip(noted, others, strict=True)])


def _others(change: Change, controls: Controls[str]) -> dict[bytes, bytes]:
    """Return the item that another subject used last in the class of each of a change's items, and note the change."""
    found: dict[bytes, bytes] = {}
    if change.weight > 0.0 and change.profile is not None:
        level = level_of(change.weight)
        for item in change.items:
            of = _class_and(level, item)
            if (other := controls.other(of, change.profile)) is not None:
                found[item] = other.encode()
            controls.note(of, change.profile, item.decode())
    return found


def _uses(
    change: Change,
    others: Mapping[bytes, bytes],
    known: Mapping[str, _Counted],
    controls: Controls[str],
    visits: Visits,
) -> tuple[bytes, ...]:
    """Return the members that a change adds, and note in `known` and `visits` what it does."""
    assert change.profile is not None
    profile = known[change.profile]
    session = known[change.session] if change.session is not None else None
    both = [one for one in (profile, session) if one is not None]
    strength = _strength_of(change.weight)
    found: list[bytes] = []
    if session is not None:
        is_counted, done = profile.events > session.events, session.items
    else:
        visit: dict[bytes, int] | None = None  # a first visit is not remembered, so that none of it counts
        if profile.events > 0.0:
            begins = change.at_s - profile.last_event_s > VISIT_S
            visit = visits.begin(change.profile) if begins else visits.of(change.profile)
        is_counted, done = visit is not None, visit if visit is not None else {}
    if strength and all(one.readable for one in both):
        level = level_of(change.weight)
        for item in change.items if is_counted else ():
            if _is_done(done, item, strength) or not controls.has_room(of := _class_and(level, item), change.profile):
                continue
            controls.add(of, change.profile)
            found.append(_member(USES, of))
            found += _held(AGAIN, of, profile.items.get(item), strength)
            other = others.get(item)
            if other is not None and not _is_done(done, other, strength):
                found.append(_member(CONTROLS, of))
                found += _held(CHANCE, of, profile.items.get(other), strength)
    for one in both:
        if not one.holds(change):
            one.events += 1.0
        one.last_event_s = max(one.last_event_s, change.at_s)
        if strength:
            one.add(change.items, strength)
    if session is None and strength:
        for item in change.items:
            done[item] = max(strength, done.get(item, 0))
    return tuple(dict.fromkeys(found))


def _is_done(done: Mapping[bytes, int], item: bytes, strength: int) -> bool:
    """Return whether a visit did as much with an item. What did so with an unknown strength may have."""
    known = done.get(item)
    return known is not None and (known == 0 or known >= strength)


def _held(mark: str, of: str, known: int | None, strength: int) -> tuple[bytes, ...]:
    """Return the member that tells that as much was done with an item before, if it was. known: the strength of what was done."""
    if known is None or 0 < known < strength:
        return ()
    return (_member(mark, of if known else of + UNKNOWN),)


def _member(name: str, of: str) -> bytes:
    """Return a class and a weight as a member of a field."""
    return SEPARATOR.join((name, of)).encode()


def _class_and(level: str, item: bytes) -> str:
    """Return the last part of an item's member, where it has one, and the weight of an action."""
    _, _, *class_name = item.decode().split(SEPARATOR)
    return SEPARATOR.join((class_name[0] if class_name else NO_CLASS, level))


def _read(
    engine: Engine,
    items: Mapping[str, Iterable[bytes]],
    partitions: Mapping[str, Iterable[int]],
    *,
    by_class: bool = False,
) -> dict[str, _Counted]:
    listed = {
        base: (own := list(wanted), sorted(partitions[base]), _classes(own) if by_class else [])
        for base, wanted in items.items()
    }
    commands: list[Command] = []
    for base, (wanted, numbers, names) in listed.items():
        commands.append(("ZMSCORE", f"{base}:z", *_requested(wanted)))
        commands.append(("HMGET", f"{base}:m", "events", "last_event", *(f"watermark:{number}" for number in numbers)))
        if names:
            commands.append(("HMGET", f"{base}:c", *wanted_fields(names)))
    replies = iter(ran(engine, commands))
    return {
        base: _counted(wanted, numbers, names, next(replies), next(replies), next(replies) if names else ())
        for base, (wanted, numbers, names) in listed.items()
    }


def _classes(items: Iterable[bytes]) -> list[str]:
    """Return the classes of items, by their members."""
    found = (item.decode().split(SEPARATOR)[2:] for item in items)
    return list(dict.fromkeys(name for of in found for name in of))


def _requested(items: Sequence[bytes]) -> list[bytes]:
    """Return each item's member, then each one's from before its class was counted with it."""
    return [*items, *map(_without_class, items)]


def _without_class(item: bytes) -> bytes:
    return SEPARATOR.join(item.decode().split(SEPARATOR)[:2]).encode()


def _counted(
    items: Sequence[bytes], partitions: Sequence[int], classes: Sequence[str], scores: Any, meta: Any, values: Any
) -> _Counted:
    if isinstance(scores, Exception) or isinstance(meta, Exception) or isinstance(values, Exception):
        return _Counted(readable=False)
    held = _in_classes(items, classes, values)
    for item, *found in zip(items, scores[: len(items)], scores[len(items) :], strict=True):
        for score in found:
            if score is not None:
                held[item] = max(strength_in(sound(score) or 0.0), held.get(item, 0))
    events, last_event_s = (sound(number) or 0.0 for number in meta[:2])
    applied = {number: _position(text) for number, text in zip(partitions, meta[2:], strict=True)}
    return _Counted(held, events, last_event_s, applied=applied)


def _in_classes(items: Sequence[bytes], classes: Sequence[str], values: Sequence[bytes | None]) -> dict[bytes, int]:
    """Return the strengths of those items that the profile's counters by class hold. values: of the fields of their classes."""
    if not values:
        return {}
    ids: dict[str, list[str]] = {name: [] for name in classes}
    parts = {item: item.decode().split(SEPARATOR) for item in items}
    for _, name, *of in parts.values():
        if of:
            ids[of[0]].append(name)
    known = held_items(ids, values)
    return {item: known[of[0], name] for item, (_, name, *of) in parts.items() if of and (of[0], name) in known}


def _position(entry_id: str | bytes | None) -> Position:
    """Return an entry's id as numbers, in the order of the stream. What is not an id comes before all entries."""
    text = entry_id.decode("latin-1") if isinstance(entry_id, bytes) else entry_id or ""
    found = ENTRY_ID.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else NOWHERE
