"""Which segments events may count in: those that settings list, and those that the store's list has or has room for.

A segment has keys for each partition, which live for a year, and its name may come from anybody who sends events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from logging import getLogger

from rewriter.settings import IngestSettings
from rewriter.signals.ingest.contract import MAX_SEGMENTS, StreamKeys
from rewriter.signals.ingest.scripts import SEGMENTS, Engine, script_command, sound_replies

FULL_AGAIN_S = 10.0
"""After how long a full list is looked at again."""

_log = getLogger("rewriter")


class SegmentNames:
    """The names that have keys, as one worker knows them."""

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
        """Put names on the store's list while there is room, and return those that may have keys. Raises what the client raises."""
        fresh = set(names) - self._known
        if own := fresh & self._own:
            self._enroll(MAX_SEGMENTS + len(self._own), own)
        others = fresh - self._own - self._known
        if others and self._clock_s() >= self._full_until_s:
            self._enroll(self._max, others)
            if left := others - self._known:
                if self._full_until_s == float("-inf"):
                    _log.warning(
                        "%d segments that events name are not counted: the list is full; see ingest.segments", len(left)
                    )
                self._full_until_s = self._clock_s() + FULL_AGAIN_S
        return self._known & set(names)

    def _enroll(self, room: int, names: Collection[str]) -> None:
        """No more are sent than could find room: what the list has comes back whole."""
        command = script_command(SEGMENTS, [self._key], [room, *sorted(names)[: max(1, room)]])
        (listed,) = sound_replies(self._engine, [command])
        self._known = frozenset(json.loads(listed))
