"""How large a policy's answers are, by what a search asks of each hit; and what is not asked for because of it.

An answer has to be fetched, sent and parsed before the cut-off, and parsing holds the event loop, or every thread's interpreter, so
that it delays the caller's own search too. So the exploration leg asks for fewer hits where hits are large, and a search whose
personalized leg would usually bring more than `max_bytes` goes alone; one in `PROBE_S` is sent all the same, and shows whether
that is still so.
Usually means the median of the latest answers: one search that finds large documents is no reason to send all others alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from hashlib import blake2b
from statistics import fmean, median_low
from threading import Lock
from typing import Any

from rewriter.query_form import inside

PROBE_S = 30.0
EXPLORATION_BYTES = 96 * 2**10
"""For which the exploration leg asks: a pool of 20 hits of 5 KB, a few of 20 KB. Twice as much delayed the page by 3 ms."""

LATEST = 9
"""Answers by which sizes are judged."""

ENOUGH = 6
"""Answers before a search goes alone: those of three searches with exploration. What is too large is not parsed in any case."""

_MAX_SHAPES = 256

OF_EACH_HIT = (
    "_source", "fields", "docvalue_fields", "stored_fields", "highlight", "script_fields", "collapse", "version",
    "matched_queries", "seq_no_primary_term",
)  # fmt: skip
"""Parts of a body that say what a hit brings."""


def hit_shape(indices: tuple[str, ...], body: Mapping[str, Any]) -> str:
    """Return a short text that is the same for searches that ask the same of each hit, hits inside hits included."""
    per_hit = [(name, body[name]) for name in OF_EACH_HIT if name in body]
    nested = [value for key, value in inside([body.get("query")]) if key == "inner_hits"]
    return blake2b(repr((indices, per_hit, nested)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class LegSizes:
    """The sizes of one policy's answers. Called from many threads; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._per_hit: OrderedDict[str, deque[float]] = OrderedDict()
        self._probed_s: dict[str, float] = {}
        self._refused: tuple[float, str] = float("-inf"), ""

    def note(self, shape: str, hits: int, size: int) -> None:
        """Note an answer of `size` bytes to a leg that asked for `hits` hits."""
        if hits < 1 or size < 1:
            return
        with self._lock:
            latest, now = self._per_hit.setdefault(shape, deque(maxlen=LATEST)), size / hits
            if (
                shape in self._probed_s and now < median_low(latest) / 2.0
            ):  # what was sent to try shows that all is well again
                latest.clear()
                del self._probed_s[shape]
            latest.append(now)
            self._per_hit.move_to_end(shape)
            if len(self._per_hit) > _MAX_SHAPES:
                oldest, _ = self._per_hit.popitem(last=False)
                self._probed_s.pop(oldest, None)

    def too_large(self, shape: str, hits: int, max_bytes: int, now_s: float) -> str:
        """Return in words why a leg that asks for `hits` hits is not to be sent now, or ""."""
        with self._lock:
            latest = self._per_hit.get(shape, ())
            per_hit = median_low(latest) if len(latest) >= ENOUGH else 0.0
            if per_hit * hits <= max_bytes:
                return ""
            if now_s - self._probed_s.setdefault(shape, now_s) >= PROBE_S:
                self._probed_s[shape] = now_s
                return ""
            self._refused = (
                now_s,
                (
                    f"{hits} hits of about {per_hit:,.0f} bytes are more than `budget.max_leg_bytes` ({max_bytes:,}); "
                    f"tried again every {PROBE_S:g} s"
                ),
            )
            return self._refused[1]

    def pool(self, shape: str, wanted: int, least: int) -> int:
        """Return how many hits a pool may ask for: `wanted`, or as many as EXPLORATION_BYTES hold, but `least` at least."""
        with self._lock:
            latest = self._per_hit.get(shape)
            per_hit = fmean(latest) if latest else 0.0
        return (
            wanted
            if per_hit * wanted <= EXPLORATION_BYTES
            else min(wanted, max(least, int(EXPLORATION_BYTES / per_hit)))
        )

    def refused(self, now_s: float) -> str:
        """Return in words which leg was last not sent for its size, within the last PROBE_S, or ""."""
        refused_s, why = self._refused
        return why if now_s - refused_s < PROBE_S else ""
