"""Admission of segment names: those of the settings, and others while the store's list has room.

The list is bounded because a segment has keys for each partition, which live for a year, and any sender of events can name one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from logging import getLogger

from rewriter.settings import IngestSettings
from rewriter.signals.ingest.contract import MAX_SEGMENTS, StreamKeys
from rewriter.signals.ingest.scripts import SEGMENTS, Engine, script_command, sound_replies

FULL_AGAIN_S = 10.0
"""Interval at which a full list is read again."""

_log = getLogger("rewriter")


class SegmentNames:
    """The admitted names, as known to one worker."""

    def __init__(
        self, engine: Engine, keys: StreamKeys, settings: IngestSettings, clock_s: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._key = keys.segments
        self._own = frozenset(settings.segments)
        self._max = settings.max_segments
        self._clock_s = clock_s
        self._known: frozenset[str] = frozenset()
        self._full_until_s = float("-inf")

    def admitted(self, names: Collection[str]) -> frozenset[str]:
        """Add names to the store's list while it has room; return those that are admitted. Raises the client's exception."""
        fresh = set(names) - self._known
        if own := fresh & self._own:
            self._enroll(MAX_SEGMENTS + len(self._own), own)
        others = fresh - self._own - self._known
        if others and self._clock_s() >= self._full_until_s:
            self._enroll(self._max, others)
            if left := others - self._known:
                if self._full_until_s == float("-inf"):
                    _log.warning(
                        "%d segments of events are not counted: the list is full; see ingest.segments", len(left)
                    )
                self._full_until_s = self._clock_s() + FULL_AGAIN_S
        return self._known & set(names)

    def _enroll(self, room: int, names: Collection[str]) -> None:
        """Send at most `room` names; the reply is the whole list."""
        command = script_command(SEGMENTS, [self._key], [room, *sorted(names)[: max(1, room)]])
        (listed,) = sound_replies(self._engine, [command])
        self._known = frozenset(json.loads(listed))
