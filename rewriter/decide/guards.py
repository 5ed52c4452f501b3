"""The guards of one process that a decision asks: breakers of the optional legs, late legs and hedges by policy, counts by arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rewriter.decide.breaker import Breaker
from rewriter.decide.exposure import Arms
from rewriter.decide.hedging import Hedging
from rewriter.decide.late_legs import LateLegs


@dataclass(frozen=True, slots=True)
class Guards:
    """The guards that all searches of one process share.

    arms:      counts searches by their arm.
    breakers, late_legs: by policy; `hedging` by policy whose mode is "rewrite".
    """

    breakers: Mapping[str, Breaker]
    arms: Arms
    late_legs: Mapping[str, LateLegs]
    hedging: Mapping[str, Hedging]
