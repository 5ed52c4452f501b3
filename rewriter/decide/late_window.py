"""Late window: the share of late searches among the latest ones, and whether they were late all along or in one stall.

The window is SLICES slices in a row. A slice ends with the first search by which it holds SLICE_SEARCHES and lasts SLICE_S, so
the window covers 4 s and 100 searches at least, at any rate. One stall of a server makes every search late that is under way, at
high rates far more than a fifth of a window; but it fills a slice or two, and the others hold few late ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SLICES = 4
SLICE_SEARCHES = 25
SLICE_S = 1.0

LATE_SHARE = 0.2
"""Of all searches of the window."""

LATE_SHARE_OF_EACH = 0.15
"""Of those of each slice. The delay is a 95th percentile, so about a twentieth is late where all is well, at times an eighth."""


@dataclass(slots=True)
class _Slice:
    from_s: float
    searches: int = 0
    late: int = 0


class LateWindow:
    """The window of one policy. Times are monotonic seconds. Not safe for several threads."""

    def __init__(self) -> None:
        self._whole: deque[_Slice] = deque(maxlen=SLICES)
        self._open: _Slice | None = None

    def add(self, late: bool, now_s: float) -> None:
        """Add a search."""
        if self._open is None:
            self._open = _Slice(now_s)
        self._open.searches += 1
        self._open.late += late
        if self._open.searches >= SLICE_SEARCHES and now_s - self._open.from_s >= SLICE_S:
            self._whole.append(self._open)
            self._open = _Slice(now_s)

    def too_late(self) -> bool:
        """Return whether more than LATE_SHARE were late, and not in one stall."""
        return (
            len(self._whole) == SLICES
            and all(part.late > LATE_SHARE_OF_EACH * part.searches for part in self._whole)
            and sum(part.late for part in self._whole) > LATE_SHARE * sum(part.searches for part in self._whole)
        )

    def counts(self) -> tuple[int, int]:
        """Return the late searches and all searches, those of the slice that has not ended included."""
        parts = [*self._whole, self._open] if self._open is not None else []
        return sum(part.late for part in parts), sum(part.searches for part in parts)

    def clear(self) -> None:
        """Forget everything."""
        self._whole.clear()
        self._open = None
