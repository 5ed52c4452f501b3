"""Leg 3's answers, shared by everyone who sends the same search, for a few seconds and within a bound in bytes.

The key is everything that the answer depends on: index, body, parameters, headers. Called from many threads.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any

TTL_S = 5.0
MAX_BYTES = 32 * 2**20

Hits = Sequence[Mapping[str, Any]]


def pool_key(*parts: object) -> bytes:
    """Return the key of a search: a hash of all that its answer depends on."""
    return blake2b(
        json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


class PoolCache:
    """A bounded cache of pools, oldest out first. Time is an argument (monotonic seconds)."""

    def __init__(self, ttl_s: float = TTL_S, max_bytes: int = MAX_BYTES) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._kept: OrderedDict[bytes, tuple[float, int, Hits]] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes, now_s: float) -> Hits | None:
        """Return the pool of a search that was answered within the time to live, or None."""
        with self._lock:
            kept = self._kept.get(key)
        return kept[2] if kept and now_s - kept[0] <= self._ttl_s else None

    def put(self, key: bytes, hits: Hits, now_s: float) -> None:
        """Keep a pool; what is older than the time to live, and then the oldest beyond the bound, goes."""
        size = len(json.dumps(hits, default=str))
        if size > self._max_bytes:
            return
        with self._lock:
            if before := self._kept.pop(key, None):
                self._bytes -= before[1]
            self._kept[key] = (now_s, size, hits)
            self._bytes += size
            while self._kept:
                oldest = next(iter(self._kept.values()))
                if self._bytes <= self._max_bytes and now_s - oldest[0] <= self._ttl_s:
                    break
                self._kept.popitem(last=False)
                self._bytes -= oldest[1]
