"""What is said to the server, and what its answers mean: each command of a store, and the reading of each reply.

Pure. A reply is bytes that anybody may have written, so everything unsound in it is ignored by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from rewriter.errors import StoreError
from rewriter.signals.counters import Counters, Value, member, sound, value_of
from rewriter.signals.store import Signals, SignalsQuery

MAX_TEXT_BYTES = 64 * 1024
"""Of a plan, and of a text that the background reads."""
MEMBERS_AT_ONCE = 20_000
"""They take 2.5 ms of the server's time, for which the reads of searches wait."""
ANNOUNCED_S = 10
"""How long what a process says of itself holds, by the server's clock."""
NAMED_S = 600
"""How long a name stays listed: longer than clocks of machines differ, since each process strikes out by its own."""
MAX_ANNOUNCED = 256
TEXTS_AT_ONCE = 8
REPLACE = """
if redis.call('GETRANGE', KEYS[1], 0, ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""
META = ("landmark", "last_event", "events", "lag")
WRITTEN_AT_ONCE, WRITTEN_S = 500, 600
"""Members that one command writes, and how long they may wait to take their place."""
WRITE = """
local z, m, written, aged = unpack(KEYS)
local count = tonumber(ARGV[3])
if redis.call('ZCARD', written) ~= count then return redis.error_reply('what was to be written is not there: write it again') end
local known, kept, forgotten = redis.pcall('HGETALL', m), {}, nil
for i = 1, #known, 2 do
  local name = known[i]
  if name == 'forgotten' then forgotten = tonumber(known[i + 1]) end
  if name == 'forgotten' or string.match(name, '^watermark:') or string.match(name, '^part:') then
    kept[#kept + 1] = name
    kept[#kept + 1] = known[i + 1]
  end
end
if forgotten and tonumber(ARGV[2]) <= forgotten then
  redis.call('UNLINK', written)
  return 0
end
redis.call('UNLINK', z, m, aged)
if count > 0 then
  redis.call('RENAME', written, z)
  if ARGV[1] == '' then redis.call('PERSIST', z) else redis.call('EXPIRE', z, ARGV[1]) end
end
redis.call('HSET', m, unpack(ARGV, 4))
if #kept > 0 then redis.call('HSET', m, unpack(kept)) end
if ARGV[1] ~= '' then redis.call('EXPIRE', m, ARGV[1]) end
return 1
"""
"""Puts counters in the place of others.

KEYS z, m, the new z, the z that is being aged. ARGV ttl_s or '', time of the last event, number of members, (field, text) of m.
"""

Command = tuple[Any, ...]


def counters_commands(base: str, fields: tuple[str, ...], limit: int) -> list[Command]:
    """Return the two commands that read one subject and scope. The server bounds the answer, whatever was written."""
    return [
        ("ZRANGE", f"{base}:z", 0, limit - 1, "REV", "WITHSCORES"),
        ("HMGET", f"{base}:m", *META, *(f"total:{name}" for name in fields)),
    ]


def commands(query: SignalsQuery) -> list[Command]:
    """Return the commands of one pipelined read, in the order that `signals` expects their replies."""
    found: list[Command] = []
    for base in (query.session, query.profile):
        if base:
            members, meta = counters_commands(base, query.fields, query.limit)
            found += (members, (*meta, "forgotten"))
    if query.plan:
        found.append(text_command(query.plan))
    found += map(text_command, query.more_plans)
    return found


def signals(query: SignalsQuery, replies: Sequence[Any]) -> Signals:
    """Read the replies of `commands(query)`; a reply that is an exception fails its scope alone."""
    rest = iter(replies)
    counters: dict[str, Counters | None] = {"session": None, "profile": None}
    failed: set[str] = set()
    forgotten_s = 0.0
    for scope, base in (("session", query.session), ("profile", query.profile)):
        if base:
            members, meta = next(rest), next(rest)
            if isinstance(members, Exception) or isinstance(meta, Exception):
                failed.add(scope)
            else:
                *known, forgotten = meta
                counters[scope] = read_counters(members, known, query.fields)
                forgotten_s = max(forgotten_s, sound(forgotten) or 0.0)
    plan = next(rest) if query.plan else None
    if isinstance(plan, Exception):
        failed.add("plan")
        plan = None
    if not plan or len(plan) > MAX_TEXT_BYTES:
        plan = None
    more = {key: text for key, text in zip(query.more_plans, rest, strict=True) if _is_plan(text)}
    return Signals(counters["session"], counters["profile"], plan, frozenset(failed), forgotten_s, more)


def _is_plan(reply: Any) -> bool:
    return bool(reply) and not isinstance(reply, Exception) and len(reply) <= MAX_TEXT_BYTES


def read_counters(members: Iterable[Any], meta: Sequence[Any], fields: tuple[str, ...]) -> Counters | None:
    """Return the counters in a ZRANGE … WITHSCORES and an HMGET reply, or None where there are none.

    Whatever is not a finite, non-negative weight of a well-formed value is ignored by itself.
    """
    landmark_s, last_event_s, events, lag_s, *totals = map(sound, meta)
    if landmark_s is None:
        return None
    weights: dict[Value, float] = {}
    for raw, score in pairs_of(members):
        value, weight = value_of(raw), sound(score)
        if value is not None and weight:
            weights[value] = weight
    known = {name: total for name, total in zip(fields, totals, strict=True) if total}
    return Counters(weights, known, landmark_s, last_event_s or 0.0, events or 0.0, lag_s or 0.0)


def many(bases: Sequence[str], fields: tuple[str, ...], limit: int) -> Iterator[tuple[Sequence[str], list[Command]]]:
    """Yield the bases in chunks of at most `MEMBERS_AT_ONCE`, or one base, each with the commands that read it."""
    step = max(1, MEMBERS_AT_ONCE // limit)
    for start in range(0, len(bases), step):
        chunk = bases[start : start + step]
        yield chunk, [command for base in chunk for command in counters_commands(base, fields, limit)]


def many_counters(chunk: Sequence[str], replies: Sequence[Any], fields: tuple[str, ...]) -> list[Counters | None]:
    """Read the replies to one chunk of `many`. Raises StoreError where one of them is an exception."""
    found: list[Counters | None] = []
    for base, members, meta in zip(chunk, replies[::2], replies[1::2], strict=True):
        for reply in (members, meta):
            if isinstance(reply, Exception):
                raise StoreError(f"{base} cannot be read: {reply}") from reply
        found.append(read_counters(members, meta, fields))
    return found


def write_commands(base: str, counters: Counters, ttl_s: int | None) -> list[Command]:
    """Return the commands that put `counters` in the place of what stands under `base`; the reply to the last is 1 where it did.

    The members gather beside the old ones, a bounded number at a time, and take their place in one step. What `rewriter ingest`
    applied is still known afterwards. Where the subject was forgotten after the last event of `counters`, the reply is 0 and
    nothing is written. What a read would ignore is not written. Raises StoreError where `counters` have no sound landmark.
    """
    meta, members = meta_of(base, counters), members_of(counters)
    # Two writers that write the same under one name are as good as one; others do not meet.
    digest = blake2b(repr(members).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    written = f"{base}:written:{digest}"
    step = 2 * WRITTEN_AT_ONCE
    found: list[Command] = [("UNLINK", written)]
    found += [("ZADD", written, *members[start : start + step]) for start in range(0, len(members), step)]
    if members:
        found.append(("EXPIRE", written, WRITTEN_S))
    keys = (f"{base}:z", f"{base}:m", written, f"{base}:aged")
    last_s = sound(counters.last_event_s) or counters.landmark_s
    ttl = "" if ttl_s is None else ttl_s
    found.append(("EVAL", WRITE, len(keys), *keys, ttl, repr(float(last_s)), len(members) // 2, *meta))
    return found


def members_of(counters: Counters) -> list[Any]:
    """Return score and member of each weight that a read would not ignore, as ZADD takes them."""
    found: list[Any] = []
    for value, weight in counters.weights.items():
        if (score := sound(weight)) and (raw := member(value)):
            found += (repr(score), raw)
    return found


def meta_of(base: str, counters: Counters) -> list[str]:
    """Return field and text of what else is known of counters, as HSET takes them. Raises StoreError without a sound landmark."""
    if sound(counters.landmark_s) is None:
        raise StoreError(
            f"{base}: landmark_s is {counters.landmark_s!r}, not seconds since the epoch; nothing was written"
        )
    meta: Mapping[str, float] = {
        "landmark": counters.landmark_s,
        "last_event": counters.last_event_s,
        "events": counters.events,
        "lag": counters.lag_s,
        **{f"total:{name}": total for name, total in counters.totals.items()},
    }
    return [part for name, number in meta.items() if sound(number) is not None for part in (name, repr(float(number)))]


def put_command(key: str, raw: bytes, ttl_s: int | None = None) -> Command:
    """Return the command that keeps a plan or a text. Raises StoreError for one that would not be read back."""
    if len(raw) > MAX_TEXT_BYTES:
        raise StoreError(f"{len(raw):,} bytes are more than a key may hold, {MAX_TEXT_BYTES:,}; nothing was written")
    return ("SET", key, raw) if ttl_s is None else ("SET", key, raw, "EX", ttl_s)


def replace_command(key: str, before: bytes, raw: bytes) -> Command:
    """Return the command that keeps a text where `text_command` would still read `before`; its reply is 1 where it did."""
    return ("EVAL", REPLACE, 1, key, MAX_TEXT_BYTES, before, put_command(key, raw)[2])


def text_command(key: str) -> Command:
    """Return the command that reads a text: one byte more than it may have, so that a longer one shows."""
    return ("GETRANGE", key, 0, MAX_TEXT_BYTES)


def text_in(reply: bytes) -> str | None:
    """Return the text in a reply to `text_command`, or None where there is none or it is too long."""
    return reply.decode("utf-8", "replace") if reply and len(reply) <= MAX_TEXT_BYTES else None


def announce_commands(key: str, name: str, text: str, now_s: float) -> list[Command]:
    """Return the commands by which a process says how it stands, until `ANNOUNCED_S` later; old names go by the way.

    Who is listed and says nothing any more has fallen silent.
    """
    return [
        ("ZADD", key, repr(now_s), name.encode()),
        ("ZREMRANGEBYSCORE", key, "-inf", repr(now_s - NAMED_S)),
        ("EXPIRE", key, NAMED_S),
        ("SET", f"{key}:{name}", text.encode(), "EX", ANNOUNCED_S),
    ]


def announced_commands(key: str, names: Sequence[str]) -> list[Command]:
    """Return the commands that read what each of `names` said of itself."""
    return [text_command(f"{key}:{name}") for name in names]


def at_once(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the names in parts whose texts come to half a megabyte at most."""
    return (names[start : start + TEXTS_AT_ONCE] for start in range(0, len(names), TEXTS_AT_ONCE))


def announced_names(reply: Sequence[Any]) -> list[str]:
    """Return the names in a reply to `names_command`, the latest first."""
    return [raw.decode("utf-8", "replace") for raw, _ in pairs_of(reply)]


def names_command(key: str) -> Command:
    """Return the command that lists who announced itself under `key`."""
    return ("ZRANGE", key, 0, MAX_ANNOUNCED - 1, "REV", "WITHSCORES")


def pairs_of(members: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """Return members with their scores: RESP2 gives a flat list, RESP3 and redis-py's own ZSCAN a list of pairs."""
    listed = list(members)
    return listed if listed and isinstance(listed[0], (list, tuple)) else zip(listed[::2], listed[1::2], strict=True)
