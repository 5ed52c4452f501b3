"""The permit of the breaker of the optional legs that one search holds."""

from __future__ import annotations

from rewriter.decide.breaker import Breaker, Outcome, Permit


class Held:
    """The breaker's permit of one search, while it holds one. It is released once, with the outcome of the search."""

    __slots__ = ("_breaker", "_permit", "cause", "outcome")

    def __init__(self) -> None:
        self._breaker: Breaker | None = None
        self._permit: Permit | None = None
        self.outcome: Outcome = "unused"
        self.cause = ""

    def take(self, breaker: Breaker, permit: Permit) -> None:
        """Hold a permit of a breaker."""
        self._breaker, self._permit = breaker, permit

    def give_back(self, now_s: float) -> None:
        """Give the permit back, where one is held."""
        permit, self._permit = self._permit, None
        if permit is not None and self._breaker is not None:
            self._breaker.give_back(permit, self.outcome, now_s, self.cause)
