"""Hedges of one policy's rewritten searches: how long one may take before the caller's own goes out too, and when to stop.

A rewritten search that has not been answered `delay_s` after it was sent is late, and the caller's own search is sent as well (a
hedged request: Dean and Barroso, "The Tail at Scale", CACM 56 (2), 2013). The delay is the 95th percentile of the policy's recent
searches with boosts. A hedged search counts with all the time it took: counted only up to its hedge, the percentile would fall with
each of them, and more searches would be late. Searches without boosts are faster: where most searches are of people of whom nothing
is known, or after a long pause, too many others would be late by theirs. So they count only while fewer than KNOWN others are
known.

Hedges are load. Without a bound they melt a server down that nothing has slowed down: more searches at once make more of them late,
and each late one adds a search. Two bounds keep that from happening:

    budget   each rewritten search adds `share` tokens to a bucket of MAX_TOKENS, a hedge takes one, and leaves RESERVE of them for
             failures. A rewritten search that failed costs a second search too, and takes a token as well.
    pause    where too many searches of a window are late (`late_window`), or a failure finds no token, the policy sends
             the callers' own searches alone: for PAUSE_S, doubled each time up to MAX_PAUSE_S, until it has gone well for
             MAX_PAUSE_S. A search that fails with boosts and without takes no token, since the cause may be its caller's own
             (a header that no client sends): MAX_TOKENS of them without an answer in between pause the policy.

Called from many threads. Time is an argument: monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from rewriter.decide.late_window import LateWindow
from rewriter.decide.recent_times import RecentTimes, quantile
from rewriter.plural import agreeing, count_of

QUANTILE = 0.95
REMEMBERED = 600
"""Searches of which the percentile is taken."""

KNOWN = 50
"""Searches without which there is no percentile; until then a policy goes parallel."""

MIN_DELAY_S = 0.005
"""A search of 2 ms that takes 4 is late by what a busy interpreter adds; a hedge then comes too late to help."""

MAX_TOKENS = 10.0
RESERVE = 3.0

IN_A_ROW = 10
IN_A_ROW_S = 2.0
"""Late searches without one in time in between, and over how long at least: at 1 search a second the window takes minutes to
fill, and one stall lasts less."""

TIMEOUT_S, TIMEOUT_DELAYS, MAX_TIMEOUT_S = 1.0, 4.0, 10.0

PAUSE_S = 10.0
MAX_PAUSE_S = 160.0


@dataclass(frozen=True, slots=True)
class HedgingStatus:
    """For a health page. `delay_ms` is None until enough searches are known; `late_share` is that of the window."""

    delay_ms: float | None
    searches: int
    hedges: int
    refused: int
    failures: int
    late_share: float
    tokens: float
    pauses: int
    paused_for_s: float
    why: str


class Hedging:
    """The hedges of one policy. See the module's text.

    share:   of its rewritten searches that may be hedged, 0 for none.
    fixed_s: the delay, where settings name one.
    """

    def __init__(self, share: float = 0.05, fixed_s: float | None = None) -> None:
        self._share = share
        self._fixed_s = fixed_s
        self._lock = Lock()
        self._boosted, self._plain = RecentTimes(REMEMBERED, KNOWN), RecentTimes(KNOWN, KNOWN)
        self._window = LateWindow()
        self._late_in_a_row = self._failed_alike = 0
        self._late_since_s = 0.0
        self._tokens = MAX_TOKENS
        self._paused_until_s = self._learns_from_s = float("-inf")
        self._pauses_in_a_row = 0
        self._searches = self._hedges = self._refused = self._failures = self._pauses = 0
        self._why = ""

    @property
    def known(self) -> bool:
        """Whether the delay is known."""
        return self._fixed_s is not None or self._knows_times

    def paused(self, now_s: float) -> bool:
        """Return whether the policy's searches are to be their callers' own now."""
        return now_s < self._paused_until_s

    def delay_s(self) -> float:
        """Return after how long a rewritten search is late."""
        with self._lock:
            return self._delay_s()

    def takes_s(self) -> float | None:
        """Return how long the slow ones of the policy's searches take (the percentile), None until enough are known."""
        with self._lock:
            return self._percentile_s() if self._knows_times else None

    def timeout_s(self) -> float:
        """Return after how long a rewritten search has failed: where it could not be hedged, it is waited for until then."""
        return min(MAX_TIMEOUT_S, TIMEOUT_S + TIMEOUT_DELAYS * self.delay_s())

    def sent(self) -> None:
        """Note that a rewritten search was sent."""
        with self._lock:
            self._searches += 1
            self._tokens = min(MAX_TOKENS, self._tokens + self._share)

    def hedge(self, now_s: float) -> bool:
        """Note that a rewritten search is late; return whether the caller's own may be sent beside it."""
        with self._lock:
            self._judge(True, now_s)
            if self._tokens < 1.0 + RESERVE or not self._share:
                self._refused += 1
                return False
            self._tokens -= 1.0
            self._hedges += 1
            return True

    def failed(self, now_s: float, *, alike: bool = False) -> None:
        """Note a rewritten search that the server could not answer, in whose stead the caller's own is sent.

        alike: whether the caller's own failed too, and the server's state is not known to be the cause.
        """
        with self._lock:
            self._failures += 1
            if alike:
                self._failed_alike += 1
                if self._failed_alike >= MAX_TOKENS:
                    self._pause(
                        f"{count_of(self._failed_alike, 'search')} in a row failed with boosts and without", now_s
                    )
            elif self._tokens < 1.0:
                self._pause("more rewritten searches failed than the budget of hedges holds", now_s)
            else:
                self._tokens -= 1.0

    def took(self, took_s: float, now_s: float, *, boosted: bool = False, in_time: bool = False) -> None:
        """Note how long a search of this policy took: whole, whichever of the two answered.

        boosted: whether boosts were sent, once or in a leg.
        in_time: for a rewritten search that was answered before it was late. A late one was noted by `hedge`, and a search
                 that was not rewritten tells of the server's speed alone.
        """
        with self._lock:
            if in_time:
                self._failed_alike = 0
            if now_s < self._learns_from_s:
                return  # a search from before the pause: it waited behind the late ones
            (self._boosted if boosted else self._plain).add(took_s, now_s)
            if in_time:
                self._judge(False, now_s)

    def status(self, now_s: float) -> HedgingStatus:
        """Return the figures of hedges, and whether the policy is paused."""
        with self._lock:
            late, searches = self._window.counts()
            return HedgingStatus(
                self._delay_s() * 1000.0 if self.known else None, self._searches, self._hedges, self._refused, self._failures,
                late / searches if searches else 0.0, self._tokens, self._pauses,
                max(0.0, self._paused_until_s - now_s), self._why,
            )  # fmt: skip

    def _delay_s(self) -> float:
        if self._fixed_s is not None:
            return self._fixed_s
        return max(MIN_DELAY_S, self._percentile_s()) if self._boosted or self._plain else MIN_DELAY_S

    @property
    def _knows_times(self) -> bool:
        return len(self._boosted) + len(self._plain) >= KNOWN

    def _percentile_s(self) -> float:
        return quantile(QUANTILE, self._boosted, self._plain if len(self._boosted) < KNOWN else None)

    def _judge(self, late: bool, now_s: float) -> None:
        if now_s < self._paused_until_s:
            return  # sent before the pause, answered within it
        if not late:
            self._late_in_a_row = 0
        elif not self._late_in_a_row:
            self._late_since_s = now_s
        self._late_in_a_row += late
        self._window.add(late, now_s)
        if self._window.too_late():
            late_searches, searches = self._window.counts()
            self._pause(
                f"{late_searches} of the last {count_of(searches, 'rewritten search')} {agreeing(late_searches, 'were')} late",
                now_s,
            )
        elif self._late_in_a_row >= IN_A_ROW and now_s - self._late_since_s >= IN_A_ROW_S:
            self._pause(f"{count_of(self._late_in_a_row, 'rewritten search')} in a row were late", now_s)

    def _pause(self, why: str, now_s: float) -> None:
        if now_s < self._paused_until_s:
            return
        if now_s - self._paused_until_s > MAX_PAUSE_S:  # it has gone well since
            self._pauses_in_a_row = 0
        for_s = min(MAX_PAUSE_S, PAUSE_S * 2.0 ** min(30, self._pauses_in_a_row))
        self._pauses_in_a_row += 1
        self._paused_until_s, self._learns_from_s = now_s + for_s, now_s + for_s / 2.0
        self._boosted.clear()
        self._plain.clear()
        self._pauses += 1
        self._why = why
        self._window.clear()
        self._late_in_a_row = self._failed_alike = 0
        self._tokens = RESERVE + 1.0
