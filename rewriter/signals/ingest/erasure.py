"""Erasure of subjects: removes counters, sessions, plans and dead letters, and prevents that earlier events restore them.

First users are added to the list of tombstones, `rw:forgotten`: from then on workers drop their earlier events from any source, and
a backfill leaves them out. Then their keys are removed. Each keeps a tombstone of its own, which refuses a worker that is applying
a batch and a job that writes the profile. A profile lists its sessions, and the keys of a subject's plans are known, so only dead
letters are scanned, once for all users. Processes are notified to drop plans and cached signals.

The streams are not read: a worker drops the users' entries when it reads them, and they expire after `retention_s`, as waiting
entries do. The counts of the population and of the segments stay, since they identify no person.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from secrets import token_hex
from typing import Any

from rewriter.errors import StoreError
from rewriter.plural import count_of
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.dead_letters import of_one_partition
from rewriter.signals.ingest.scripts import FORGET, LOOK, ran, script_command, sound_replies
from rewriter.signals.partitions import partition_count
from rewriter.signals.redis_store import RedisStore
from rewriter.subject import pseudonym

USERS_AT_ONCE, LETTERS_AT_ONCE, TOMBS_AT_ONCE = 100, 200, 1_000
PARTS = ("z", "m", "aged", "sessions", "c", "fresh", "fresh:c")
"""Of a base, the keys that hold data of its subject."""

_ID_KEY = re.compile(r"""["']?\b(?:user_id|client_id)["']?\s*[:=]\s*(?:("(?:[^"\\]|\\.)*")|'([^']*)'|([^\s,"'}\]]+))""")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
SOUGHT_USERS = 8
"""Limit of users for which letters are first searched for the bytes of their ids, so that most need not be parsed."""


def forget(
    store: RedisStore, profiles: RedisStore, plan: CountingRules, user: str, until_s: float | None = None
) -> Counter[str]:
    """Erase one user; see `forget_all`."""
    return forget_all(store, profiles, plan, [user], until_s)[0]


def forget_all(
    store: RedisStore, profiles: RedisStore, plan: CountingRules, users: Sequence[str], until_s: float | None = None
) -> tuple[Counter[str], list[int]]:
    """Erase users, each given by `user_id`, or by `client_id` if they have none.

    until_s: events up to this time are erased (seconds since the epoch); by default the store's present time.
    Returns the numbers of removed users, profiles, sessions, plans, dead_letters and of unknown users, and the indices in `users`
    of the unknown ones: those without any data that were not erased before. Raises the client's exception; it may be called again.
    Raises StoreError in the end if the dead letters of some partitions cannot be read: all else was erased.
    """
    keys, salt = StreamKeys(plan.settings.store.prefix), plan.settings.store.key_salt.get_secret_value()
    *_, count = sound_replies(store, [("GET", keys.partitions)])
    partitions = range(1 if count is None else partition_count(keys.partitions, count))
    if until_s is None:
        until_s = _now_s(store, keys, partitions)
    digests = [pseudonym("u", user, salt) for user in users]
    known = _entombed(store, keys, digests, until_s)
    done: Counter[str] = Counter(users=len(users), profiles=0, sessions=0, plans=0, dead_letters=0, unknown=0)
    for start in range(0, len(users), USERS_AT_ONCE):
        some = range(start, min(start + USERS_AT_ONCE, len(users)))
        for at, has_profile in zip(
            some, _erased(store, profiles, plan, [users[at] for at in some], until_s, done), strict=True
        ):
            known[at] |= has_profile
    index_of = {user: at for at, user in enumerate(users)}
    may_name = _may_name(index_of.keys())
    unreadable: list[str] = []
    for partition in partitions:
        stream = keys.of_stream(partition, "dead")
        with of_one_partition(unreadable):
            for letters in _letters(store, stream):
                own = [
                    (entry_id, named)
                    for entry_id, raw in letters
                    if may_name(raw) and (named := named_in(raw, index_of.keys()))
                ]
                done["dead_letters"] += (
                    sum(sound_replies(store, [("XDEL", stream, *(one for one, _ in own))])) if own else 0
                )
                for _, named in own:
                    for user in named:
                        known[index_of[user]] = True
    sound_replies(store, [("SET", keys.forgets, token_hex(8))])
    if unreadable:
        raise StoreError(
            f"all was erased but the dead letters of {count_of(len(unreadable), 'partition')}: {unreadable[0]}"
        )
    unknown = [at for at, is_known in enumerate(known) if not is_known]
    done["unknown"] = len(unknown)
    return done, unknown


def _now_s(store: RedisStore, keys: StreamKeys, partitions: Sequence[int]) -> float:
    """Return the latest time of the servers with streams (seconds since the epoch): all their entries were received before it."""
    looks = [script_command(LOOK, [keys.of_stream(one, "state"), keys.stream(one)], []) for one in partitions]
    replies = ran(store, looks)
    times_ms = [int(reply[-1]) for reply in replies if not isinstance(reply, Exception)]
    if error := next(
        (one for one in replies if isinstance(one, Exception) and not (is_of_one(one) and times_ms)), None
    ):
        raise error
    return (max(times_ms) + 1) / 1000.0


def _entombed(store: RedisStore, keys: StreamKeys, digests: Sequence[str], until_s: float) -> list[bool]:
    """Add users to the list of tombstones; return, for each, whether they were on it before."""
    known = []
    for start in range(0, len(digests), USERS_AT_ONCE):
        some = digests[start : start + USERS_AT_ONCE]
        scored = [part for digest in some for part in (until_s, digest)]
        scores, _ = sound_replies(store, [("ZMSCORE", keys.forgotten, *some), ("ZADD", keys.forgotten, "GT", *scored)])
        known += [score is not None for score in scores]
    return known


def _erased(
    store: RedisStore,
    profiles: RedisStore,
    plan: CountingRules,
    users: Sequence[str],
    until_s: float,
    done: Counter[str],
) -> list[bool]:
    """Remove the keys of users, of their sessions, and their plans; return, for each user, whether there were any."""
    signals, names = plan.settings.signals, plan.keys
    bases = [names.profile(user) for user in users]
    had, sessions = _tombs(profiles, bases, until_s, signals.profile_ttl_s)
    digests = [digest.decode("utf-8", "replace") for one in sessions for digest in one]
    theirs = [names.session_base(digest) for digest in digests]
    were, _ = _tombs(store, theirs, until_s, max(signals.session_ttl_s, plan.settings.ingest.retention_s))
    numbers = range(plan.settings.store.plans_per_subject)  # a user's own plans, too, are in the store of sessions
    plans = [("UNLINK", *(f"{base}:plan:{number}" for number in numbers)) for base in (*bases, *theirs)]
    done["profiles"] += sum(had)
    done["sessions"] += sum(were)
    done["plans"] += sum(sound_replies(store, plans))
    return [bool(one or named) for one, named in zip(had, sessions, strict=True)]


def _tombs(
    store: RedisStore, bases: Sequence[str], until_s: float, ttl_s: float
) -> tuple[list[bool], list[list[bytes]]]:
    """Replace the keys of each base by a tombstone; return whether each had counters, and the sessions listed with it."""
    replies = []
    for start in range(0, len(bases), TOMBS_AT_ONCE):
        wanted = [
            script_command(FORGET, [f"{base}:{part}" for part in PARTS], [repr(until_s), int(ttl_s)])
            for base in bases[start : start + TOMBS_AT_ONCE]
        ]
        replies += sound_replies(store, wanted)
    return [bool(one[0]) for one in replies], [one[1] for one in replies]


def _letters(store: RedisStore, stream: str) -> Iterator[list[tuple[bytes, bytes]]]:
    after = "-"
    while True:
        (entries,) = sound_replies(store, [("XRANGE", stream, after, "+", "COUNT", LETTERS_AT_ONCE)])
        if not entries:
            return
        pairs = [
            (entry_id, parts if isinstance(parts, dict) else dict(zip(parts[::2], parts[1::2], strict=True)))
            for entry_id, parts in entries
        ]
        yield [(entry_id, parts.get(b"event", b"")) for entry_id, parts in pairs]
        after = f"({entries[-1][0].decode()}"


def _may_name(users: Collection[str]) -> Callable[[bytes], bool]:
    """Return a fast test whether a letter may contain one of `users`: without a backslash, an identifier's bytes are in the letter.

    For fractions the test is always true, since `1e1` is the id "10.0".
    """
    sought = [user.encode("utf-8", "surrogateescape") for user in users if not _is_fraction(user)]
    if len(users) > SOUGHT_USERS or len(sought) < len(users):
        return lambda _: True
    sought.append(b"\\")
    return lambda raw: any(one in raw for one in sought)


def _is_fraction(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not text.lstrip("-").isdecimal()


def named_in(raw: bytes, users: Collection[str]) -> set[str]:
    """Return those of `users` whose id is exactly the `user_id` or `client_id` of a dead letter.

    If the letter is no JSON, readable values of these two keys count, and without any, quoted texts.
    """
    found = parse(raw)
    if isinstance(found, Event):
        return {one for one in (found.user_id, found.client_id) if one is not None and one in users}
    try:
        event: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return _named_in_text(raw.decode("utf-8", "replace"), users)
    if not isinstance(event, dict):
        return set()
    values = (event.get(key) for key in ("user_id", "client_id"))
    return {str(one) for one in values if isinstance(one, (str, int, float)) and str(one) in users}


def _named_in_text(text: str, users: Collection[str]) -> set[str]:
    values = [_unquoted(quoted) if quoted else single or bare for quoted, single, bare in _ID_KEY.findall(text)]
    return {one for one in values or map(_unquoted, _QUOTED.findall(text)) if one in users}


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]
