"""Leg 3's answers, shared by everyone who sends the same search, for a few seconds and within a bound in bytes.

The key is everything that the answer depends on: index, body, parameters, headers. Called from many threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from rewriter.bounded import Bounded

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
        self._kept: Bounded[bytes, Hits] = Bounded(max_bytes=max_bytes, max_age_s=ttl_s)

    def get(self, key: bytes, now_s: float) -> Hits | None:
        """Return the pool of a search that was answered within the time to live, or None."""
        return self._kept.get(key, now_s)

    def put(self, key: bytes, hits: Hits, now_s: float) -> None:
        """Keep a pool."""
        self._kept.put(key, hits, len(json.dumps(hits, default=str)), now_s)
