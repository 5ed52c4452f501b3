"""Leg 3's answers, shared by everyone who sends the same search, for a few seconds and within a bound in bytes.

The key is everything that the answer depends on, see `flow/exploration`. Called from many threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rewriter.bounded import Bounded

TTL_S = 5.0
MAX_BYTES = 32 * 2**20

Hits = Sequence[Mapping[str, Any]]


class PoolCache:
    """A bounded cache of pools, oldest out first. Time is an argument (monotonic seconds)."""

    def __init__(self, ttl_s: float = TTL_S, max_bytes: int = MAX_BYTES) -> None:
        self._kept: Bounded[str, Hits] = Bounded(max_bytes=max_bytes, max_age_s=ttl_s)

    def get(self, key: str, now_s: float) -> Hits | None:
        """Return the pool of a search that was answered within the time to live, or None."""
        return self._kept.get(key, now_s)

    def put(self, key: str, hits: Hits, now_s: float) -> None:
        """Keep a pool."""
        self._kept.put(key, hits, len(json.dumps(hits, default=str)), now_s)
