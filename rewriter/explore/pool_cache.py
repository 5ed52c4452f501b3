"""The exploration leg's answers, shared by everyone who sends the same search, for a few seconds and within a bound in bytes.

The key is everything that the answer depends on, see `flow/exploration`. Called from many threads.

A pool is kept as bytes: parsed hits take about seven times as much memory as their text, so that only bytes can be bounded
truly. Whoever gets a pool gets hits of their own, which they may change.
"""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewriter.bounded import Bounded

TTL_S = 5.0
MAX_BYTES = 32 * 2**20

BYTES_OF_AN_ENTRY = 600
"""What a pool takes beside its bytes: its key, its place in the cache, and the objects that hold them."""

Hits = Sequence[Mapping[str, Any]]
Packed = tuple[Callable[[bytes], Any], bytes]


class PoolCache:
    """A bounded cache of pools, oldest out first. Time is an argument (monotonic seconds)."""

    def __init__(self, ttl_s: float = TTL_S, max_bytes: int = MAX_BYTES) -> None:
        self._kept: Bounded[str, Packed] = Bounded(max_bytes=max_bytes, max_age_s=ttl_s)

    def get(self, key: str, now_s: float) -> Hits | None:
        """Return the pool of a search that was answered within the time to live, or None."""
        packed = self._kept.get(key, now_s)
        if packed is None:
            return None
        try:
            hits: Hits = packed[0](packed[1])
        except Exception:  # noqa: BLE001  an object of the caller's own may be written and not read
            self._kept.drop(key)
            return None
        return hits

    def put(self, key: str, hits: Hits, now_s: float) -> None:
        """Keep a pool, or forget it where its hits cannot be written as bytes."""
        packed = _packed(list(hits))
        if packed is None:
            self._kept.drop(key)
        else:
            self._kept.put(key, packed, len(packed[1]) + BYTES_OF_AN_ENTRY, now_s)


def _packed(hits: list[Mapping[str, Any]]) -> Packed | None:
    """Return hits as bytes, and what reads them again; None where nothing does.

    `marshal` takes what a JSON parser makes, in a quarter of a millisecond for 400 KB; `pickle` what a deserializer of the
    caller's own makes, such as decimals.
    """
    try:
        return marshal.loads, marshal.dumps(hits)
    except ValueError:
        pass
    try:
        return pickle.loads, pickle.dumps(hits, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  whatever an object of the caller's own raises, its pool is not shared
        return None
