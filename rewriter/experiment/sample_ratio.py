"""The sample ratio test: does each arm have as many people as the experiment assigned?

A mismatch means that something else decides which people are counted (a lost log, a crash in one arm, bots). A difference between
the arms is then not an effect. The test is read daily, so it holds at all looks together: a Bayes factor against the assigned share
with a Beta mixture is a martingale if the share is right (Lindon and Malek, NeurIPS 2022), and exceeds 1/α with probability α at
most.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from scipy.special import betaln

ALPHA = 0.001
"""Significance level; strict, since a mismatch invalidates every lift."""
CONCENTRATION = 1_000.0
"""Concentration of the mixture's Beta around the assigned share: most sensitive to departures of one or two percentage points."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """People in both arms, the assigned share of treated people, and the always-valid p-value of that share."""

    treated: int
    control: int
    expected_share: float
    p_value: float

    @property
    def share(self) -> float:
        """The observed treated share, in [0, 1]."""
        return self.treated / max(1, self.treated + self.control)

    @property
    def mismatch(self) -> bool:
        """Whether the arms' sizes contradict the assigned share."""
        return self.p_value < ALPHA


def sample_ratio(treated: int, control: int, expected_share: float) -> SampleRatio:
    """Return the test of `treated` people against `expected_share` in (0, 1). Raises ValueError for another share."""
    if not 0.0 < expected_share < 1.0:
        raise ValueError(f"an expected share of {expected_share} is invalid: it must lie between 0 and 1")
    a, b = CONCENTRATION * expected_share, CONCENTRATION * (1.0 - expected_share)
    mixed = float(betaln(a + treated, b + control) - betaln(a, b))
    assigned = treated * log(expected_share) + control * log(1.0 - expected_share)
    return SampleRatio(treated, control, expected_share, min(1.0, exp(min(0.0, assigned - mixed))))
