"""The sample ratio: are there as many people in each arm as the experiment assigned?

A mismatch means that something else decides who is counted (a lost log, a crash in one arm, bots), and then a difference
between the arms is no effect. It is looked at daily, so the test holds at all looks together: a Bayes factor against the
assigned share with a Beta mixture is a martingale where the share is right (Lindon and Malek, NeurIPS 2022), and exceeds 1/α
with probability α at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from scipy.special import betaln

ALPHA = 0.001
"""Strict, since a mismatch hides every lift."""
CONCENTRATION = 1_000.0
"""Of the mixture's Beta about the assigned share: departures by one or two percentage points are what it looks for first."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """People in both arms, the share that should be treated, and the always-valid p-value that it is so."""

    treated: int
    control: int
    expected_share: float
    p_value: float

    @property
    def share(self) -> float:
        """The treated share in [0, 1] that was found."""
        return self.treated / max(1, self.treated + self.control)

    @property
    def mismatch(self) -> bool:
        """Whether the arms are not what was assigned."""
        return self.p_value < ALPHA


def sample_ratio(treated: int, control: int, expected_share: float) -> SampleRatio:
    """Return the test of `treated` people against `expected_share` in (0, 1). Raises ValueError for another share."""
    if not 0.0 < expected_share < 1.0:
        raise ValueError(f"an expected share of {expected_share} makes no experiment: it must lie between 0 and 1")
    a, b = CONCENTRATION * expected_share, CONCENTRATION * (1.0 - expected_share)
    mixed = float(betaln(a + treated, b + control) - betaln(a, b))
    assigned = treated * log(expected_share) + control * log(1.0 - expected_share)
    return SampleRatio(treated, control, expected_share, min(1.0, exp(min(0.0, assigned - mixed))))
