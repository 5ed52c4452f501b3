"""Pool cache: the exploration leg's hits, shared by equal searches for a few seconds and bounded in bytes.

The key covers everything that the answer depends on, see `flow/exploration`. A pool is kept serialized: parsed hits take about
seven times the memory of their text, and only the size of bytes is known exactly. Each `get` returns new hits, which the caller may
modify.
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
"""Memory of a pool besides its serialized hits: its key, its entry in the cache, and their objects."""

Hits = Sequence[Mapping[str, Any]]
Packed = tuple[Callable[[bytes], Any], bytes]


class PoolCache:
    """A bounded cache of pools, the oldest evicted first. Methods are called from many threads; time is monotonic seconds."""

    def __init__(self, ttl_s: float = TTL_S, max_bytes: int = MAX_BYTES) -> None:
        self._kept: Bounded[str, Packed] = Bounded(max_bytes=max_bytes, max_age_s=ttl_s)

    def get(self, key: str, now_s: float) -> Hits | None:
        """Return a copy of the pool of `key`, or None if there is none or it is older than the time to live."""
        packed = self._kept.get(key, now_s)
        if packed is None:
            return None
        try:
            hits: Hits = packed[0](packed[1])
        except Exception:  # noqa: BLE001  a class of the caller's own may pickle and fail to unpickle
            self._kept.drop(key)
            return None
        return hits

    def put(self, key: str, hits: Hits, now_s: float) -> None:
        """Keep a pool; if its hits cannot be serialized, remove the earlier pool of `key`."""
        packed = _packed(list(hits))
        if packed is None:
            self._kept.drop(key)
        else:
            self._kept.put(key, packed, len(packed[1]) + BYTES_OF_AN_ENTRY, now_s)


def _packed(hits: list[Mapping[str, Any]]) -> Packed | None:
    """Return serialized hits with the function that loads them; None if they cannot be serialized.

    `marshal` serializes the types of a JSON parser, 400 KB in a quarter of a millisecond; `pickle` those of a caller's own
    deserializer, such as decimals.
    """
    try:
        return marshal.loads, marshal.dumps(hits)
    except ValueError:
        pass
    try:
        return pickle.loads, pickle.dumps(hits, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  whatever an object of the caller's own raises, its pool is not shared
        return None
