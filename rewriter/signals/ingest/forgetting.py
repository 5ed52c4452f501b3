"""Removing a subject: counters, plans, what the streams and the dead letters hold of them; and seeing to it that it stays so.

The order matters. First the tombstone: from then on workers drop the subject's events up to now, wherever they come from, and a
backfill leaves them out. Then the entries: one that no worker has passed yet may be in a worker's hands, so it is waited for. Last
the keys, when nothing can write to them any more. The population's counts stay: they tell of nobody.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rewriter.signals.ingest.batch import Plan
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.scripts import FORGET, script_command, sound_replies
from rewriter.signals.redis_store import RedisStore
from rewriter.subject import pseudonym

AT_ONCE = 1_000
POLL_S = 0.1
WAIT_S = 15.0


def forget(store: RedisStore, profiles: RedisStore, plan: Plan, user: str, now_s: float) -> Counter[str]:
    """Remove a user (a `user_id`, or the `client_id` of somebody without one) and return what was removed.

    `left` counts entries that a worker holds and has not passed within 15 s; they will be dropped when it does.
    Raises what the client raises; it may be called again.
    """
    keys = StreamKeys(plan.settings.store.prefix)
    digest = pseudonym("u", user, plan.settings.store.key_salt.get_secret_value())
    sound_replies(store, [("ZADD", keys.forgotten, now_s, digest)])
    *_, count = sound_replies(store, [("GET", keys.partitions)])
    done: Counter[str] = Counter(left=0)
    sessions: set[str] = set()
    for number in range(int(count or 0)):
        waiting = keys.of_stream(number, "waiting")
        (members,) = sound_replies(store, [("ZRANGE", waiting, 0, -1)])
        own = [one for one in members if _is_of(one.partition(b"\x1f")[2], user, sessions)]
        done["waiting"] += len(own)
        sound_replies(store, [("ZREM", waiting, one) for one in own])
        ids = [entry_id for entry_id, raw in _entries(store, keys.stream(number)) if _is_of(raw, user, sessions)]
        deleted, left = _delete(store, keys, number, ids)
        done["entries"] += deleted
        done["left"] += left
        dead = keys.of_stream(number, "dead")
        letters = [
            entry_id for entry_id, raw in _entries(store, dead) if user.encode() in raw or _is_of(raw, user, set())
        ]
        done["dead_letters"] += sum(sound_replies(store, [("XDEL", dead, entry_id) for entry_id in letters]))
    bases = [plan.keys.session(session) for session in sessions] + [plan.keys.profile(user)]
    for one in {store, profiles}:
        wanted = [f"{base}:{part}" for base in bases for part in "zm"]
        wanted += [key for key in one.keys(f"{plan.keys.prefix}:*:plan:*") if key.partition(":plan:")[0] in set(bases)]
        done["keys"] += sum(sound_replies(one, [("UNLINK", key) for key in wanted]))
    return done


def _delete(store: RedisStore, keys: StreamKeys, number: int, ids: list[bytes]) -> tuple[int, int]:
    """Delete entries, and wait for the worker that still has some of them ahead."""
    late_at_s, deleted, left = time.monotonic() + WAIT_S, 0, 0
    names = [keys.of_stream(number, "lease"), keys.of_stream(number, "state"), keys.stream(number)]
    for start in range(0, len(ids), AT_ONCE):
        while True:
            (reply,) = sound_replies(store, [script_command(FORGET, names, ids[start : start + AT_ONCE])])
            deleted += reply[0]
            if not reply[1] or time.monotonic() >= late_at_s:
                left += reply[1]
                break
            time.sleep(POLL_S)
    return deleted, left


def _entries(store: RedisStore, stream: str) -> Iterator[tuple[bytes, bytes]]:
    after = "-"
    while True:
        (entries,) = sound_replies(store, [("XRANGE", stream, after, "+", "COUNT", AT_ONCE)])
        for entry_id, parts in entries:
            pairs = parts if isinstance(parts, dict) else dict(zip(parts[::2], parts[1::2], strict=True))
            yield entry_id, pairs.get(b"event", b"")
        if len(entries) < AT_ONCE:
            return
        after = f"({entries[-1][0].decode()}"


def _is_of(raw: bytes, user: str, sessions: set[str]) -> bool:
    """Whether an event is of the user; their session is noted."""
    try:
        event: Any = json.loads(raw)
    except ValueError:
        return _names(raw, user)
    if not isinstance(event, dict) or user not in (event.get("user_id"), event.get("client_id")):
        return False
    if isinstance(event.get("session_id"), str):
        sessions.add(event["session_id"])
    return True


def _names(raw: bytes, user: str) -> bool:
    """Whether the identifier stands anywhere in what is no event: better one letter too many than one too few."""
    return any(json.dumps(user, ensure_ascii=is_ascii).encode() in raw for is_ascii in (True, False))
