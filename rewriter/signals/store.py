"""What a signal store is: where each subject's counters and plans lie, and what can be asked of it.

A subject and scope is two keys under one hash tag, so that a cluster keeps them on one node:

    rw:{u:DIGITS}:z   sorted set   member "field U+001F value …", score = weight at the landmark
    rw:{u:DIGITS}:m   hash         landmark, last_event, events, lag, watermark, total:FIELD …

with s: for sessions, u: for profiles, g: for segments and p: for partitions of the population. `docs/signals.md` is the
contract in full. Everything here is pure; `redis_store` and `memory_store` do what it describes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rewriter.signals.counters import Counters, Value, member, sound, value_of
from rewriter.subject import Subject, pseudonym

Scope = Literal["session", "profile"]
MAX_PLAN_BYTES = 64 * 1024
META = ("landmark", "last_event", "events", "lag")


@dataclass(frozen=True, slots=True)
class Keys:
    """Names every key of one installation: a prefix, and a salt so that keys hold no identifier."""

    prefix: str = "rw"
    salt: str = ""

    def session(self, session_id: str) -> str:
        """Return the base of a session's keys."""
        return f"{self.prefix}:{{s:{pseudonym('s', session_id, self.salt)}}}"

    def profile(self, user_id: str) -> str:
        """Return the base of a user's keys."""
        return f"{self.prefix}:{{u:{pseudonym('u', user_id, self.salt)}}}"

    def segment(self, name: str, partition: int = 0) -> str:
        """Return the base of one partition's part of a segment's counters."""
        return f"{self.prefix}:{{g:{partition}}}:{name}"

    def population(self, partition: int = 0) -> str:
        """Return the base of one partition's part of the population's counters."""
        return f"{self.prefix}:{{p:{partition}}}"

    def plan(self, subject: Subject, search: str) -> str | None:
        """Return the key of a subject's plan for a search, beside the session's counters, else beside the profile's."""
        base = self.session(subject.session_id) if subject.session_id else self.profile(subject.user_id) if subject.user_id else None
        return f"{base}:plan:{search}" if base else None


@dataclass(frozen=True, slots=True)
class Query:
    """One read: the bases of the keys that are wanted, None where nothing is; the fields whose totals are wanted with them."""

    session: str | None
    profile: str | None
    plan: str | None
    fields: tuple[str, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Signals:
    """What a read found. `failed` names the scopes that could not be read; the others are true as they stand."""

    session: Counters | None = None
    profile: Counters | None = None
    plan: bytes | None = None
    failed: frozenset[str] = frozenset()


class Store(Protocol):
    """A signal store, called from a worker thread. Methods raise StoreError, or what their client raises."""

    def read(self, query: Query) -> Signals:
        """Return what is known of one subject in one pipelined round trip."""

    def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """Keep the plan of a page for `ttl_s` seconds."""

    def write(self, base: str, counters: Counters, ttl_s: int | None) -> None:
        """Put `counters` in the place of what stands under `base`, at once."""

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """Return the counters under each of `bases` (background work: populations and segments)."""

    def read_text(self, key: str) -> str | None:
        """Return the text under a key (switches, heartbeats)."""

    def ping(self) -> None:
        """Raise what keeps the store from answering."""

    def close(self) -> None:
        """Give back every connection."""


class AsyncStore(Protocol):
    """The same, awaited on the event loop."""

    async def read(self, query: Query) -> Signals:
        """See Store.read."""

    async def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """See Store.save_plan."""

    async def write(self, base: str, counters: Counters, ttl_s: int | None) -> None:
        """See Store.write."""

    async def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""

    async def read_text(self, key: str) -> str | None:
        """See Store.read_text."""

    async def ping(self) -> None:
        """See Store.ping."""

    async def close(self) -> None:
        """See Store.close."""


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
        found.append(("GETRANGE", query.plan, 0, MAX_PLAN_BYTES))
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
    if not plan or len(plan) > MAX_PLAN_BYTES:
        plan = None
    return Signals(counters["session"], counters["profile"], plan, frozenset(failed))


def read_counters(members: Iterable[Any], meta: Sequence[Any], fields: tuple[str, ...]) -> Counters | None:
    """Return the counters in a ZRANGE … WITHSCORES and an HMGET reply, or None where there are none.

    Whatever is not a finite, non-negative weight of a well-formed value is ignored by itself.
    """
    landmark_s, last_event_s, events, lag_s, *totals = (sound(_text(part)) for part in meta)
    if landmark_s is None:
        return None
    weights: dict[Value, float] = {}
    for raw, score in _pairs(members):
        text, weight = _text(raw), sound(_text(score))
        value = value_of(text) if text else None
        if value is not None and weight:
            weights[value] = weight
    known = {name: total for name, total in zip(fields, totals, strict=False) if total}
    return Counters(weights, known, landmark_s, last_event_s or 0.0, events or 0.0, lag_s or 0.0)


def write_commands(base: str, counters: Counters, ttl_s: int | None) -> list[Command]:
    """Return the commands, to be run in one transaction, that put `counters` in the place of what stands under `base`."""
    found: list[Command] = [("DEL", f"{base}:z", f"{base}:m")]
    if counters.weights:
        found.append(("ZADD", f"{base}:z", *(part for value, weight in counters.weights.items() for part in (repr(weight), member(value)))))
    meta: Mapping[str, float] = {
        "landmark": counters.landmark_s,
        "last_event": counters.last_event_s,
        "events": counters.events,
        "lag": counters.lag_s,
        **{f"total:{name}": total for name, total in counters.totals.items()},
    }
    found.append(("HSET", f"{base}:m", *(part for name, number in meta.items() for part in (name, repr(number)))))
    if ttl_s:
        found += [("EXPIRE", f"{base}:z", ttl_s), ("EXPIRE", f"{base}:m", ttl_s)]
    return found


def _pairs(members: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """RESP2 gives a flat list of members and scores, RESP3 a list of pairs."""
    listed = list(members)
    if listed and isinstance(listed[0], (list, tuple)):
        return [(pair[0], pair[1]) for pair in listed if len(pair) == 2]
    return zip(listed[::2], listed[1::2], strict=False)


def _text(raw: Any) -> Any:
    if isinstance(raw, bytes):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return raw
