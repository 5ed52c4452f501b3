"""The report of one search: its reason, boosts, exploration slots, timings and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from html import escape
from typing import Any, Literal

from rewriter.plural import count_of
from rewriter.record import record


class Reason(StrEnum):
    """The outcome of a search: exactly one reason per search, the first that applies in the order below."""

    PERSONALIZED = "personalized"
    # is personalization allowed?
    NO_SUBJECT = "no_subject"
    NO_CONSENT = "no_consent"
    SWITCHED_OFF = "switched_off"
    NOT_ROLLED_OUT = "not_rolled_out"
    HOLDOUT = "holdout"
    SHADOW = "shadow"
    BREAKER_OPEN = "breaker_open"
    BUSY = "busy"
    NO_POLICY = "no_policy"
    # can boosts act on this search?
    NO_HITS = "no_hits"
    SORTED = "sorted"
    BEYOND_DEPTH = "beyond_depth"
    UNSUPPORTED = "unsupported"
    BASELINE_PARTIAL = "baseline_partial"
    NO_RELEVANCE = "no_relevance"
    FLAT_SCORES = "flat_scores"
    NO_FACTS = "no_facts"
    NO_PLAN = "no_plan"
    # are there fresh signals?
    NO_SIGNALS = "no_signals"
    SIGNALS_LATE = "signals_late"
    SIGNALS_FAILED = "signals_failed"
    LAGGING = "lagging"
    # did the optional legs succeed?
    TEMPLATE_FAILED = "template_failed"
    QUARANTINED = "quarantined"
    REJECTED_BEFORE = "rejected_before"
    SEARCH_REJECTED = "search_rejected"
    SEARCH_FAILED = "search_failed"
    SEARCH_LATE = "search_late"
    ANSWERS_DIFFER = "answers_differ"


FAILURES = frozenset(
    {
        Reason.BREAKER_OPEN, Reason.BUSY, Reason.NO_FACTS, Reason.SIGNALS_LATE, Reason.SIGNALS_FAILED, Reason.TEMPLATE_FAILED,
        Reason.QUARANTINED, Reason.REJECTED_BEFORE, Reason.SEARCH_REJECTED, Reason.SEARCH_FAILED, Reason.SEARCH_LATE,
        Reason.ANSWERS_DIFFER,
    }
)  # fmt: skip
"""The reasons of a search whose page is the plain one because something failed, not because there was nothing to personalize."""

Variant = Literal["personalized", "baseline", "holdout", "shadow"]
Source = Literal["session", "profile", "blend", "segment", "stale"]
Strategy = Literal["rescore", "wrap"]
Mode = Literal["plain", "parallel", "rewrite"]
"""How a search went: the caller's own alone; the caller's own with legs beside it; or one search with boosts in it."""


@record(frozen=True, slots=True)
class BoostUsed:
    """One boost of the personalized leg's body: the boosted field and value, its weight in [0, max_boost − 1], its source."""

    field: str
    value: str
    weight: float
    source: str


@record(frozen=True, slots=True)
class Slot:
    """One exploration hit on the page: its position in the merged list (from 0), and its propensity in (0, 1]."""

    position: int
    id: str
    propensity: float


@record(frozen=True, slots=True)
class Move:
    """One hit whose position differs between the served page and the baseline's page.

    was:    the hit's position in the baseline's page (from 0), None if it is not on that page or there is none (`rewrite`).
    now:    its position in the served page (from 0).
    factor: its score divided by its base score. For a hit that the baseline's page lacks it is computed from the weights of
            `boosts`; None if `how` is not "names" or a boost has a decay.
    boosts: indices into `Report.boosts` of the boosts that the hit matches.
    how:    the evidence for `boosts`: "names" for the server's `matched_queries`, "source" for the hit's `_source`, "unknown" for
            neither.
    """

    id: str
    was: int | None
    now: int
    factor: float | None
    boosts: tuple[int, ...]
    how: Literal["names", "source", "unknown"]


@record(frozen=True, slots=True)
class Shown:
    """The personalized page that shadow mode did not serve.

    overlap:      share of the baseline page's hits that it shows too, in [0, 1].
    displacement: positions that those hits move, on average.
    ids:          the ids of its hits, in order.
    """

    overlap: float
    displacement: float
    ids: tuple[str, ...]


@record(frozen=True, slots=True)
class PageFacts:
    """How much of a personalized page personalization made, in hits.

    shown:    hits on the page.
    kept:     those that the baseline's page shows too; None where there was no baseline (`rewrite`).
    boosted:  those that a boost raised. at_limit: those of them that were raised as far as `max_boost` allows. Both are None
              where the server was not asked to name boosts (`named_share`).
    explored: those in exploration slots.
    boosts_matched: how many of the boosts match a hit of the page; None as above. Boosts that match nothing in search after
              search are dead.
    categories: how many categories its first ten hits show; None where the policy names no category field.
    """

    shown: int
    kept: int | None
    boosted: int | None
    at_limit: int | None
    explored: int
    boosts_matched: int | None
    categories: int | None = None


@record(frozen=True, slots=True)
class Exposure:
    """One search that counts in the experiment, in either arm. It is recorded before any signal is read.

    unit:       the assigned unit's pseudonym under the experiment's salt: equal for all searches of a unit, with no other use.
    holdout:    the holdout share at the time of the search, None if unknown.
    experiment: an identifier of the salt, which distinguishes experiments; it does not reveal the salt.
    """

    arm: Literal["treatment", "holdout", "interleaved"]
    unit: str
    holdout: float | None = None
    experiment: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """The report of one search.

    A report can be pickled and copied; a copy holds no hits. Its repr is one line, and a notebook shows it as a table.

    timings_ms: milliseconds of `signals`, `render`, `baseline`, `personalized`, `exploration`, `merge` and `added`; steps that did
                not run are absent. `added` is the time from the baseline's arrival to the answer;
                a rewritten search has `rewritten` instead.
    errors:     short texts without identifiers.
    teams:      of an interleaved page, the ranking that chose each hit: P the personalized one, B the caller's own, - neither.
    trial:      whether the template set is the policy's draft on trial.
    hedged:     whether the rewritten search was late and the caller's own was sent too; the reason tells which was served.
    """

    reason: Reason
    detail: str = ""
    variant: Variant = "baseline"
    policy: str | None = None
    exposure: Exposure | None = None
    template_version: str | None = None
    trial: bool = False
    strategy: Strategy | None = None
    source: Source | None = None
    boosts: tuple[BoostUsed, ...] = ()
    factor_limit_used: float | None = None
    slots: tuple[Slot, ...] = ()
    teams: str = ""
    shadow: Shown | None = None
    seed: int | None = None
    mode: Mode = "plain"
    hedged: bool = False
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    explain: Callable[[], tuple[Move, ...]] | None = field(default=None, repr=False, compare=False)
    weigh_page: Callable[[], PageFacts] | None = field(default=None, repr=False, compare=False)

    @property
    def page_facts(self) -> PageFacts | None:
        """How much of the page personalization made, None where it made none; worked out when asked for, as `moves` is."""
        return self.weigh_page() if self.weigh_page else None

    @property
    def moves(self) -> tuple[Move, ...]:
        """The hits that moved, with the boosts that moved them. Computed on access, since most reports are never inspected."""
        return self.explain() if self.explain else ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the page's hits, which `explain` holds: the moves are computed now."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["timings_ms"] = dict(self.timings_ms)
        values["explain"] = KnownMoves(self.moves) if self.explain else None
        facts = self.page_facts
        values["weigh_page"] = Weighed(facts) if facts else None
        return _restored, (values,)

    def __repr__(self) -> str:
        parts = [str(self.reason), *filter(None, (self.detail, self.policy and f"policy {self.policy}", self.source))]
        if self.reason is Reason.PERSONALIZED:
            parts += [count_of(len(self.boosts), "boost"), count_of(len(self.slots), "exploration hit")]
        if "added" in self.timings_ms:
            parts.append(f"{self.timings_ms['added']:.1f} ms added")
        return f"<Report: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """Return the report as a table, for a notebook."""
        rows: list[tuple[str, str]] = [("reason", f"{self.reason}" + (f": {self.detail}" if self.detail else ""))]
        rows += [
            (name, str(value))
            for name in ("variant", "mode", "policy", "template_version", "strategy", "source")
            if (value := getattr(self, name)) is not None
        ]
        rows += [("trial", "a draft, served to named subjects")] if self.trial else []
        rows += [("boost", f"{one.field} = {one.value}: + {one.weight:.2f} ({one.source})") for one in self.boosts]
        rows += [
            ("exploration", f"position {one.position}: {one.id}, propensity {one.propensity:.3f}") for one in self.slots
        ]
        rows += [(f"{name} ms", f"{spent:.1f}") for name, spent in self.timings_ms.items()]
        rows += [("error", error) for error in self.errors]
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in rows
        )
        return f"<table>{cells}</table>"


@dataclass(frozen=True, slots=True)
class KnownMoves:
    """The moves of a pickled report: computed before pickling, so that the page's hits are not needed."""

    moves: tuple[Move, ...]

    def __call__(self) -> tuple[Move, ...]:
        """Return the moves."""
        return self.moves


@dataclass(frozen=True, slots=True)
class Weighed:
    """The facts of the page of a report that was pickled, as `KnownMoves` has its moves."""

    facts: PageFacts

    def __call__(self) -> PageFacts:
        """Return them."""
        return self.facts


def internal_fault(error: BaseException) -> str:
    """Return the detail of a search that failed by a fault of the rewriter. An error's text may quote values, so it is left out."""
    return f"internal: {type(error).__name__}"


def _restored(values: dict[str, Any]) -> Report:
    return Report(**values)
