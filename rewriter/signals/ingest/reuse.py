"""Finds which entries of a batch use an item, and which use it again: what the repeat guard counts (`rewriter.signals.repeats`).

Profiles and sessions tell which items were used before, as they are before anything of the batch is applied to them; what the
batch itself adds is known here. The population is applied before both, so a batch that is read again after a crash either
finds the population's part applied, which is then not applied again, or finds everything as it was.

An entry is a use where its item is not in its session yet, and a use again where the item is in the profile. Nothing is counted
of a subject whose profile holds no other visit. Without a session, the first event after `VISIT_S` of silence stands for its visit:
later ones cannot be told from those of the same visit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewriter.signals.commands import Command
from rewriter.signals.counters import SEPARATOR, sound
from rewriter.signals.ingest.batch import Change, Changes
from rewriter.signals.ingest.scripts import Engine, ran
from rewriter.signals.repeats import AGAIN, NO_CLASS, USES

VISIT_S = 1_800.0


@dataclass(slots=True)
class _Counted:
    """What a profile or a session holds: the items used, how many events, and the time of the latest."""

    items: set[bytes] = field(default_factory=set)
    events: float = 0.0
    last_event_s: float = 0.0
    readable: bool = True


def note_uses(engine: Engine, profiles: Engine, changes: Changes) -> None:
    """Note of each change of a user by an item what it adds to the repeat guard's fields of the population.

    engine: the store of sessions; profiles: that of profiles. A key that cannot be read counts for nothing. Raises what the
    client raises.
    """
    noted = changes.used
    if not noted:
        return
    items: dict[str, set[bytes]] = {}
    for one in noted:
        for base in (one.profile, one.session):
            if base is not None:
                items.setdefault(base, set()).update(one.items)
    sessions = {one.session for one in noted if one.session is not None}
    known = _read(profiles, {base: wanted for base, wanted in items.items() if base not in sessions})
    known |= _read(engine, {base: wanted for base, wanted in items.items() if base in sessions})
    changes.note_uses([_uses(one, known) for one in noted])


def _uses(change: Change, known: Mapping[str, _Counted]) -> tuple[bytes, ...]:
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
            found.append(_member(USES, item))
            if item in profile.items:
                found.append(_member(AGAIN, item))
    for one in both:
        one.events += 1.0
        one.last_event_s = max(one.last_event_s, change.at_s)
        if change.weight > 0.0:
            one.items.update(change.items)
    return tuple(dict.fromkeys(found))


def _member(name: str, item: bytes) -> bytes:
    """Return the class of an item (the last part of its member, where it has one) as a member of a field."""
    _, _, *class_name = item.decode().split(SEPARATOR)
    return SEPARATOR.join((name, class_name[0] if class_name else NO_CLASS)).encode()


def _read(engine: Engine, items: Mapping[str, Iterable[bytes]]) -> dict[str, _Counted]:
    listed = {base: list(wanted) for base, wanted in items.items()}
    commands: list[Command] = []
    for base, wanted in listed.items():
        commands.append(("ZMSCORE", f"{base}:z", *_requested(wanted)))
        commands.append(("HMGET", f"{base}:m", "events", "last_event"))
    replies = ran(engine, commands)
    return {
        base: _counted(wanted, scores, meta)
        for (base, wanted), scores, meta in zip(listed.items(), replies[::2], replies[1::2], strict=True)
    }


def _requested(items: Sequence[bytes]) -> list[bytes]:
    """Return each item's member, then each one's from before its class was counted with it."""
    return [*items, *map(_without_class, items)]


def _without_class(item: bytes) -> bytes:
    return SEPARATOR.join(item.decode().split(SEPARATOR)[:2]).encode()


def _counted(items: Sequence[bytes], scores: Any, meta: Any) -> _Counted:
    if isinstance(scores, Exception) or isinstance(meta, Exception):
        return _Counted(readable=False)
    held = {
        item
        for item, score, before in zip(items, scores[: len(items)], scores[len(items) :], strict=True)
        if score is not None or before is not None
    }
    events, last_event_s = (sound(number) or 0.0 for number in meta)
    return _Counted(held, events, last_event_s)
