"""Finds which entries of a batch use an item, and which use it again: what the repeat guard counts (`rewriter.signals.repeats`).

Profiles and sessions tell which items were used before, as they are before anything of the batch is applied to them; what the
batch itself adds is known here. The population is applied before both, so a batch that is read again after a crash either
finds the population's part applied, which is then not applied again, or finds everything as it was. It may be read again with
more entries behind it, whose part of the population is new, while its first ones are applied to the profile and not to the session
yet: an entry up to a key's watermark adds nothing to what the key holds.

An entry is a use where its item is not in its session yet, and a use again where the item is in the profile. Nothing is counted
of a subject whose profile holds no other visit. Without a session, the first event after `VISIT_S` of silence stands for its visit:
later ones cannot be told from those of the same visit.

Each use is compared with the latest one of its class by another subject (`Controls`), among those that this worker counted: after a
restart, or at another worker, the first use of a class is compared with none, and a subject's share of all uses begins anew. Uses
of a batch that is applied again are noted again: they may be compared with later ones of the same batch, which are by others too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewriter.signals.class_layout import read_classes, wanted_fields
from rewriter.signals.commands import Command
from rewriter.signals.counters import SEPARATOR, sound
from rewriter.signals.ingest.batch import Change, Changes
from rewriter.signals.ingest.scripts import Engine, ran
from rewriter.signals.repeats import AGAIN, CHANCE, CONTROLS, NO_CLASS, USES, Controls

VISIT_S = 1_800.0
Position = tuple[int, int]
NOWHERE: Position = (-1, -1)
ENTRY_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


@dataclass(slots=True)
class _Counted:
    """What a profile or a session holds: the items used, how many events, and the time of the latest.

    applied: the last entry that was applied to it, by partition.
    """

    items: set[bytes] = field(default_factory=set)
    events: float = 0.0
    last_event_s: float = 0.0
    readable: bool = True
    applied: Mapping[int, Position] = field(default_factory=dict)

    def holds(self, change: Change) -> bool:
        """Whether a change was applied to it before it was read."""
        return _position(change.entry.id) <= self.applied.get(change.batch.partition, NOWHERE)


def note_uses(engine: Engine, profiles: Engine, changes: Changes, controls: Controls[str]) -> None:
    """Note of each change of a user by an item what it adds to the repeat guard's fields of the population.

    engine: the store of sessions; profiles: that of profiles; controls: what the worker counted before. A key that cannot be read
    counts for nothing. Raises what the client raises.
    """
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
    changes.note_uses([_uses(one, of, known, controls) for one, of in zip(noted, others, strict=True)])


def _others(change: Change, controls: Controls[str]) -> dict[bytes, bytes]:
    """Return the item that another subject used last in the class of each of a change's items, and note the change."""
    found: dict[bytes, bytes] = {}
    if change.weight > 0.0 and change.profile is not None:
        for item in change.items:
            class_name = _class_of(item)
            if (other := controls.other(class_name, change.profile)) is not None:
                found[item] = other.encode()
            controls.note(class_name, change.profile, item.decode())
    return found


def _uses(
    change: Change, others: Mapping[bytes, bytes], known: Mapping[str, _Counted], controls: Controls[str]
) -> tuple[bytes, ...]:
    """Return the members that a change adds, and note in `known` what it does."""
    assert change.profile is not None
    profile = known[change.profile]
    session = known[change.session] if change.session is not None else None
    both = [one for one in (profile, session) if one is not None]
    found: list[bytes] = []
    if change.weight > 0.0 and all(one.readable for one in both):
        if session is not None:
            is_counted = profile.events > session.events
            fresh = [item for item in change.items if item not in session.items]
        else:
            is_counted = profile.events > 0.0 and change.at_s - profile.last_event_s > VISIT_S
            fresh = list(change.items)
        for item in fresh if is_counted else ():
            if not controls.has_room(of := _class_of(item), change.profile):
                continue
            controls.add(of, change.profile)
            found.append(_member(USES, item))
            if item in profile.items:
                found.append(_member(AGAIN, item))
            other = others.get(item)
            if other is not None and (session is None or other not in session.items):
                found.append(_member(CONTROLS, item))
                if other in profile.items:
                    found.append(_member(CHANCE, item))
    for one in both:
        if not one.holds(change):
            one.events += 1.0
        one.last_event_s = max(one.last_event_s, change.at_s)
        if change.weight > 0.0:
            one.items.update(change.items)
    return tuple(dict.fromkeys(found))


def _member(name: str, item: bytes) -> bytes:
    """Return the class of an item as a member of a field."""
    return SEPARATOR.join((name, _class_of(item))).encode()


def _class_of(item: bytes) -> str:
    """Return the last part of an item's member, where it has one."""
    _, _, *class_name = item.decode().split(SEPARATOR)
    return class_name[0] if class_name else NO_CLASS


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
    held = _in_classes(items, classes, values) | {
        item
        for item, score, before in zip(items, scores[: len(items)], scores[len(items) :], strict=True)
        if score is not None or before is not None
    }
    events, last_event_s = (sound(number) or 0.0 for number in meta[:2])
    applied = {number: _position(text) for number, text in zip(partitions, meta[2:], strict=True)}
    return _Counted(held, events, last_event_s, applied=applied)


def _in_classes(items: Sequence[bytes], classes: Sequence[str], values: Sequence[bytes | None]) -> set[bytes]:
    """Return those of the items that the profile's counters by class hold. values: of the fields of their classes."""
    if not values:
        return set()
    known = read_classes(classes, values)
    parts = {item: item.decode().split(SEPARATOR) for item in items}
    return {
        item
        for item, (kind, name, *of) in parts.items()
        if of and of[0] in known and (kind, name) in known[of[0]].weights
    }


def _position(entry_id: str | bytes | None) -> Position:
    """Return an entry's id as numbers, in the order of the stream. What is not an id comes before all entries."""
    text = entry_id.decode("latin-1") if isinstance(entry_id, bytes) else entry_id or ""
    found = ENTRY_ID.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else NOWHERE
