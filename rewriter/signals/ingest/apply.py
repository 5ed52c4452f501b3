"""Application of a batch's changes to counters, in calls small enough that reads of searches run in between.

The calls of a key are sent in the order of the stream, those of all keys at once. Each call has the position that the previous one
must have reached. A call out of turn (the server did not know the script, or refused the previous call) changes nothing and is sent
again. A key with too many members to be aged inside a call is first aged in steps by age.lua.

The population and the segments go first, since what the repeat guard counts is worked out of profiles and sessions as they were
before the batch (`reuse`). Profiles go before sessions: apply.lua notes a session with its profile, in one step, and returns
whether the user was forgotten meanwhile. So `forget` either finds the session and leaves a tombstone there, or the session's part
of the entry is never sent. It also returns sessions that it notes no longer, of a user who has too many: their keys are removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from rewriter.errors import Fault, StoreError
from rewriter.signals.commands import Command
from rewriter.signals.ingest.batch import PARTLY_COUNTED, Change, Changes, CounterKey, CountingRules
from rewriter.signals.ingest.scripts import AGE, APPLY, Engine, ran, script_command, sound_replies
from rewriter.signals.neighbours import Near

PER_CALL = 256
"""Members that one call may change, plus `PER_ENTRY` for each entry: about a millisecond of the server's time."""
PER_ENTRY = 4
PER_PART = 192
"""Members of one entry in one call; the others are sent in further parts."""
AGED_AT_ONCE = 300
MAX_REFUSED = 5

_OUT_OF_TURN, _TOO_OLD = -1, -2
NO_NEIGHBOURS: Mapping[bytes, Near] = {}
Calls = dict[CounterKey, list[Command]]


def apply_changes(engine: Engine, profiles: Engine, changes: Changes, plan: CountingRules) -> None:
    """Apply changes to every key. A key of a wrong type fails only its own entries.

    engine:   the store of sessions.
    profiles: the store of profiles, segments and population.
    An entry whose user was erased meanwhile gets the fate `forgotten`. Raises StoreError, or the client's exception; changes
    applied before stay, and their watermarks prevent that they are applied again.
    """
    _sent(profiles, {target: of for target, of in changes.by_target.items() if target.scope == "population"}, plan)
    shared = {target: of for target, of in changes.by_target.items() if target.scope == "profile"}
    dropped: set[str] = set()
    forgotten = _sent(profiles, shared, plan, changes.near, dropped)
    until_s = {target.base: time_s for target, time_s in forgotten.items()}
    sessions: dict[CounterKey, list[Change]] = {}
    for target, of in changes.by_target.items():
        if target.scope == "session":
            left = [one for one in of if not _is_forgotten(one, until_s)]
            if left:
                sessions[target] = left
    for target, of in shared.items():
        if target.base in until_s:
            for one in of:
                if _is_forgotten(one, until_s):
                    one.batch.counted_as("forgotten", one.entry)
    _sent(engine, sessions, plan)
    bases = [plan.keys.session_base(digits) for digits in sorted(dropped)]
    numbers = range(plan.settings.store.plans_per_subject)
    parts = ("z", "m", "aged", *(f"plan:{number}" for number in numbers))
    sound_replies(engine, [("UNLINK", *(f"{base}:{part}" for part in parts)) for base in bases])


def _is_forgotten(change: Change, until_s: Mapping[str, float]) -> bool:
    return change.profile is not None and change.at_s <= until_s.get(change.profile, float("-inf"))


def _sent(
    engine: Engine,
    wanted: Mapping[CounterKey, Sequence[Change]],
    plan: CountingRules,
    near: Mapping[bytes, Near] = NO_NEIGHBOURS,
    dropped: set[str] | None = None,
) -> dict[CounterKey, float]:
    """Apply changes; return, for targets of erased subjects, the time of the erasure (seconds since the epoch).

    dropped: gets the digits of sessions that a profile notes no longer.
    """
    calls: Calls = {target: list(calls_of(target, of, plan, near)) for target, of in wanted.items()}
    forgotten: dict[CounterKey, float] = {}
    refused = 0
    while calls:
        order = [(target, command) for target, of in calls.items() for command in of]
        again: Calls = {}
        to_age: dict[CounterKey, str] = {}
        wrong: set[CounterKey] = set()
        for (target, command), reply in zip(order, ran(engine, [command for _, command in order]), strict=True):
            if target in wrong:
                continue
            if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
                wrong.add(target)
                again.pop(target, None)
                _set_aside(target, wanted[target])
            elif isinstance(reply, Exception):
                raise reply
            elif target in again or reply[0] < 0:
                again.setdefault(target, []).append(command)
                if reply[0] == _TOO_OLD:
                    to_age[target] = reply[1].decode()
            else:
                if reply[1]:
                    forgotten[target] = float(reply[1])
                if dropped is not None:
                    dropped.update(digits.decode() for digits in reply[2])
        for target, to_s in to_age.items():
            _age(engine, target, to_s, plan)
        refused = 0 if to_age else refused + 1
        if again and refused >= MAX_REFUSED:
            raise StoreError("the store refuses changes as out of turn: does an older version of a worker run too?")
        calls = again
    return forgotten


def calls_of(
    target: CounterKey, changes: Sequence[Change], plan: CountingRules, near: Mapping[bytes, Near] = NO_NEIGHBOURS
) -> Iterator[Command]:
    """Yield the calls of apply.lua for one key, in the order of the stream, each bounded in its members.

    near: neighbours by the member of an item, which count with the item.
    """
    scope, before = plan.scopes[target.scope], ""
    by_class = target.scope == "profile" and plan.settings.class_field is not None
    parts_of_key = ("z", "m", "sessions", "c") if by_class else ("z", "m", "sessions")
    names = [f"{target.base}:{part}" for part in parts_of_key]
    combined = sorted(plan.class_combinations) if by_class else []
    head = [*scope.decay_arguments, target.partition, int(scope.ttl_s), scope.kept]
    session_ttl_s = int(plan.settings.signals.session_ttl_s)
    for parts in _filled(changes, near if by_class else NO_NEIGHBOURS):
        sessions: Sequence[str] = ()
        if target.scope == "profile":
            named = (change.session for change, *_ in parts)
            sessions = tuple(dict.fromkeys(plan.keys.digest(base) for base in named if base is not None))
        arguments = [*head, before, len(sessions), *sessions, session_ttl_s, len(combined), *combined]
        arguments += _near_arguments(parts, near) if by_class else (0,)
        for change, weight, part, members in parts:
            arguments += (*change.head[:2], weight, part, len(members), *members)
        last, _, part, _ = parts[-1]
        before = f"{last.entry.id}/{part}" if part else last.entry.id
        yield script_command(APPLY, names, arguments)


_Part = tuple[Change, str, int, tuple[bytes, ...]]


def _near_arguments(parts: Sequence[_Part], near: Mapping[bytes, Near]) -> list[Any]:
    """Return the number of items in `parts` that have neighbours; of each its member, their number, each one and its strength."""
    found: list[Any] = [0]
    for member in dict.fromkeys(one for part in parts for one in part[3]):
        if others := near.get(member):
            found += (member, len(others), *(one for other, strength in others for one in (other, repr(strength))))
            found[0] += 1
    return found


def _filled(changes: Sequence[Change], near: Mapping[bytes, Near]) -> Iterator[list[_Part]]:
    """Yield parts of entries by the call: parts are cut within an entry alone, so that they are the same however it is batched."""
    call: list[_Part] = []
    room = PER_CALL
    for change in changes:
        for part in _parts(change):
            cost = len(part[3]) + PER_ENTRY
            if near:
                cost += sum([len(near[one]) for one in part[3] if one in near])
            if call and cost > room:
                yield call
                call, room = [], PER_CALL
            call.append(part)
            room -= cost
    if call:
        yield call


def _parts(change: Change) -> Iterator[_Part]:
    """Yield a change's parts, each with a weight and a number: 1, 2 … and 0, the last. Uses, which count 1 each, are the last."""
    if change.uses is None and len(change.members) <= PER_PART:
        yield change, change.head[2], 0, change.members
        return
    starts = range(0, max(1, len(change.members)), PER_PART)
    for number, start in enumerate(starts, 1):
        is_last = number == len(starts) and change.uses is None
        yield change, change.head[2], 0 if is_last else number, change.members[start : start + PER_PART]
    if change.uses is not None:
        yield change, "1", 0, change.uses


def _age(engine: Engine, target: CounterKey, to_s: str, plan: CountingRules) -> None:
    """Age one key, one step per round trip."""
    scope = plan.scopes[target.scope]
    names = [f"{target.base}:{part}" for part in ("z", "m", "aged")]
    step = script_command(AGE, names, [*scope.decay_arguments, to_s, int(scope.ttl_s), AGED_AT_ONCE])
    while sound_replies(engine, [step]) != [0]:
        pass


def _set_aside(target: CounterKey, changes: Sequence[Change]) -> None:
    fault = Fault(f"the {target.scope}'s key", PARTLY_COUNTED, "delete it")
    for change in changes:
        change.batch.dead.append((change.entry, fault))
