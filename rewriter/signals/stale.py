"""Last known signals of each subject in process memory, which `on_late = "stale"` serves while the store is late.

Sessions and profiles are cached separately, so that each of two stores is remembered whatever the other does. A late answer is
cached here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rewriter.bounded import Bounded
from rewriter.settings import SignalSettings
from rewriter.signals.class_counters import MAX_READ, ClassCounters
from rewriter.signals.counters import Counters
from rewriter.signals.store import Signals, SignalsQuery

MAX_CLASSES = 2 * MAX_READ
_BYTES_PER_VALUE = 250
_BYTES_PER_SUBJECT = 1_000
"""Measured with tracemalloc on 64 values of two document fields each: 230–250 bytes a value."""


class _Kept(NamedTuple):
    """A session's or a profile's counters, and of a profile those with the items of all classes, and those by class; with times."""

    counters: tuple[float, Counters] | None = None
    every: tuple[float, Counters] | None = None
    classes: tuple[float, Mapping[str, ClassCounters]] | None = None


class LastKnown:
    """A bounded cache of signals. Methods are called from many threads; time is an argument (monotonic seconds)."""

    def __init__(self, settings: SignalSettings) -> None:
        self._wanted = settings.on_late == "stale"
        self._max_age_s = settings.stale_max_age_s
        # Each subject has two entries, a session's and a profile's.
        self._kept: Bounded[str, _Kept] = Bounded(
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
                continue
            known, at = self._known(base, now_s), (now_s, counters)
            known = known._replace(every=at) if query.every and scope == "profile" else known._replace(counters=at)
            if scope == "profile" and query.classes:
                before = dict(known.classes[1]) if known.classes else {}
                for name in signals.classes:
                    before.pop(name, None)
                latest = dict([*before.items(), *signals.classes.items()][-MAX_CLASSES:])
                known = known._replace(classes=(now_s, latest))
            self._kept.put(base, known, _size(known), now_s)

    def get(self, query: SignalsQuery, now_s: float) -> Signals | None:
        """Return the last known signals of a read's subject; None if there are none or they are older than `stale_max_age_s`.

        Where none of the query's classes is known, the items of all classes serve: those of other classes are left out.
        """
        session = self._known(query.session, now_s).counters if query.session is not None else None
        own = self._known(query.profile, now_s) if query.profile is not None else _Kept()
        read = own.classes[1] if own.classes else {}
        classes = {name: read[name] for name in query.classes if name in read}
        wants_every = query.every is not None or bool(query.classes and not classes)
        profile = (own.every or own.counters) if wants_every else (own.counters or own.every)
        if session is None and profile is None:
            return None
        return Signals(session[1] if session else None, profile[1] if profile else None, classes=classes)

    def _known(self, base: str, now_s: float) -> _Kept:
        """Return what is kept and not too old."""
        kept = self._kept.get(base, now_s) or _Kept()
        return _Kept(*(one if one and now_s - one[0] <= self._max_age_s else None for one in kept))  # type: ignore[arg-type]

    def clear(self) -> None:
        """Drop the signals of all subjects."""
        self._kept.clear()


def _size(kept: _Kept) -> int:
    """Return about how many bytes an entry takes."""
    found = [one[1].weights for one in (kept.counters, kept.every) if one]
    found += [one.weights for one in kept.classes[1].values()] if kept.classes else []
    return _BYTES_PER_SUBJECT * len(found) + _BYTES_PER_VALUE * sum(map(len, found))
