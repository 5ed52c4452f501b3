"""What the generators ask of a shell, what they are answered with, and what the parts give back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rewriter.boost.functions import Boost
from rewriter.boost.templates import TemplateSet
from rewriter.core import Core, Snapshot
from rewriter.explore.plan import PagePlan
from rewriter.explore.plan_memory import PlanKey
from rewriter.index_facts import IndexFacts
from rewriter.parsed_search import ParsedSearch
from rewriter.report import Exposure, Reason, Source, Strategy
from rewriter.settings import PolicySettings
from rewriter.signals.affinities import SignalField
from rewriter.signals.store import Signals, SignalsQuery, StoreName
from rewriter.subject import Subject

Hits = Sequence[Mapping[str, Any]]
Clock = Callable[[], float]
UNKNOWN = IndexFacts()


@dataclass(frozen=True, slots=True)
class Baseline:
    """The first step of each search: the caller's own is sent, with `beside` started beside it. Answered with Sent.

    A shell sends the caller's own search whatever becomes of this generator or of `beside`, and hands its error to the caller
    itself; the generator is then closed.
    """

    beside: Generator[Any, Any, Personal] | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The response to the caller's own search, and when it was sent (monotonic). refused: why nothing runs beside it, or ""."""

    response: Any
    started_s: float
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the exploration leg beside the personalized leg. Answered at once; at the cap it is not started."""

    part: Generator[Any, Any, Explored]


@dataclass(frozen=True, slots=True)
class Collect:
    """Wait for the parts, `cutoff_s` at most. Answered with Collected."""

    cutoff_s: float


@dataclass(frozen=True, slots=True)
class Collected:
    """What was there at the cut-off; None is not there yet, or was never begun."""

    personal: Personal | None
    explored: Explored | None


@dataclass(frozen=True, slots=True)
class Read:
    """What to read from which store."""

    store: StoreName
    query: SignalsQuery


ReadResult = Signals | BaseException | None
"""What became of a read: what it found, what it raised, or None where it had not come back in time."""


@dataclass(frozen=True, slots=True)
class FetchSignals:
    """Read the stores, `budget_s` at most for all of them. Answered with what was Found, in the same order.

    What comes later goes to the core's memory when it comes.
    """

    reads: tuple[Read, ...]
    budget_s: float


@dataclass(frozen=True, slots=True)
class SearchLeg:
    """Send an optional leg on the rewriter's own client. Answered with its response, or LegFault is thrown in.

    sized: to be called with the bytes of the answer and the number of its hits, None where they were not read.
    """

    arguments: Mapping[str, Any]
    timeout_s: float
    sized: Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class SavePlan:
    """Save a plan, without waiting for it. `plan` gives key and text, to be called off the caller's path.

    in_store: not only in this process; a store that rests is not written to either.
    """

    plan: Callable[[], tuple[PlanKey | None, bytes]]
    in_store: bool
    ttl_s: int


class LegFault(Exception):
    """What became of an optional leg: the server rejected its body, it failed, or its client gave it up.

    `cause` is the server's own, as it came: it quotes values, so it goes into a log only as `journal.redacted` leaves it.
    """

    def __init__(self, kind: Literal["rejected", "failed", "late", "too_large"], detail: str, cause: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Personal:
    """The personal part's result: PERSONALIZED with the personalized leg's hits and how they came about, or a reason why not.

    `cause` is the server's or the template's own words for it, which may quote values.
    """

    reason: Reason
    detail: str = ""
    hits: Hits = ()
    boosts: tuple[Boost, ...] = ()
    max_boost: float = 1.0
    source: Source | None = None
    strategy: Strategy | None = None
    version: str | None = None
    preference: str | None = None
    plan: PagePlan | None = None
    response: Mapping[str, Any] = field(default_factory=dict)
    forgotten_s: float = 0.0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Explored:
    """The exploration leg's hits, or none and why; `rejected` is the server's cause where it refused the leg."""

    hits: Hits = ()
    error: str = ""
    rejected: str = ""


@dataclass(slots=True)
class Progress:
    """How far the parts have come; written by them, read by `answer` at the cut-off.

    over: written by `answer` once nobody waits any more: a part that has not sent its leg by then does not send it.
    """

    at: Literal["signals", "search"] = "signals"
    over: bool = False
    shape: str = ""
    launched: bool = False
    pool: Hits = ()
    plan: PagePlan | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SearchContext:
    """One search on its way through the flow, all of it fixed: who asks for what, under which policy, at what time."""

    core: Core
    snapshot: Snapshot
    search: ParsedSearch
    subject: Subject
    policy: PolicySettings
    templates: TemplateSet
    max_boost: float
    block: int
    seed: int
    now_s: float
    clock_s: Clock
    exposure: Exposure | None

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.search.policy or ""

    @property
    def facts(self) -> IndexFacts:
        """What is known of the indices that are searched."""
        return self.snapshot.facts.get(self.search.expression.key, UNKNOWN)

    @property
    def fields(self) -> Mapping[str, SignalField]:
        """The signal fields that boosts may use on the indices that are searched."""
        return self.snapshot.fields_on.get(self.search.expression.key, self.snapshot.fields[self.name])
