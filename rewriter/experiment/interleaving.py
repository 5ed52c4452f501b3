"""The analysis of interleaved lists: which of two rankings on one page people choose from.

Clicks are compared within each list, so that a person who clicks much, or searches for easy queries, favors neither ranking. This
is why interleaving needs a small part of the searches of an A/B test (Chapelle, Joachims, Radlinski and Yue, TOIS 2012). The
analysis shows which ranking people choose, not how much that is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from rewriter.experiment.estimates import Mean, mean, ratio
from rewriter.experiment.sequences import PLANNED_PEOPLE, Interval, always_valid_p, sequence


@dataclass(frozen=True, slots=True)
class ListCredit:
    """The credit of one interleaved list: clicks (or orders) on each team's hits, and whether the teams competed at all."""

    person: str
    personalized: int
    baseline: int
    competing: bool = True


@dataclass(frozen=True, slots=True)
class Preference:
    """The preferred ranking: `score` in [−1, 1], above 0 for the personalized ranking, with its interval over all looks.

    lists: the number of lists that decided. ties: of lists with equal credit. nothing: of lists without any credit. same: of lists
    whose teams were the same, so that they did not compete.
    """

    score: float
    standard_error: float
    interval: Interval
    p_value: float
    people: int
    lists: int
    ties: int
    nothing: int
    same: int


def preference(
    earned: Iterable[ListCredit], *, per_person: bool = False, planned_people: float = PLANNED_PEOPLE
) -> Preference:
    """Return the preference over people.

    per_person: False (for clicks): a list's outcome is the sign of personalized − baseline, without ties; the score is the mean
                over lists, with the delta method's standard error over people. True (for orders, which are rare): a person's score
                is the sign over all lists together, and the score is the mean over people.
    """
    lists = ties = nothing = same = 0
    of_person: dict[str, list[int]] = {}
    for one in earned:
        if not one.competing:
            same += 1
            continue
        if not one.personalized and not one.baseline:
            nothing += 1
            continue
        if one.personalized == one.baseline and not per_person:
            ties += 1
            continue
        lists += 1
        difference = one.personalized - one.baseline
        of_person.setdefault(one.person, []).append(difference if per_person else (1 if difference > 0 else -1))
    if per_person:
        sums = [sum(found) for found in of_person.values()]
        ties = sum(total == 0 for total in sums)
        scores = np.array([1.0 if total > 0 else -1.0 for total in sums if total])
        found = mean(scores) if len(scores) else Mean(nan, 0.0, 0)
    else:
        won = np.array([float(sum(found)) for found in of_person.values()])
        found = ratio(won, np.array([float(len(found)) for found in of_person.values()]))
    # One sample of people here, two arms elsewhere: half as many people give as good an approximation.
    people = 2 * found.people
    return Preference(
        found.value,
        found.standard_error,
        sequence(found.value, found.standard_error, people, planned_people=planned_people)
        if found.people
        else Interval(-inf, inf),
        always_valid_p(found.value, found.standard_error, people, planned_people=planned_people)
        if found.people
        else 1.0,
        found.people,
        lists,
        ties,
        nothing,
        same,
    )
