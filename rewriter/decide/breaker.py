"""Circuit breaker: stops calls to a failing server, and resumes them after successful probes.

There is one for the optional legs of each policy and one for each store. Searches work without a store, so a failing store must not
stop the legs; and legs of one policy can be late or refused where those of the others are not.

    closed ──▶ open          more than max_error_rate of the window failed, or a burst, or failures in a row, or too many were slow
    open ──▶ half_open       after open_s, doubled with each opening by failures up to max_open_s; not doubled after late calls
    half_open ──▶ closed     half_open_permits calls returned, none failed, and no more than max_slow_rate of them were slow
    half_open ──▶ open       one failure, or more slow calls than that

The window is the last `window_s` or the last `window_calls`, whichever holds more calls; no call is older than `max_age_s`. A pure
60 s window never fires below 3.3 searches a second even at 100 % errors; a small one trips a 5 % rule at a true error rate of 3 %.

A hung store completes few reads, because each lasts until its socket times out, and their number is bounded; late reads may
therefore never reach `max_slow_rate`. So reads have a rule of their own: `late_in_a_row` late reads with no timely one in between,
over at least `LATE_SPAN_S`. The span is needed because one stall of the machine makes all reads late that are in flight.

A late read costs a search its signals and nothing else, and on a busy machine it is weak evidence about the server. So a breaker
that opened for lateness alone is probed again after `open_s` each time: doubling held a store's breaker open for minutes when reads
only occasionally took 10 ms. And only a slow call opens it for lateness: of a policy that goes plain while its searches are late,
the window is full only after the server has recovered, and it opened upon a call in time.

Every call holds a permit and returns it with an outcome; `unused` means that the call gave no evidence (the caller went away,
nothing was sent). In `half_open` a permit is a lease: one that is never returned expires after `permit_lease_s`, so that a lost
probe cannot block the breaker. Permits of an earlier state are ignored.

Methods are called from many threads and hold the lock for a few arithmetic steps, never during a call. Time is an argument
(monotonic seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Literal

from rewriter.decide.call_runs import CallRuns
from rewriter.plural import agreeing, count_of
from rewriter.record import record
from rewriter.settings import BreakerSettings

State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "slow", "unused"]

LATE_SPAN_S = 1.0
MAX_CAUSE = 120
"""The number of characters that are kept of a failure's cause."""

_FAILED = 1
_SLOW = 2


@record(frozen=True, slots=True)
class Permit:
    """Permission for one call; its outcome counts only in the state in which it was given."""

    number: int
    epoch: int


@record(frozen=True, slots=True)
class BreakerStatus:
    """A breaker's state for a health page.

    calls, failures, slow: counts in the window.
    opened:       number of openings since the start; `why` is the cause of the last one.
    reopens_in_s: seconds until half_open, 0 unless open.
    permits:      permits that have not been returned.
    transitions:  number of changes to each state since the start.
    """

    state: State
    calls: int
    failures: int
    slow: int
    opened: int
    why: str
    reopens_in_s: float
    permits: int
    transitions: Mapping[State, int]


WORST: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}


def worst_of(breakers: Iterable[BreakerStatus]) -> BreakerStatus:
    """Return the state of the breaker that lets the fewest calls pass; a closed one if there is none."""
    none = BreakerStatus("closed", 0, 0, 0, 0, "", 0.0, 0, dict.fromkeys(WORST, 0))
    return max(breakers, key=lambda one: (WORST[one.state], one.failures + one.slow, one.calls), default=none)


class Breaker:
    """One circuit breaker; the module's docstring has its rules.

    late_in_a_row: the limit for reads; None to count only the rate of slow calls.
    on_change:     called with the new state ("open" or "closed"), the cause and the time, while the lock is held: it must neither
                   wait nor raise.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        *,
        late_in_a_row: int | None = None,
        on_change: Callable[[State, str, float], None] = lambda *_: None,
    ) -> None:
        self._settings = settings
        self._late_limit = late_in_a_row
        self._on_change = on_change
        self._lock = Lock()
        self._state: State = "closed"
        self._epoch = 0
        self._numbers = 0
        self._calls, self._burst = CallRuns(), CallRuns()
        self._failures = self._slow = self._in_a_row = self._burst_failures = self._late_in_a_row = 0
        self._transitions: dict[State, int] = {"open": 0, "half_open": 0, "closed": 0}
        self._openings_in_a_row = 0
        self._open_until_s = 0.0
        self._healthy_since_s = 0.0
        self._why = self._cause = ""
        self._leases: dict[int, float] = {}
        self._probes_back = 0
        self._late_since_s = 0.0
        self._out = 0

    @property
    def closed(self) -> bool:
        """Whether the state is closed, so that every call gets a permit."""
        return self._state == "closed"

    @property
    def why(self) -> str:
        """The cause of the last opening, "" before the first one."""
        return self._why

    def permit(self, now_s: float) -> Permit | None:
        """Return a permit for one call; None while open, or while all half-open permits are taken."""
        with self._lock:
            if self._state == "open":
                if now_s < self._open_until_s:
                    return None
                self._enter("half_open")
                self._probes_back = 0
            if self._state == "half_open":
                self._leases = {number: until_s for number, until_s in self._leases.items() if until_s > now_s}
                if len(self._leases) + self._probes_back >= self._settings.half_open_permits:
                    return None
            self._numbers += 1
            self._out += 1
            if self._state == "half_open":
                self._leases[self._numbers] = now_s + self._settings.permit_lease_s
            return Permit(self._numbers, self._epoch)

    def give_back(self, permit: Permit, outcome: Outcome, now_s: float, cause: str = "") -> None:
        """Return a permit with the outcome of its call; cause: of a failure, without an identifier."""
        with self._lock:
            self._out -= 1
            if permit.epoch != self._epoch:
                return
            if outcome == "failure":
                self._cause = cause[:MAX_CAUSE]
            leased = self._leases.pop(permit.number, None)
            if outcome == "unused":
                return
            if self._state == "half_open":
                if leased is not None:
                    self._probed(outcome, now_s)
                return
            self._record(_FAILED if outcome == "failure" else _SLOW if outcome == "slow" else 0, now_s)
            if why := self._broken():
                self._open(why, now_s)
            elif outcome == "slow" and (why := self._too_late(now_s)):
                self._open(why, now_s, late=True)
            elif self._openings_in_a_row and now_s - self._healthy_since_s >= self._settings.max_open_s:
                self._openings_in_a_row = 0

    def status(self, now_s: float) -> BreakerStatus:
        """Return the state and the counts as of now."""
        with self._lock:
            state: State = "half_open" if self._state == "open" and now_s >= self._open_until_s else self._state
            self._forget(now_s)
            wait_s = max(0.0, self._open_until_s - now_s) if self._state == "open" else 0.0
            return BreakerStatus(
                state, len(self._calls), self._failures, self._slow, self._transitions["open"], self._why, wait_s, self._out,
                dict(self._transitions),
            )  # fmt: skip

    def _probed(self, outcome: Outcome, now_s: float) -> None:
        """Count a probe's outcome. One slow probe is no evidence, since the first call after an outage has to connect."""
        self._probes_back += 1
        self._slow += outcome == "slow"
        permits = self._settings.half_open_permits
        if outcome == "failure":
            self._open("a probe in half_open failed", now_s)
        elif self._slow > self._settings.max_slow_rate * permits:
            self._open(
                f"{self._slow} of {count_of(permits, 'probe')} in half_open {agreeing(self._slow, 'were')} late",
                now_s,
                late=True,
            )
        elif self._probes_back >= permits:
            self._enter("closed")
            self._healthy_since_s = now_s
            self._on_change("closed", "", now_s)

    def _record(self, kind: int, now_s: float) -> None:
        self._calls.add(kind, now_s)
        self._burst.add(kind, now_s)
        self._failures += kind == _FAILED
        self._burst_failures += kind == _FAILED
        self._slow += kind == _SLOW
        self._in_a_row = self._in_a_row + 1 if kind == _FAILED else 0
        if kind != _SLOW:
            self._late_in_a_row = 0
        elif not self._late_in_a_row:
            self._late_since_s = now_s
        self._late_in_a_row += kind == _SLOW
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        """Drop calls older than `max_age_s`, and those outside both the last `window_s` and the last `window_calls`."""
        s = self._settings
        while self._calls:
            age_s = now_s - self._calls.oldest_s
            in_window = age_s <= s.window_s or len(self._calls) <= s.window_calls
            if in_window and age_s <= s.max_age_s and not self._calls.full:
                break
            kind = self._calls.drop()
            self._failures -= kind == _FAILED
            self._slow -= kind == _SLOW
        while self._burst and (now_s - self._burst.oldest_s > s.burst_s or self._burst.full):
            self._burst_failures -= self._burst.drop() == _FAILED

    def _broken(self) -> str:
        s = self._settings
        calls = len(self._calls)
        if self._in_a_row >= s.failures_in_a_row:
            return f"{count_of(self._in_a_row, 'failure')} in a row"
        burst, failed = len(self._burst), self._burst_failures
        if burst >= s.burst_calls and failed and failed >= s.burst_error_rate * burst:
            return f"{failed} of {count_of(burst, 'call')} failed within {s.burst_s:g} s"
        if calls >= s.window_calls and self._failures > s.max_error_rate * calls:
            return f"{self._failures} of the last {count_of(calls, 'call')} failed, more than {s.max_error_rate:.2%}"
        return ""

    def _too_late(self, now_s: float) -> str:
        s, calls = self._settings, len(self._calls)
        late, for_s = self._late_in_a_row, now_s - self._late_since_s
        if self._late_limit is not None and late >= self._late_limit and for_s >= LATE_SPAN_S:
            return f"{late} late in a row, for {for_s:.1f} s"
        if calls >= s.window_calls and self._slow > s.max_slow_rate * calls:
            late_calls = f"{self._slow} of the last {count_of(calls, 'call')} {agreeing(self._slow, 'were')} late"
            return f"{late_calls}, more than {s.max_slow_rate:.2%}"
        return ""

    def _open(self, why: str, now_s: float, *, late: bool = False) -> None:
        self._enter("open")
        why += f"; the last one: {self._cause}" if self._cause and not late else ""
        self._why = why
        in_a_row = 0 if late else min(self._openings_in_a_row, 30)
        self._open_until_s = now_s + min(self._settings.max_open_s, self._settings.open_s * 2.0**in_a_row)
        self._openings_in_a_row += not late
        self._on_change("open", why, now_s)

    def _enter(self, state: State) -> None:
        self._state = state
        self._transitions[state] += 1
        self._epoch += 1
        self._leases = {}
        self._calls.clear()
        self._burst.clear()
        self._failures = self._slow = self._in_a_row = self._burst_failures = self._late_in_a_row = 0
