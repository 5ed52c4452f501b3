"""Sizes of a policy's answers by the shape of its hits, from which the legs' size and whether to send them are decided.

An answer must be fetched, sent and parsed before the cut-off, and parsing blocks the event loop, or all threads through the
interpreter lock, so that it delays the baseline too. So the exploration leg requests fewer hits if hits are large, and the
personalized leg is not sent if its answer would usually exceed `max_bytes`. Once per `PROBE_S` it is sent anyway, to measure the
size again. "Usually" is the median of the latest answers, so that one search for large documents does not stop the legs of all
others.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from hashlib import blake2b
from statistics import fmean, median_low
from threading import Lock
from typing import Any

from rewriter.plural import count_of
from rewriter.query_form import inside

PROBE_S = 30.0
EXPLORATION_BYTES = 96 * 2**10
"""Target size of the exploration leg's answer: 20 hits of 5 KB, or a few of 20 KB. Twice as much delayed the page by 3 ms."""

LATEST = 9
"""Number of latest answers from which the size is estimated."""

ENOUGH = 6
"""Answers before legs are held back: those of three searches with exploration. An answer beyond the limit is never parsed."""

_MAX_SHAPES = 256

OF_EACH_HIT = (
    "_source", "fields", "docvalue_fields", "stored_fields", "highlight", "script_fields", "collapse", "version",
    "matched_queries", "seq_no_primary_term",
)  # fmt: skip
"""Keys of a body that determine the content of a hit."""


def hit_shape(indices: tuple[str, ...], body: Mapping[str, Any], names: Collection[str] = ("inner_hits",)) -> str:
    """Return a hash (16 hex digits) of the indices and of what a body requests of each hit, `inner_hits` included.

    names: the keys of the body at any depth, if they are known: without `inner_hits` among them, its query has none.
    """
    per_hit = [(name, body[name]) for name in OF_EACH_HIT if name in body]
    query = [body.get("query")] if "inner_hits" in names else []
    nested = [value for key, value in inside(query) if key == "inner_hits"]
    return blake2b(repr((indices, per_hit, nested)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class LegSizes:
    """The answer sizes of one policy. Methods are called from many threads; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._per_hit: OrderedDict[str, deque[float]] = OrderedDict()
        self._probed_s: dict[str, float] = {}
        self._refused: tuple[float, str] = float("-inf"), ""

    def note(self, shape: str, hits: int, size: int) -> None:
        """Record an answer of `size` bytes to a leg that requested `hits` hits."""
        if hits < 1 or size < 1:
            return
        with self._lock:
            latest, now = self._per_hit.setdefault(shape, deque(maxlen=LATEST)), size / hits
            if (
                shape in self._probed_s and now < median_low(latest) / 2.0
            ):  # the probe shows that answers are small again
                latest.clear()
                del self._probed_s[shape]
            latest.append(now)
            self._per_hit.move_to_end(shape)
            if len(self._per_hit) > _MAX_SHAPES:
                oldest, _ = self._per_hit.popitem(last=False)
                self._probed_s.pop(oldest, None)

    def too_large(self, shape: str, hits: int, max_bytes: int, now_s: float) -> str:
        """Return, in words, why a leg for `hits` hits must not be sent at `now_s`, or ""."""
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
                    f"{count_of(hits, 'hit')} of about {per_hit:,.0f} bytes are more than `budget.max_leg_bytes` ({max_bytes:,}); "
                    f"tried again every {PROBE_S:g} s"
                ),
            )
            return self._refused[1]

    def pool(self, shape: str, wanted: int, least: int) -> int:
        """Return the number of hits for a pool: `wanted`, or as many as fit in EXPLORATION_BYTES, but not less than `least`."""
        with self._lock:
            latest = self._per_hit.get(shape)
            per_hit = fmean(latest) if latest else 0.0
        return (
            wanted
            if per_hit * wanted <= EXPLORATION_BYTES
            else min(wanted, max(least, int(EXPLORATION_BYTES / per_hit)))
        )

    def refused(self, now_s: float) -> str:
        """Return, in words, the last leg within PROBE_S that was not sent because of its size, or ""."""
        refused_s, why = self._refused
        return why if now_s - refused_s < PROBE_S else ""
