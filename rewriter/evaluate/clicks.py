"""Judgments from clicks, corrected for position bias. Pure.

A hit far down is clicked less because it is seen less. The log itself shows how much less (after Agarwal et al., WSDM 2019): items
that were shown at both of two neighboring positions for the same words have a ratio of click rates. A click weighs the inverse of
its position's propensity, at most `MAX_WEIGHT`. If a position has too few such clicks, its propensity is assumed to fall as
1 / position (Joachims et al., WSDM 2017), and the output reports it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from rewriter.evaluate.judged import JudgedSearch
from rewriter.plural import agreeing, count_of
from rewriter.subject import Subject

MAX_WEIGHT = 10.0
MIN_CLICKS = 30
MAX_POSITION = 50


@dataclass(frozen=True, slots=True)
class ShownList:
    """One search of a log: person, words, time (seconds since the epoch), the shown items in order, and the clicked items."""

    query_id: str
    person: str
    words: str
    at_s: float
    shown: Sequence[str]
    clicked: Collection[str]


@dataclass(slots=True)
class ClickJudgments:
    """The judged searches.

    propensities: probability of being seen, by position from 0; harvested: the number of them estimated from the log.
    left_out:     searches without judgments, by reason. clicks: the number of clicks that became judgments.
    """

    searches: list[JudgedSearch]
    propensities: list[float]
    harvested: int
    clicks: int
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def note(self) -> str:
        """A sentence on the source of the judgments."""
        known = max(0, len(self.propensities) - 1)
        return (
            f"judgments are {count_of(self.clicks, 'click')}, weighed against their position: {self.harvested} of "
            f"{count_of(known, 'position')} {agreeing(self.harvested, 'are')} known from the log, the others are assumed "
            "to be seen as 1 / position"
        )


def judged_by_clicks(lists: Sequence[ShownList]) -> ClickJudgments:
    """Return judged searches: a clicked hit's grade is 1 / propensity of its position, a shown one's without a click 0."""
    propensities, harvested = position_propensities(lists)
    found = ClickJudgments([], propensities, harvested, 0)
    for number, one in enumerate(lists, 1):
        places = {item: at for at, item in enumerate(one.shown[:MAX_POSITION])}
        clicked = [item for item in dict.fromkeys(one.clicked) if item in places]
        if len(clicked) < len(set(one.clicked)):
            found.left_out["clicks on items that the record does not list"] += len(set(one.clicked)) - len(clicked)
        if not one.words.strip():
            found.left_out["searches without words"] += 1
        elif not one.person:
            found.left_out["searches without a person"] += 1
        elif not clicked:
            found.left_out["searches without a click"] += 1
        else:
            found.clicks += len(clicked)
            grades = dict.fromkeys(places, 0.0)
            grades |= {item: min(MAX_WEIGHT, 1.0 / propensities[places[item]]) for item in clicked}
            words = " ".join(one.words.split())
            found.searches.append(JudgedSearch(f"u{number}", Subject(one.person), words, grades, one.at_s))
    return found


def position_propensities(lists: Sequence[ShownList]) -> tuple[list[float], int]:
    """Return each position's propensity to be seen (1 for the first), and the number of propensities estimated from the log."""
    depth = max((min(len(one.shown), MAX_POSITION) for one in lists), default=0)
    shown: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    clicks: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for one in lists:
        words, clicked = one.words.casefold(), set(one.clicked)
        for at, item in enumerate(one.shown[:MAX_POSITION]):
            shown[words, item][at] += 1
            clicks[words, item][at] += item in clicked
    found, harvested = [1.0] if depth else [], 0
    for at in range(1, depth):
        ratio = _ratio(shown, clicks, at)
        harvested += ratio is not None
        found.append(found[-1] * (at / (at + 1) if ratio is None else ratio))
    return found, harvested


def _ratio(
    shown: Mapping[tuple[str, str], Counter[int]], clicks: Mapping[tuple[str, str], Counter[int]], at: int
) -> float | None:
    """Return the ratio of the click rates of position `at` and the one above it, from items shown at both; None for few clicks.

    The weight of a pair of words and item is the smaller of the two numbers of times that it was shown.
    """
    below = above = 0.0
    counted = [0, 0]
    for key, places in shown.items():
        if places[at] and places[at - 1]:
            weight = min(places[at], places[at - 1])
            below += weight * clicks[key][at] / places[at]
            above += weight * clicks[key][at - 1] / places[at - 1]
            counted[0] += clicks[key][at]
            counted[1] += clicks[key][at - 1]
    if min(counted) < MIN_CLICKS or above <= 0.0:
        return None
    return min(1.0, below / above)
