"""Who was in which arm, counted, and what became of the arm at log-in.

The unit of an experiment is the user where there is one, else the session. At log-in the unit therefore changes, and from that
search on the new unit's arm holds: nobody is kept in an arm by a cookie that others may share. What that mixes is counted: the
sessions seen under more than one unit, and those of them whose arm changed with it. A session is remembered by its hash, the
latest `REMEMBERED` of them in each process, so across processes the two counts are floors.

Called from many threads; the lock is held for a look-up.
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
    """Searches by arm; sessions whose unit changed (a log-in, as a rule), and those whose arm changed with it."""

    searches: dict[str, int]
    units_changed: int
    arms_changed: int


class Arms:
    """The arms of one process's searches. See the module's text."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._searches: Counter[str] = Counter()
        self._sessions: OrderedDict[int, tuple[int, Arm]] = OrderedDict()
        self._units_changed = 0
        self._arms_changed = 0

    def note(self, subject: Subject, arm: Arm) -> None:
        """Count one search."""
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
