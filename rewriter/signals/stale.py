"""Each subject's last known signals, in process: what `on_late = "stale"` serves while the store is late.

Bounded in subjects, bytes and age; late answers are put here instead of being thrown away. Called from many threads.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from threading import Lock

from rewriter.settings import SignalSettings
from rewriter.signals.counters import Counters
from rewriter.signals.store import Query, Signals

_BYTES_PER_VALUE = 250
_BYTES_PER_SUBJECT = 1_000
"""Measured with tracemalloc on 64 values of two document fields each: 230–250 bytes a value."""

Who = tuple[str | None, str | None]


class LastKnown:
    """A bounded memory of signals, the longest unused out first. Time is an argument (monotonic seconds)."""

    def __init__(self, settings: SignalSettings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._kept: OrderedDict[Who, tuple[float, int, Signals]] = OrderedDict()
        self._bytes = 0

    def put(self, query: Query, signals: Signals, now_s: float) -> None:
        """Remember what a read found, late or not. Nothing is kept where `on_late` would not use it."""
        if self._settings.on_late != "stale" or signals.failed:
            return
        size = _BYTES_PER_SUBJECT + _BYTES_PER_VALUE * (_count(signals.session) + _count(signals.profile))
        who = (query.session, query.profile)
        with self._lock:
            self._drop(who)
            self._kept[who] = (now_s, size, replace(signals, plan=None))
            self._bytes += size
            while len(self._kept) > self._settings.stale_max_subjects or self._bytes > self._settings.stale_max_bytes:
                self._drop(next(iter(self._kept)))

    def get(self, query: Query, now_s: float) -> Signals | None:
        """Return what was last known of the subject of a read, unless it is too old."""
        who = (query.session, query.profile)
        with self._lock:
            kept = self._kept.get(who)
            if kept is None or now_s - kept[0] > self._settings.stale_max_age_s:
                return None
            self._kept.move_to_end(who)
            return kept[2]

    def forget(self, session: str | None, profile: str | None) -> None:
        """Drop what is known of a session or a user."""
        with self._lock:
            for who in [
                who for who in self._kept if (session and who[0] == session) or (profile and who[1] == profile)
            ]:
                self._drop(who)

    def _drop(self, who: Who) -> None:
        kept = self._kept.pop(who, None)
        if kept:
            self._bytes -= kept[1]


def _count(counters: Counters | None) -> int:
    return len(counters.weights) if counters else 0
