"""Last known signals of each subject in process memory, which `on_late = "stale"` serves while the store is late.

Sessions and profiles are cached separately, so that each of two stores is remembered whatever the other does. A late answer is
cached here too.
"""

from __future__ import annotations

from rewriter.bounded import Bounded
from rewriter.settings import SignalSettings
from rewriter.signals.counters import Counters
from rewriter.signals.store import Signals, SignalsQuery

_BYTES_PER_VALUE = 250
_BYTES_PER_SUBJECT = 1_000
"""Measured with tracemalloc on 64 values of two document fields each: 230–250 bytes a value."""


class LastKnown:
    """A bounded cache of signals. Methods are called from many threads; time is an argument (monotonic seconds)."""

    def __init__(self, settings: SignalSettings) -> None:
        self._wanted = settings.on_late == "stale"
        # Each subject has two entries, a session's and a profile's.
        self._kept: Bounded[str, Counters] = Bounded(
            max_bytes=settings.stale_max_bytes,
            max_age_s=settings.stale_max_age_s,
            max_count=2 * settings.stale_max_subjects,
        )

    def put(self, query: SignalsQuery, signals: Signals, now_s: float) -> None:
        """Cache the result of a read, late or not; does nothing unless `on_late` is "stale"."""
        if not self._wanted:
            return
        for scope, base, counters in (
            ("session", query.session, signals.session),
            ("profile", query.profile, signals.profile),
        ):
            if base is None or scope in signals.failed:
                continue
            if counters is None:
                self._kept.drop(base)
            else:
                self._kept.put(base, counters, _BYTES_PER_SUBJECT + _BYTES_PER_VALUE * len(counters.weights), now_s)

    def get(self, query: SignalsQuery, now_s: float) -> Signals | None:
        """Return the last known signals of a read's subject; None if there are none or they are older than `stale_max_age_s`."""
        session, profile = (
            self._kept.get(base, now_s) if base is not None else None for base in (query.session, query.profile)
        )
        return None if session is None and profile is None else Signals(session, profile)

    def clear(self) -> None:
        """Drop the signals of all subjects."""
        self._kept.clear()
