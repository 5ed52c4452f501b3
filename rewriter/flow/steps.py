"""The steps that the flow's generators yield, the results that a shell sends in, and the results of the parts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rewriter.boost.functions import Boost
from rewriter.boost.templates import TemplateSet
from rewriter.client.seam import Search
from rewriter.core import Core, Snapshot
from rewriter.explore.plan import PagePlan
from rewriter.explore.plan_memory import PlanKey
from rewriter.explore.slots import Candidate
from rewriter.index_facts import IndexFacts
from rewriter.parsed_search import ParsedSearch, search_key
from rewriter.record import computed_once, record
from rewriter.report import Exposure, Reason, Source, Strategy
from rewriter.settings import PolicySettings
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.store import Signals, SignalsQuery, StoreName
from rewriter.subject import Subject

Hits = Sequence[Mapping[str, Any]]
Pool = Sequence[Candidate]
Clock = Callable[[], float]
UNKNOWN = IndexFacts()


@record(frozen=True, slots=True)
class Baseline:
    """The first step of each search: send the caller's own search, and start `beside` beside it. The result is Sent.

    A shell sends the caller's own search even if this generator or `beside` fails. It raises that search's error to the caller
    itself, and closes the generator.

    policy: the name of the search's policy, whose permit `beside` takes.
    """

    beside: Generator[PartStep, Any, Personal] | None = None
    policy: str = ""


@record(frozen=True, slots=True)
class Sent:
    """The response to the caller's own search.

    started_s: when it was sent (monotonic).
    refused:   why nothing runs beside it, or "".
    """

    response: Any
    started_s: float
    refused: str = ""


@record(frozen=True, slots=True)
class SendOnce:
    """The first step of a search that is sent once, with boosts in it: start `part`, which reads signals and sends it.

    Answered with why it was not started, or "". Until SendOwn or Baseline, the caller's own search is not sent; a shell sends
    it where the generator fails before that.

    policy: the name of the search's policy, whose permit `part` takes.
    """

    part: Generator[PartStep, Any, Personal]
    policy: str


@record(frozen=True, slots=True)
class AwaitPart:
    """Wait for the part of SendOnce until a time (monotonic). Answered with its Personal, or None where it goes on."""

    until_s: float


@record(frozen=True, slots=True)
class SendOwn:
    """Send the caller's own search. Answered with Sent; what it raises is thrown in, and reaches the caller as it is.

    racing: the part of SendOnce goes on. Where it ends first the answer is None, and AwaitOwn waits on. A shell that sends on the
            caller's thread cannot stop waiting, and answers with Sent.
    """

    racing: bool = False


@record(frozen=True, slots=True)
class AwaitOwn:
    """Wait for the caller's own search, which SendOwn has sent. Answered with Sent, or has its error thrown in."""


@record(frozen=True, slots=True)
class AwaitPool:
    """Wait for the exploration leg, `wait_s` at most. Answered with Explored, or None."""

    wait_s: float


@record(frozen=True, slots=True)
class SendRewritten:
    """Send the caller's search with boosts in it. Answered with its response's body, or LegFault is thrown in.

    by_caller: with the caller's client instead of the rewriter's own. A search that nobody waits for any more is ended by
               closing its connection, where it is the rewriter's.
    """

    search: Search
    timeout_s: float
    by_caller: bool = False


@record(frozen=True, slots=True)
class Launch:
    """Start a part that no leg waits for, such as exploration. The step returns at once; without a permit, nothing starts."""

    part: Generator[PartStep, Any, Explored]


@record(frozen=True, slots=True)
class Collect:
    """Wait for the parts, `cutoff_s` at most. The result is Collected."""

    cutoff_s: float


@record(frozen=True, slots=True)
class Collected:
    """What arrived in time; None for a part that has not ended yet or was never started."""

    personal: Personal | None
    explored: Explored | None


@record(frozen=True, slots=True)
class Read:
    """A query and the store that answers it."""

    store: StoreName
    query: SignalsQuery


ReadResult = Signals | BaseException | None
"""The result of a read: its signals, the error that it raised, or None if it did not return in time."""


@record(frozen=True, slots=True)
class FetchSignals:
    """Read the stores, `budget_s` at most for all of them. The result is one ReadResult per read, in the same order.

    The answer of a late read goes to the core's memory when it arrives.
    """

    reads: tuple[Read, ...]
    budget_s: float


@record(frozen=True, slots=True)
class SearchLeg:
    """Send an optional leg on the rewriter's own client. The result is its response, or LegFault is thrown in.

    sized: called with the size of the answer in bytes and the number of its hits, None if the answer was not parsed.
    """

    search: Search
    timeout_s: float
    sized: Callable[[int, int | None], None]


@record(frozen=True, slots=True)
class ReadSignals:
    """Read the signals of a search of a batch (`flow/batch`), once for all its searches. The result is SignalsRead."""

    context: SearchContext
    query: SignalsQuery
    progress: Progress


@record(frozen=True, slots=True)
class SearchLegs:
    """Send several optional legs in one request. The result: the response of each, or its LegFault; or LegFault is thrown in."""

    legs: tuple[SearchLeg, ...]


@record(frozen=True, slots=True)
class SavePlan:
    """Save a plan without waiting for it.

    key:      its key; None if the subject has none, and nothing is saved.
    plan:     returns its text; called off the caller's path.
    in_store: whether it goes to the store as well as into this process's memory. False while the store's breaker is not closed.
    forgotten_s: up to when the subject had been forgotten when the list began: a later erasure keeps the plan out of the store.
    base:     the plan as read that this one continues; None if the list begins anew. See `explore.plan.united`.
    """

    key: PlanKey | None
    plan: Callable[[], bytes]
    in_store: bool
    forgotten_s: float
    base: bytes | None = None


CallerStep = Baseline | Collect | SavePlan | SendOnce | AwaitPart | SendOwn | AwaitOwn | AwaitPool
"""Steps of `answer`, which the caller's own thread or task performs."""

PartStep = FetchSignals | Launch | SearchLeg | SearchLegs | ReadSignals | SendRewritten
"""Steps of the parts that run beside the baseline or in its stead, which a worker or a task of ours performs."""


def first_step(flow: Generator[CallerStep, Any, Any]) -> Baseline | SendOnce:
    """Start `answer` and return its first step, which is Baseline or SendOnce by construction."""
    step = next(flow)
    if not isinstance(step, (Baseline, SendOnce)):
        raise TypeError(f"the first step of a search is Baseline or SendOnce, not {type(step).__name__}")
    return step


def first_of_batch(flow: Generator[CallerStep, Any, Any]) -> Baseline:
    """Start `answer` for one of several searches, whose first step is Baseline by construction."""
    step = first_step(flow)
    if not isinstance(step, Baseline):
        raise TypeError("the first step of one search among several is Baseline")
    return step


@record(frozen=True, slots=True)
class Personal:
    """The personal part's result: PERSONALIZED with the leg's hits and the boosts behind them, or another reason without hits.

    `cause` is the server's or the template's own error text, which may quote values. `gated`: boosts acted only on hits that hold
    every word of the query. `named`: the server was asked which boosts act on each hit. `parallel`: why the search cannot be sent
    once after all, which only its plan shows. `status`: the server's HTTP status for a leg that failed, None if it gave none.
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
    gated: bool = False
    named: bool = True
    parallel: str = ""
    status: int | None = None


@record(frozen=True, slots=True)
class Explored:
    """The exploration leg's hits, or the `error` why there are none; `rejected` is the server's cause if it rejected the leg."""

    hits: Pool = ()
    error: str = ""
    rejected: str = ""
    top_score: float | None = None


@dataclass(slots=True)
class Progress:
    """The progress of the parts. They write it, and `answer` reads it at the cut-off.

    over: set by `answer` once it no longer waits; a part that has not sent its leg by then does not send it.
    plan: the list's plan, and `plan_raw` its text as read.

    Of a search that is sent once:
    rank:      the personalized rank at which its page begins.
    sent_s:    when it was sent (monotonic); `took_s`: how long its answer took, None without one.
    late:      whether it was not answered in time; `hedged`: whether the caller's own was sent beside it.
    top_score: the best score of the list that the pool continues, where that is known.
    """

    at: Literal["signals", "search"] = "signals"
    over: bool = False
    shape: str = ""
    launched: bool = False
    pool: Pool = ()
    plan: PagePlan | None = None
    plan_raw: bytes | None = None
    rank: int = 0
    sent_s: float = 0.0
    took_s: float | None = None
    late: bool = False
    hedged: bool = False
    top_score: float | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@record(frozen=True)
class CallContext:
    """One search, personalized or not: its subject, the rewriter's state when it began, seed and time.

    now_s: wall time (for decay). `clock_s` returns monotonic time (for deadlines).
    seed:  draws exploration hits.
    """

    core: Core
    snapshot: Snapshot
    search: ParsedSearch
    subject: Subject | None
    seed: int
    now_s: float
    clock_s: Clock

    @computed_once
    def plan_key(self) -> PlanKey | None:
        """The key of the plan of the search's list, None if its subject has none."""
        if self.subject is None:
            return None
        return self.core.plans.key(self.core.keys, self.subject, search_key(self.search))

    @computed_once
    def name(self) -> str:
        """The policy's name."""
        return self.search.policy or ""

    def is_draft(self, version: str | None) -> bool:
        """Whether a version of the policy's templates is the draft on trial, and another than the live one."""
        draft, live = self.snapshot.trials.get(self.name), self.snapshot.templates.get(self.name)
        return draft is not None and draft.version == version and (live is None or live.version != version)


@record(frozen=True)
class SearchContext(CallContext):
    """One search that is to be personalized, and all that is fixed for it: policy, templates, limits.

    max_boost: the limit of this search, the smaller one of the policy's and the switch's.
    block:     every how many positions one slot comes; 0 without exploration.
    batched:   whether it is one of several that go out together.
    """

    subject: Subject
    policy: PolicySettings
    templates: TemplateSet
    max_boost: float
    block: int
    exposure: Exposure | None
    batched: bool = False

    @computed_once
    def trial(self) -> bool:
        """Whether this search is served the policy's draft."""
        return self.is_draft(self.templates.version)

    @computed_once
    def facts(self) -> IndexFacts:
        """The facts of the indices that are searched."""
        return self.snapshot.facts.get(self.search.expression.key, UNKNOWN)

    @computed_once
    def fields(self) -> Mapping[str, SignalField]:
        """The signal fields that boosts may use on the indices that are searched."""
        return self.snapshot.fields_on.get(self.search.expression.key, self.snapshot.fields[self.name])
