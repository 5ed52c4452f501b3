"""What is said to the server, and what its answers mean: each command of a store, and the reading of each reply.

Pure. A reply is bytes that anybody may have written, so everything unsound in it is ignored by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rewriter.errors import StoreError
from rewriter.signals.counters import Counters, Value, member, sound, value_of
from rewriter.signals.store import Query, Signals

MAX_TEXT_BYTES = 64 * 1024
"""Of a plan, and of a text that the background reads."""
MEMBERS_AT_ONCE = 20_000
"""They take 2.5 ms of the server's time, for which the reads of searches wait."""
ANNOUNCED_S = 10
"""How long what a process says of itself holds, by the server's clock."""
NAMED_S = 600
"""How long a name stays listed: longer than clocks of machines differ, since each process strikes out by its own."""
MAX_ANNOUNCED = 256
REPLACE = """
if redis.call('GETRANGE', KEYS[1], 0, ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""
META = ("landmark", "last_event", "events", "lag")

Command = tuple[Any, ...]


def counters_commands(base: str, fields: tuple[str, ...], limit: int) -> list[Command]:
    """Return the two commands that read one subject and scope. The server bounds the answer, whatever was written."""
    return [
        ("ZRANGE", f"{base}:z", 0, limit - 1, "REV", "WITHSCORES"),
        ("HMGET", f"{base}:m", *META, *(f"total:{name}" for name in fields)),
    ]


def commands(query: Query) -> list[Command]:
    """Return the commands of one pipelined read, in the order that `signals` expects their replies."""
    found: list[Command] = []
    for base in (query.session, query.profile):
        if base:
            found += counters_commands(base, query.fields, query.limit)
    if query.plan:
        found.append(text_command(query.plan))
    return found


def signals(query: Query, replies: Sequence[Any]) -> Signals:
    """Read the replies of `commands(query)`; a reply that is an exception fails its scope alone."""
    rest = iter(replies)
    counters: dict[str, Counters | None] = {"session": None, "profile": None}
    failed: set[str] = set()
    for scope, base in (("session", query.session), ("profile", query.profile)):
        if base:
            members, meta = next(rest), next(rest)
            if isinstance(members, Exception) or isinstance(meta, Exception):
                failed.add(scope)
            else:
                counters[scope] = read_counters(members, meta, query.fields)
    plan = next(rest) if query.plan else None
    if isinstance(plan, Exception):
        failed.add("plan")
        plan = None
    if not plan or len(plan) > MAX_TEXT_BYTES:
        plan = None
    return Signals(counters["session"], counters["profile"], plan, frozenset(failed))


def read_counters(members: Iterable[Any], meta: Sequence[Any], fields: tuple[str, ...]) -> Counters | None:
    """Return the counters in a ZRANGE … WITHSCORES and an HMGET reply, or None where there are none.

    Whatever is not a finite, non-negative weight of a well-formed value is ignored by itself.
    """
    landmark_s, last_event_s, events, lag_s, *totals = map(sound, meta)
    if landmark_s is None:
        return None
    weights: dict[Value, float] = {}
    for raw, score in _pairs(members):
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
    """Return the commands, to be run in one transaction, that put `counters` in the place of what stands under `base`.

    What a read would ignore is not written. Raises StoreError where `counters` have no sound landmark.
    """
    if sound(counters.landmark_s) is None:
        raise StoreError(
            f"{base}: landmark_s is {counters.landmark_s!r}, not seconds since the epoch; nothing was written"
        )
    found: list[Command] = [("UNLINK", f"{base}:z", f"{base}:m")]
    members: list[Any] = []
    for value, weight in counters.weights.items():
        if (score := sound(weight)) and (raw := member(value)):
            members += (repr(score), raw)
    if members:
        found.append(("ZADD", f"{base}:z", *members))
    meta: Mapping[str, float] = {
        "landmark": counters.landmark_s,
        "last_event": counters.last_event_s,
        "events": counters.events,
        "lag": counters.lag_s,
        **{f"total:{name}": total for name, total in counters.totals.items()},
    }
    known = [part for name, number in meta.items() if sound(number) is not None for part in (name, repr(float(number)))]
    found.append(("HSET", f"{base}:m", *known))
    if ttl_s is not None:
        found += [("EXPIRE", f"{base}:z", ttl_s), ("EXPIRE", f"{base}:m", ttl_s)]
    return found


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


def announced_names(reply: Sequence[Any]) -> list[str]:
    """Return the names in a reply to `names_command`, the latest first."""
    return [raw.decode("utf-8", "replace") for raw, _ in _pairs(reply)]


def names_command(key: str) -> Command:
    """Return the command that lists who announced itself under `key`."""
    return ("ZRANGE", key, 0, MAX_ANNOUNCED - 1, "REV", "WITHSCORES")


def _pairs(members: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """RESP2 gives a flat list of members and scores, RESP3 a list of pairs."""
    listed = list(members)
    return listed if listed and isinstance(listed[0], list) else zip(listed[::2], listed[1::2], strict=True)
