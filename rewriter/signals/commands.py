"""Commands of a store, and the parsing of their replies.

Pure. Any client of the store may have written a reply's bytes, so each invalid part is ignored by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b, sha1
from typing import Any

from rewriter.errors import StoreError
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_items import HASH_FIELDS, with_items
from rewriter.signals.class_layout import packed_classes, read_classes, wanted_fields
from rewriter.signals.counters import Counters, member, sound, weights_of
from rewriter.signals.store import NewPlan, SavedPlans, Signals, SignalsQuery

MAX_TEXT_BYTES = 64 * 1024
"""Limit of a plan, and of a text that the background reads."""
MEMBERS_AT_ONCE = 20_000
"""Members of one read; they take 2.5 ms of the server's time, for which the reads of searches wait."""
ANNOUNCED_S = 10
"""Time to live of a process's report, by the server's clock."""
NAMED_S = 600
"""Time for which a process stays listed. It exceeds the difference of clocks, since each process removes names by its own clock."""
MAX_ANNOUNCED = 256
TEXTS_AT_ONCE = 8
REPLACE = """
if redis.call('GETRANGE', KEYS[1], 0, ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""
SAVE_PLAN = """
local forgotten = redis.pcall('HGET', KEYS[2], 'forgotten')
if type(forgotten) == 'table' and forgotten.err and not string.find(forgotten.err, 'WRONGTYPE', 1, true) then return forgotten end
forgotten = type(forgotten) == 'string' and tonumber(forgotten)
if forgotten and forgotten > tonumber(ARGV[3]) then return 0 end
if ARGV[4] ~= '' then
  local now = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[5])
  if type(now) == 'table' and now.err and not string.find(now.err, 'WRONGTYPE', 1, true) then return now end
  if type(now) == 'string' and now ~= '' and redis.sha1hex(now) ~= ARGV[4] then return now end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
"""Writes a page plan, unless its subject was erased since: plans wait for others, and an erasure may come first.

If the plan that it continues is not the one in the store any more, it writes nothing and returns the one in the store: another page
of the list was shown meanwhile.

KEYS the plan, the m of its base. ARGV the plan, ttl_s, up to when the subject had been erased when the list began, the SHA-1 of the
plan that it continues ("" if the list begins anew), the limit of a text.
"""
META = ("landmark", "last_event", "events", "lag")
PARTS_AT_ONCE = 16
"""Names and values of buckets of classes that one command writes: 8 of each."""
WRITTEN_AT_ONCE, WRITTEN_S = 500, 600
"""Members that one command writes, and the time to live of the key in which they are staged."""
WRITE = """
local z, m, written, aged, c, written_c = unpack(KEYS)
local count = tonumber(ARGV[3])
if redis.call('ZCARD', written) ~= count then return redis.error_reply('the staged counters are gone: write them again') end
local known, kept, forgotten = redis.pcall('HGETALL', m), {}, nil
if known.err and not string.find(known.err, 'WRONGTYPE', 1, true) then return known end -- a role that may not read it
for i = 1, #known, 2 do
  local name = known[i]
  if name == 'forgotten' then forgotten = tonumber(known[i + 1]) end
  if name == 'forgotten' or string.match(name, '^watermark:') or string.match(name, '^part:') then
    kept[#kept + 1] = name
    kept[#kept + 1] = known[i + 1]
  end
end
if forgotten and tonumber(ARGV[2]) <= forgotten then
  redis.call('UNLINK', written, written_c)
  return 0
end
redis.call('UNLINK', z, m, aged, c)
for new, old in pairs({ [written] = z, [written_c] = c }) do
  if redis.call('EXISTS', new) == 1 then
    redis.call('RENAME', new, old)
    if ARGV[1] == '' then redis.call('PERSIST', old) else redis.call('EXPIRE', old, ARGV[1]) end
  end
end
redis.call('HSET', m, unpack(ARGV, 4))
if #kept > 0 then redis.call('HSET', m, unpack(kept)) end
if ARGV[1] ~= '' then redis.call('EXPIRE', m, ARGV[1]) end
return 1
"""
"""Replaces counters by staged ones, atomically.

KEYS z, m, the new z, the z that is being aged, c, the new c.
ARGV ttl_s or '', time of the last event, number of members, (field, text) of m.
"""

Command = tuple[Any, ...]


def counters_commands(base: str, fields: tuple[str, ...], limit: int) -> list[Command]:
    """Return the two commands that read one subject and scope. The server bounds the answer, whatever the keys hold."""
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
    if query.profile and query.classes:
        found.append(("HMGET", f"{query.profile}:c", *wanted_fields(query.classes)))
    if query.profile and query.every:
        found.append(("HMGET", f"{query.profile}:c", *HASH_FIELDS))
    if query.plan:
        found.append(text_command(query.plan))
    found += map(text_command, query.more_plans)
    return found


def signals(query: SignalsQuery, replies: Sequence[Any]) -> Signals:
    """Parse the replies to `commands(query)`; a reply that is an exception fails only its scope."""
    left = iter(replies)
    counters: dict[str, Counters | None] = {"session": None, "profile": None}
    failed: set[str] = set()
    forgotten_s = 0.0
    for scope, base in (("session", query.session), ("profile", query.profile)):
        if base:
            members, meta = next(left), next(left)
            if isinstance(members, Exception) or isinstance(meta, Exception):
                failed.add(scope)
            else:
                *known, forgotten = meta
                counters[scope] = read_counters(members, known, query.fields)
                forgotten_s = max(forgotten_s, sound(forgotten) or 0.0)
    classes: dict[str, ClassCounters] = {}
    if query.profile and query.classes:
        values = next(left)  # where it is an exception, nothing of the profile's is known by class
        classes = read_classes(query.classes, () if isinstance(values, Exception) else values)
    if query.profile and query.every:
        values, profile = next(left), counters["profile"]
        if profile is not None and not isinstance(values, Exception):
            counters["profile"] = with_items(profile, values, query.every, query.limit)
    plan = next(left) if query.plan else None
    if isinstance(plan, Exception):
        failed.add("plan")
        plan = None
    if not plan or len(plan) > MAX_TEXT_BYTES:
        plan = None
    more = {key: text for key, text in zip(query.more_plans, left, strict=True) if _is_plan(text)}
    return Signals(counters["session"], counters["profile"], plan, frozenset(failed), forgotten_s, more, classes)


def _is_plan(reply: Any) -> bool:
    return bool(reply) and not isinstance(reply, Exception) and len(reply) <= MAX_TEXT_BYTES


def read_counters(members: Iterable[Any], meta: Sequence[Any], fields: tuple[str, ...]) -> Counters | None:
    """Return the counters in the replies to ZRANGE … WITHSCORES and HMGET, or None if there are none.

    Weights that are not finite and non-negative, and malformed values, are ignored one by one.
    """
    landmark_s, last_event_s, events, lag_s, *totals = map(sound, meta)
    if landmark_s is None:
        return None
    known = {name: total for name, total in zip(fields, totals, strict=True) if total}
    return Counters(weights_of(pairs_of(members)), known, landmark_s, last_event_s or 0.0, events or 0.0, lag_s or 0.0)


def many(bases: Sequence[str], fields: tuple[str, ...], limit: int) -> Iterator[tuple[Sequence[str], list[Command]]]:
    """Yield the bases in chunks of at most `MEMBERS_AT_ONCE` members (at least one base), each with the commands that read it."""
    step = max(1, MEMBERS_AT_ONCE // limit)
    for start in range(0, len(bases), step):
        chunk = bases[start : start + step]
        yield chunk, [command for base in chunk for command in counters_commands(base, fields, limit)]


def many_counters(chunk: Sequence[str], replies: Sequence[Any], fields: tuple[str, ...]) -> list[Counters | None]:
    """Parse the replies to one chunk of `many`. Raises StoreError if one of them is an exception."""
    found: list[Counters | None] = []
    for base, members, meta in zip(chunk, replies[::2], replies[1::2], strict=True):
        for reply in (members, meta):
            if isinstance(reply, Exception):
                raise StoreError(f"{base} cannot be read: {reply}") from reply
        found.append(read_counters(members, meta, fields))
    return found


def write_commands(
    base: str, counters: Counters, ttl_s: int | None, classes: Mapping[str, ClassCounters] | None = None
) -> list[Command]:
    """Return the commands that replace the counters under `base`; the reply to the last one is 1 if they were replaced.

    The members are staged in a key of their own, a bounded number per command, and replace the old ones in one step. The watermarks
    of `rewriter ingest` are kept. If the subject was erased after the last event of `counters`, the reply is 0 and nothing is
    written. Parts that a read would ignore are not written. Raises StoreError for an invalid landmark.
    """
    meta, members = meta_of(base, counters), members_of(counters)
    # The staging key depends on the content: two writers of equal counters may share it, others have keys of their own.
    digest = blake2b(repr(members).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    written = f"{base}:written:{digest}"
    step = 2 * WRITTEN_AT_ONCE
    found: list[Command] = [("UNLINK", written)]
    found += [("ZADD", written, *members[start : start + step]) for start in range(0, len(members), step)]
    if members:
        found.append(("EXPIRE", written, WRITTEN_S))
    written_c = f"{written}:c"
    found += staged_classes(written_c, classes or {}, WRITTEN_S)
    keys = (f"{base}:z", f"{base}:m", written, f"{base}:aged", f"{base}:c", written_c)
    last_s = sound(counters.last_event_s) or counters.landmark_s
    ttl = "" if ttl_s is None else ttl_s
    found.append(("EVAL", WRITE, len(keys), *keys, ttl, repr(float(last_s)), len(members) // 2, *meta))
    return found


def staged_classes(key: str, classes: Mapping[str, ClassCounters], ttl_s: int) -> list[Command]:
    """Return the commands that write counters by class under a key that replaces another."""
    found: list[Command] = [("UNLINK", key)]
    named = [part for pair in packed_classes(classes).items() for part in pair]
    found += [("HSET", key, *named[start : start + PARTS_AT_ONCE]) for start in range(0, len(named), PARTS_AT_ONCE)]
    if named:  # before the rest: a writer that is killed in between leaves nothing for ever
        found.insert(2, ("EXPIRE", key, ttl_s))
    return found


def members_of(counters: Counters) -> list[Any]:
    """Return score and member of each weight that a read would not ignore, as arguments of ZADD."""
    found: list[Any] = []
    for value, weight in counters.weights.items():
        if (score := sound(weight)) and (raw := member(value)):
            found += (repr(score), raw)
    return found


def meta_of(base: str, counters: Counters) -> list[str]:
    """Return field and text of the counters' meta hash, as arguments of HSET. Raises StoreError for an invalid landmark."""
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


def put_command(key: str, raw: bytes) -> Command:
    """Return the command that writes a text. Raises StoreError for one that is too long to be read back."""
    if len(raw) > MAX_TEXT_BYTES:
        raise StoreError(f"{len(raw):,} bytes exceed the limit of a key, {MAX_TEXT_BYTES:,}; nothing was written")
    return ("SET", key, raw)


def plan_commands(plans: Sequence[NewPlan]) -> list[Command]:
    """Return the commands that write page plans, without those that are too long to be read back. See `plans_in`."""
    return [
        (
            "EVAL", SAVE_PLAN, 2, one.key, f"{one.key.rpartition(':plan:')[0]}:m",
            one.plan, one.ttl_s, repr(one.forgotten_s), sha1_of(one.base), MAX_TEXT_BYTES,
        )
        for one in plans
        if len(one.plan) <= MAX_TEXT_BYTES
    ]  # fmt: skip


def sha1_of(plan: bytes) -> str:
    """Return how SAVE_PLAN names the plan that another one continues."""
    return sha1(plan, usedforsecurity=False).hexdigest() if plan else ""


def plans_in(plans: Sequence[NewPlan], replies: Sequence[Any]) -> SavedPlans:
    """Return which plans were not stored, from the replies to `plan_commands`."""
    sent = [one for one in plans if len(one.plan) <= MAX_TEXT_BYTES]
    changed = {one.key: raw for one, raw in zip(sent, replies, strict=True) if isinstance(raw, bytes)}
    return SavedPlans(len(plans) - len(changed) - list(replies).count(1), changed)


def replace_command(key: str, before: bytes, raw: bytes) -> Command:
    """Return the command that writes a text if `text_command` would still read `before`; its reply is 1 if it was written."""
    return ("EVAL", REPLACE, 1, key, MAX_TEXT_BYTES, before, put_command(key, raw)[2])


def text_command(key: str) -> Command:
    """Return the command that reads a text: one byte more than the limit, so that a longer text is recognized."""
    return ("GETRANGE", key, 0, MAX_TEXT_BYTES)


def text_in(reply: bytes) -> str | None:
    """Return the text in a reply to `text_command`, or None if there is none or it is too long."""
    return reply.decode("utf-8", "replace") if reply and len(reply) <= MAX_TEXT_BYTES else None


def announce_commands(key: str, name: str, text: str, now_s: float) -> list[Command]:
    """Return the commands that publish a process's report for `ANNOUNCED_S`, and remove names older than `NAMED_S`.

    A listed process whose report has expired is reported as silent.
    """
    return [
        ("ZADD", key, repr(now_s), name.encode()),
        ("ZREMRANGEBYSCORE", key, "-inf", repr(now_s - NAMED_S)),
        ("EXPIRE", key, NAMED_S),
        ("SET", f"{key}:{name}", text.encode(), "EX", ANNOUNCED_S),
    ]


def announced_commands(key: str, names: Sequence[str]) -> list[Command]:
    """Return the commands that read the reports of `names`."""
    return [text_command(f"{key}:{name}") for name in names]


def at_once(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return the names in chunks whose reports have at most half a megabyte."""
    return (names[start : start + TEXTS_AT_ONCE] for start in range(0, len(names), TEXTS_AT_ONCE))


def announced_names(reply: Sequence[Any]) -> list[str]:
    """Return the process names in a reply to `names_command`, the latest first."""
    return [raw.decode("utf-8", "replace") for raw, _ in pairs_of(reply)]


def names_command(key: str) -> Command:
    """Return the command that lists the processes that published a report under `key`."""
    return ("ZRANGE", key, 0, MAX_ANNOUNCED - 1, "REV", "WITHSCORES")


def pairs_of(members: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """Return members with their scores: RESP2 returns a flat list, RESP3 and redis-py's ZSCAN a list of pairs."""
    listed = list(members)
    return listed if listed and isinstance(listed[0], (list, tuple)) else zip(listed[::2], listed[1::2], strict=True)
