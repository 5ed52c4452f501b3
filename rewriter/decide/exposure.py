"""Counts of searches by experiment arm, and of sessions whose arm changed at log-in.

The unit of an experiment is the user if there is one, else the session. So a visitor's unit changes at log-in, and from then on the
new unit's arm applies: a cookie, which several people may share, keeps no person in an arm. The resulting mix of arms is counted:
sessions seen under more than one unit, and those of them whose arm changed too. Each process remembers the hashes of its latest
`REMEMBERED` sessions, so both counts are lower bounds.

Methods are called from many threads and hold the lock for one look-up.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from threading import Lock

from rewriter.decide.assignment import Arm
from rewriter.subject import Subject

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class ArmsStatus:
    """Counts of one process.

    searches:      number of searches by arm.
    units_changed: sessions whose unit changed, usually by a log-in.
    arms_changed:  those of them whose arm changed with the unit.
    """

    searches: dict[str, int]
    units_changed: int
    arms_changed: int


class Arms:
    """The counters of one process; see the module's docstring."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._searches: Counter[str] = Counter()
        self._sessions: OrderedDict[int, tuple[int, Arm]] = OrderedDict()
        self._units_changed = 0
        self._arms_changed = 0

    def note(self, subject: Subject, arm: Arm) -> None:
        """Count one search of `subject` in `arm`."""
        session = hash(subject.session_id) if subject.session_id else None
        now = (hash(subject.unit), arm)
        with self._lock:
            self._searches[arm] += 1
            if session is None:
                return
            before = self._sessions.pop(session, now)
            self._sessions[session] = now
            self._units_changed += before[0] != now[0]
            self._arms_changed += before[0] != now[0] and before[1] != arm
            if len(self._sessions) > REMEMBERED:
                self._sessions.popitem(last=False)

    def status(self) -> ArmsStatus:
        """Return the counts."""
        with self._lock:
            return ArmsStatus(dict(self._searches), self._units_changed, self._arms_changed)
