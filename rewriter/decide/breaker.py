"""The circuit breaker: what fails is left alone by itself, and comes back by itself.

The optional legs have one, and so has each store: a store can be done without, so one that fails must not stop the legs.

    closed ──▶ open          more than max_error_rate of the window failed, or a burst, or failures in a row, or too many were slow
    open ──▶ half_open       open_s later, doubled with each opening by failures up to max_open_s; after late calls never doubled
    half_open ──▶ closed     half_open_permits calls came back, none failed, and no more than max_slow_rate of them were slow
    half_open ──▶ open       one failure, or more slow calls than that

The window is the last `window_s` or the last `window_calls`, whichever holds more calls, none older than `max_age_s`. A pure 60 s
window never fires below 3.3 searches a second even at 100 % errors; a small one trips a 5 % rule at a true 3 %.

A hung store lets few reads through, since each holds a place in flight until its socket gives up: among the thousands of a good
minute they are no rate. So reads have a rule of their own, `late_in_a_row` with none in between that came in time; it must have
held for `LATE_SPAN_S`, since one stall of the machine makes all reads late that are under way.

Being late costs a search its signals and nothing else, and on a busy machine it says little of the server. So what was opened for
lateness alone is tried again after `open_s` each time: a wait that doubles held a store's breaker open for minutes where reads took
10 ms now and then.

Every call holds a permit and gives it back with an outcome; `unused` gives back without one (the caller went away, nothing was
sent). In `half_open` a permit is leased: one that never comes back frees its place after `permit_lease_s`, so that a lost probe
cannot wedge the breaker. A permit of an earlier state counts for nothing.

Methods are called from many threads and hold the lock for a few arithmetic steps, never during a call. Time is an argument:
monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from rewriter.settings import BreakerSettings

State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "slow", "unused"]

LATE_SPAN_S = 1.0

_FAILED = 1
_SLOW = 2


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one call, valid in the state in which it was given."""

    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """What a health page shows: state, counts in the window, why the breaker last opened, and the permits that are out."""

    state: State
    calls: int
    failures: int
    slow: int
    opened: int
    why: str
    reopens_in_s: float
    permits: int


class Breaker:
    """One breaker. See the module's text. `late_in_a_row` is for reads; without it, only the rate of slow calls counts.

    on_change: called with "open" and why, or with "closed", and the time, while the lock is held: it must neither wait nor raise.
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
        self._calls: deque[tuple[float, int]] = deque()
        self._burst: deque[tuple[float, int]] = deque()
        self._failures = self._slow = self._in_a_row = self._burst_failures = self._late_in_a_row = 0
        self._opened = 0
        self._openings_in_a_row = 0
        self._open_until_s = 0.0
        self._healthy_since_s = 0.0
        self._why = ""
        self._leases: dict[int, float] = {}
        self._probes_back = 0
        self._late_in_a_row = 0
        self._late_since_s = 0.0
        self._out = 0

    @property
    def closed(self) -> bool:
        """Whether calls go through as they come."""
        return self._state == "closed"

    @property
    def why(self) -> str:
        """Why it last opened."""
        return self._why

    def permit(self, now_s: float) -> Permit | None:
        """Return leave for one call, or None while open or while all half-open places are taken."""
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

    def give_back(self, permit: Permit, outcome: Outcome, now_s: float) -> None:
        """Take a permit back with what became of its call."""
        with self._lock:
            self._out -= 1
            if permit.epoch != self._epoch:
                return
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
            elif why := self._too_late(now_s):
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
                state, len(self._calls), self._failures, self._slow, self._opened, self._why, wait_s, self._out
            )

    def _probed(self, outcome: Outcome, now_s: float) -> None:
        """The first call after an outage has to connect, so one slow probe says nothing; one failure does."""
        self._probes_back += 1
        self._slow += outcome == "slow"
        permits = self._settings.half_open_permits
        if outcome == "failure":
            self._open("a probe in half_open failed", now_s)
        elif self._slow > self._settings.max_slow_rate * permits:
            self._open(f"{self._slow} of {permits} probes in half_open were late", now_s, late=True)
        elif self._probes_back >= permits:
            self._enter("closed")
            self._healthy_since_s = now_s
            self._on_change("closed", "", now_s)

    def _record(self, kind: int, now_s: float) -> None:
        self._calls.append((now_s, kind))
        self._burst.append((now_s, kind))
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
        """Drop a call once it is out of both views, the last window_s and the last window_calls, or too old for either."""
        s = self._settings
        while self._calls:
            at_s, kind = self._calls[0]
            if now_s - at_s <= s.max_age_s and (now_s - at_s <= s.window_s or len(self._calls) <= s.window_calls):
                break
            self._calls.popleft()
            self._failures -= kind == _FAILED
            self._slow -= kind == _SLOW
        while self._burst and now_s - self._burst[0][0] > s.burst_s:
            self._burst_failures -= self._burst.popleft()[1] == _FAILED

    def _broken(self) -> str:
        s = self._settings
        calls = len(self._calls)
        if self._in_a_row >= s.failures_in_a_row:
            return f"{self._in_a_row} failures in a row"
        burst, failed = len(self._burst), self._burst_failures
        if burst >= s.burst_calls and failed and failed >= s.burst_error_rate * burst:
            return f"{failed} of {burst} calls failed within {s.burst_s:g} s"
        if calls >= s.window_calls and self._failures > s.max_error_rate * calls:
            return f"{self._failures} of the last {calls} calls failed, more than {s.max_error_rate:.2%}"
        return ""

    def _too_late(self, now_s: float) -> str:
        s, calls = self._settings, len(self._calls)
        late, for_s = self._late_in_a_row, now_s - self._late_since_s
        if self._late_limit is not None and late >= self._late_limit and for_s >= LATE_SPAN_S:
            return f"{late} late in a row, for {for_s:.1f} s"
        if calls >= s.window_calls and self._slow > s.max_slow_rate * calls:
            return f"{self._slow} of the last {calls} calls were late, more than {s.max_slow_rate:.2%}"
        return ""

    def _open(self, why: str, now_s: float, *, late: bool = False) -> None:
        self._enter("open")
        self._opened += 1
        self._why = why
        in_a_row = 0 if late else min(self._openings_in_a_row, 30)
        self._open_until_s = now_s + min(self._settings.max_open_s, self._settings.open_s * 2.0**in_a_row)
        self._openings_in_a_row += not late
        self._on_change("open", why, now_s)

    def _enter(self, state: State) -> None:
        self._state = state
        self._epoch += 1
        self._leases = {}
        self._calls.clear()
        self._burst.clear()
        self._failures = self._slow = self._in_a_row = self._burst_failures = self._late_in_a_row = 0
