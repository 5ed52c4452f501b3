"""What a signal store is: where each subject's counters and plans lie, and what can be asked of it.

A subject and scope is two keys under one hash tag, so that a cluster keeps them on one node:

    rw:{u:DIGITS}:z   sorted set   member "field U+001F value …", score = weight at the landmark
    rw:{u:DIGITS}:m   hash         landmark, last_event, events, lag, total:FIELD …, watermark:PARTITION …

with s: for sessions, u: for profiles, g: for segments and p: for partitions of the population. `docs/signals.md` is the
contract in full, `commands` what is said to the server. `redis_store` and `memory_store` carry it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from rewriter.signals.counters import Counters
from rewriter.subject import Subject, pseudonym

StoreName = Literal["store", "profile_store"]
"""`profile_store` is there where profiles have a store of their own."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names every key of one installation: a prefix, and a salt so that keys hold no identifier."""

    prefix: str = "rw"
    salt: str = field(default="", repr=False)

    def session(self, session_id: str) -> str:
        """Return the base of a session's keys."""
        return self.session_base(pseudonym("s", session_id, self.salt))

    def session_base(self, digest: str) -> str:
        """Return the base of the keys of a session, by its digits."""
        return f"{self.prefix}:{{s:{digest}}}"

    def digest(self, base: str) -> str:
        """Return the digits in the base of a session's or a user's keys."""
        return base[len(self.prefix) + 4 : -1]

    def profile(self, user_id: str) -> str:
        """Return the base of a user's keys."""
        return f"{self.prefix}:{{u:{pseudonym('u', user_id, self.salt)}}}"

    def segment(self, name: str, partition: int = 0) -> str:
        """Return the base of one partition's part of a segment's counters."""
        return f"{self.prefix}:{{g:{partition}}}:{name}"

    def population(self, partition: int = 0) -> str:
        """Return the base of one partition's part of the population's counters."""
        return f"{self.prefix}:{{p:{partition}}}"

    @property
    def everybody(self) -> str:
        """Return the key of the population as one value, made of its parts."""
        return f"{self.prefix}:{{population}}"

    @property
    def all_segments(self) -> str:
        """Return the key of all segments as one value, made of their parts."""
        return f"{self.prefix}:{{population}}:segments"

    @property
    def maker(self) -> str:
        """Return the key of the lease of who makes these two."""
        return f"{self.prefix}:{{population}}:maker"

    def plan(self, subject: Subject, slot: str) -> str | None:
        """Return one of the keys of a subject's plans, beside the session's counters, else beside the profile's."""
        base = (
            self.session(subject.session_id)
            if subject.session_id
            else self.profile(subject.user_id)
            if subject.user_id
            else None
        )
        return f"{base}:plan:{slot}" if base else None


@dataclass(frozen=True, slots=True)
class SignalsQuery:
    """One read: the bases of the wanted keys, None where nothing is; the fields whose totals are wanted with them."""

    session: str | None
    profile: str | None
    plan: str | None
    fields: tuple[str, ...]
    limit: int
    more_plans: tuple[str, ...] = ()

    @property
    def scopes(self) -> frozenset[str]:
        """Return the names of what is wanted, as `Signals.failed` has them."""
        wanted = {"session": self.session, "profile": self.profile, "plan": self.plan}
        return frozenset(name for name, key in wanted.items() if key)


@dataclass(frozen=True, slots=True)
class Signals:
    """What a read found. `failed` names the scopes that could not be read; the others are true as they stand.

    forgotten_s: the time up to which the subject was forgotten (`rewriter forget`), 0 where it never was.
    """

    session: Counters | None = None
    profile: Counters | None = None
    plan: bytes | None = None
    failed: frozenset[str] = frozenset()
    forgotten_s: float = 0.0
    more_plans: Mapping[str, bytes] = field(default_factory=dict)


def separated(query: SignalsQuery) -> tuple[SignalsQuery, SignalsQuery]:
    """Return what of a read goes to the session store, and what to a profile store of its own."""
    return replace(query, profile=None), replace(query, session=None, plan=None, more_plans=())


def joined(session: Signals | None, profile: Signals | None) -> Signals:
    """Return what two stores found; a store that said nothing fails its scope alone."""
    failed = {"session", "plan"} if session is None else set(session.failed)
    failed |= {"profile"} if profile is None else profile.failed
    return Signals(
        session.session if session else None,
        profile.profile if profile else None,
        session.plan if session else None,
        frozenset(failed),
        max(one.forgotten_s if one else 0.0 for one in (session, profile)),
        session.more_plans if session else {},
    )


class Store(Protocol):
    """A signal store, called from a worker thread. Methods raise StoreError, or what their client raises."""

    def run(self, wanted: Sequence[tuple[Any, ...]], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run: the engine under all the rest, and what the population is read with."""

    def read(self, query: SignalsQuery) -> Signals:
        """Return what is known of one subject in one pipelined round trip."""

    def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """Keep the plan of a page for `ttl_s` seconds."""

    def write(self, base: str, counters: Counters, ttl_s: int | None) -> bool:
        """Put `counters` in the place of what stands under `base`, at once.

        What `rewriter ingest` applied there before is part of what was replaced: it will not count it again. Returns False where
        the subject was forgotten since the last event of `counters`: nothing is written then.
        """

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """Return the counters under each of `bases` (background work: populations and segments)."""

    def read_text(self, key: str) -> str | None:
        """Return the text under a key (switches, heartbeats)."""

    def write_text(self, key: str, text: str) -> None:
        """Put a text under a key."""

    def change_text(self, key: str, edit: Callable[[str | None], str | None]) -> None:
        """Put what `edit` makes of the text under a key in its place; two that do so at once do so one after the other.

        edit: called with the text, None for none, again where somebody else was faster; returns None to change nothing.
        """

    def announce(self, key: str, name: str, text: str, now_s: float) -> None:
        """Say for some seconds, to whoever asks, how the process `name` stands. `now_s` is wall time."""

    def announced(self, key: str) -> dict[str, str]:
        """Return what processes lately said of themselves, by name."""

    def ping(self) -> None:
        """Raise what keeps the store from answering."""

    def close(self) -> None:
        """Give back every connection."""


class AsyncStore(Protocol):
    """The same, awaited on the event loop."""

    async def run(self, wanted: Sequence[tuple[Any, ...]], *, atomic: bool = False) -> list[Any]:
        """See Store.run."""

    async def read(self, query: SignalsQuery) -> Signals:
        """See Store.read."""

    async def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """See Store.save_plan."""

    async def write(self, base: str, counters: Counters, ttl_s: int | None) -> bool:
        """See Store.write."""

    async def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""

    async def read_text(self, key: str) -> str | None:
        """See Store.read_text."""

    async def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""

    async def announce(self, key: str, name: str, text: str, now_s: float) -> None:
        """See Store.announce."""

    async def announced(self, key: str) -> dict[str, str]:
        """See Store.announced."""

    async def ping(self) -> None:
        """See Store.ping."""

    async def close(self) -> None:
        """See Store.close."""
