"""Signal store: the keys of counters and page plans, the types of a read, and the protocol of a store.

A subject and scope is two or three keys under one hash tag, so that a cluster keeps them on one node:

    rw:{u:DIGITS}:z   sorted set   member "field U+001F value …", score = weight at the landmark
    rw:{u:DIGITS}:c   hash         counters by class, packed (`class_layout`); of profiles, with a `class_field`
    rw:{u:DIGITS}:m   hash         landmark, last_event, events, lag, total:FIELD …, watermark:PARTITION …

with s: for sessions, u: for profiles, g: for segments and p: for partitions of the population. `docs/signals.md` is the full
contract, `commands` builds the server's commands, `redis_store` and `memory_store` run them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal, NamedTuple, Protocol

from rewriter.record import record
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_items import EveryClass
from rewriter.signals.counters import Counters
from rewriter.subject import Subject, pseudonym

StoreName = Literal["store", "profile_store"]
"""`profile_store` exists only if profiles have a store of their own."""


@record(frozen=True, slots=True)
class Keys:
    """The keys of one installation: all begin with `prefix`, and contain pseudonyms under `salt` instead of identifiers."""

    prefix: str = "rw"
    salt: str = field(default="", repr=False)

    def session(self, session_id: str) -> str:
        """Return the base of a session's keys."""
        return self.session_base(pseudonym("s", session_id, self.salt))

    def session_base(self, digest: str) -> str:
        """Return the base of a session's keys from its pseudonym."""
        return f"{self.prefix}:{{s:{digest}}}"

    def digest(self, base: str) -> str:
        """Return the pseudonym in the base of a session's or a user's keys."""
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
    def whole_population(self) -> str:
        """Return the key of the whole population, packed into one value."""
        return f"{self.prefix}:{{population}}"

    @property
    def all_segments(self) -> str:
        """Return the key of all segments, packed into one value."""
        return f"{self.prefix}:{{population}}:segments"

    @property
    def maker(self) -> str:
        """Return the key of the lease of the process that builds these two values."""
        return f"{self.prefix}:{{population}}:maker"

    @property
    def near(self) -> str:
        """Return the key that names the table of neighbours (`neighbours`)."""
        return f"{self.prefix}:near"

    def near_slot(self, slot: int, generation: str) -> str:
        """Return the key of some items' neighbours."""
        return f"{self.prefix}:{{near:{slot}}}:{generation}"

    def plan(self, subject: Subject, slot: str) -> str | None:
        """Return a key of a subject's plans, with the session's hash tag, else the user's; None for a subject with neither."""
        base = (
            self.session(subject.session_id)
            if subject.session_id
            else self.profile(subject.user_id)
            if subject.user_id
            else None
        )
        return f"{base}:plan:{slot}" if base else None


class NewPlan(NamedTuple):
    """A page plan to be stored for `ttl_s` seconds.

    forgotten_s: up to when its subject had been erased when the list began.
    base:        the plan that it continues, which must be the one in the store; empty if the list begins anew.
    """

    key: str
    plan: bytes
    ttl_s: int
    forgotten_s: float = 0.0
    base: bytes = b""


class SavedPlans(NamedTuple):
    """The plans that were not stored; all others were.

    refused: how many were not, because their subject was erased, they were too long, or the store refused them.
    changed: by key, the plan in the store where it was not the one that the new one continues. The new one was not stored.
    """

    refused: int = 0
    changed: Mapping[str, bytes] = {}


@record(frozen=True, slots=True)
class SignalsQuery:
    """One read: the bases of the wanted keys, None where nothing is; the fields whose totals are wanted with them.

    classes: those of which the profile's counters are wanted.
    every:   has the items of all classes among the profile's counters; None where items are kept by no class, or the query's
             classes are known.
    """

    session: str | None
    profile: str | None
    plan: str | None
    fields: tuple[str, ...]
    limit: int
    more_plans: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    every: EveryClass | None = None

    @property
    def scopes(self) -> frozenset[str]:
        """Return the names of the scopes to read, as in `Signals.failed`."""
        wanted = {"session": self.session, "profile": self.profile, "plan": self.plan}
        return frozenset(name for name, key in wanted.items() if key)


@record(frozen=True, slots=True)
class Signals:
    """The result of a read.

    session, profile, plan: None if the store has none.
    failed:      the scopes that could not be read; the others are valid.
    forgotten_s: the time up to which the subject was erased by `rewriter forget` (seconds since the epoch), 0 if never.
    """

    session: Counters | None = None
    profile: Counters | None = None
    plan: bytes | None = None
    failed: frozenset[str] = frozenset()
    forgotten_s: float = 0.0
    more_plans: Mapping[str, bytes] = field(default_factory=dict)
    classes: Mapping[str, ClassCounters] = field(default_factory=dict)


def separated(query: SignalsQuery) -> tuple[SignalsQuery, SignalsQuery]:
    """Return the parts of a read for the session store and for the profile store."""
    return replace(query, profile=None), replace(query, session=None, plan=None, more_plans=())


def joined(session: Signals | None, profile: Signals | None) -> Signals:
    """Return the merged results of two stores; None, for a store that did not answer, fails only its scopes."""
    failed = {"session", "plan"} if session is None else set(session.failed)
    failed |= {"profile"} if profile is None else profile.failed
    return Signals(
        session.session if session else None,
        profile.profile if profile else None,
        session.plan if session else None,
        frozenset(failed),
        max(one.forgotten_s if one else 0.0 for one in (session, profile)),
        session.more_plans if session else {},
        profile.classes if profile else {},
    )


class Store(Protocol):
    """A signal store, called from a worker thread. Methods raise StoreError, or an exception of the client."""

    def run(self, wanted: Sequence[tuple[Any, ...]], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run. All other methods use it, and the population is read with it."""

    def read(self, query: SignalsQuery) -> Signals:
        """Return one subject's signals in one pipelined round trip."""

    def save_plans(self, plans: Sequence[NewPlan]) -> SavedPlans:
        """Store page plans in one round trip, but for those of subjects that were erased since, and of lists that went on."""

    def write(
        self, base: str, counters: Counters, ttl_s: int | None, classes: Mapping[str, ClassCounters] | None = None
    ) -> bool:
        """Replace the counters under `base`, those by class included, atomically.

        Events that `rewriter ingest` applied to the replaced counters are not counted again. Returns False, and writes nothing, if
        the subject was erased after the last event of `counters`.
        """

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """Return the counters under each of `bases`. For background work on populations and segments, not for a search."""

    def read_text(self, key: str) -> str | None:
        """Return the text of a key (switches, heartbeats), None if there is none."""

    def write_text(self, key: str, text: str) -> None:
        """Write the text of a key."""

    def change_text(self, key: str, edit: Callable[[str | None], str | None]) -> None:
        """Replace the text of a key by the result of `edit`, without losing a concurrent change.

        edit: called with the text, None if there is none; called again if another client changed the text meanwhile. It returns the
              new text, or None to change nothing.
        """

    def announce(self, key: str, name: str, text: str, now_s: float) -> None:
        """Publish the report of process `name` for some seconds. `now_s` is seconds since the epoch."""

    def announced(self, key: str) -> dict[str, str]:
        """Return the current reports by process name."""

    def ping(self) -> None:
        """Raise the client's exception if the store does not answer."""

    def close(self) -> None:
        """Close every connection."""


class AsyncStore(Protocol):
    """A signal store whose methods are awaited on the event loop; see Store."""

    async def run(self, wanted: Sequence[tuple[Any, ...]], *, atomic: bool = False) -> list[Any]:
        """See Store.run."""

    async def read(self, query: SignalsQuery) -> Signals:
        """See Store.read."""

    async def save_plans(self, plans: Sequence[NewPlan]) -> SavedPlans:
        """See Store.save_plans."""

    async def write(
        self, base: str, counters: Counters, ttl_s: int | None, classes: Mapping[str, ClassCounters] | None = None
    ) -> bool:
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
