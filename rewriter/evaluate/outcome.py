"""The outcome of an evaluation: the pages of the baseline and of each variant for each judged search. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rewriter.client.seam import SearchArguments
from rewriter.errors import Fault
from rewriter.evaluate.judged import JudgedSearch
from rewriter.plural import count_of
from rewriter.report import FAILURES, Reason

COLD_EVENTS = 5
"""Number of earlier events below which a person is cold."""
SHOWN_CAUSES = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A judged search with everything that is fixed before it is answered.

    person: the number of its subject in this run; known: its number in the history, or None. at_s: its time.
    seed:   the seed of its exploration hits.
    """

    judged: JudgedSearch
    arguments: SearchArguments
    person: int
    known: int | None
    at_s: float
    population_s: float
    seed: int
    key: str
    is_first: bool


@dataclass(slots=True)
class Result:
    """The pages of one variant, or of the baseline.

    pages:   by search, the ids in displayed order. categories, ages_days: of those hits, None where unknown.
    unlike:  by search, the intra-list diversity of its page, None where it is unknown.
    reasons: by search; functions: the number of boosts. firsts: the pages of searches whose classes were not known yet.
    details: the number of searches by reason and detail, of those that were not personalized.
    """

    pages: dict[int, list[str]] = field(default_factory=dict)
    categories: dict[int, list[str | None]] = field(default_factory=dict)
    unlike: dict[int, float | None] = field(default_factory=dict)
    ages_days: dict[int, list[float | None]] = field(default_factory=dict)
    reasons: dict[int, Reason] = field(default_factory=dict)
    functions: dict[int, int] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    firsts: dict[int, list[str]] = field(default_factory=dict)
    details: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> Counter[str]:
        """The searches whose page is the baseline's because something failed, by cause."""
        return Counter({one: count for one, count in self.details.items() if one.partition(":")[0] in FAILURES})

    def failed_in_words(self, searches: str) -> str:
        """Return how many searches failed and why, "" if none did. searches: what they are searches of."""
        causes = self.failures
        if not causes:
            return ""
        named = "; ".join(f"{cause} ({count:,})" for cause, count in causes.most_common(SHOWN_CAUSES))
        more = f"; and {count_of(len(causes) - SHOWN_CAUSES, 'more cause')}" if len(causes) > SHOWN_CAUSES else ""
        total = count_of(len(self.pages), searches)
        return f"failed in {causes.total():,} of {total}, whose pages are the plain ones: {named}{more}"


@dataclass(slots=True)
class Outcome:
    """The pages of all answered searches, and facts of each search.

    new:       by search, the relevant ids that the person had not used before. cold: their earlier events.
    classes:   by search, the class of its query, "" if unknown.
    left_out:  searches that were not evaluated, by reason. interrupted: whether the run ended early.
    spent_s:   seconds of the searches themselves. segments: those that events of the history name.
    """

    prepared: Sequence[Prepared]
    baseline: Result
    variants: Mapping[str, Result]
    new: dict[int, frozenset[str]] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    interrupted: bool = False
    spent_s: float = 0.0
    segments: frozenset[str] = frozenset()

    @property
    def done(self) -> list[int]:
        """The numbers of the searches that the baseline and every variant have answered, in order."""
        every = [self.baseline.pages, *(one.pages for one in self.variants.values())]
        return sorted(set(every[0]).intersection(*every[1:]))
