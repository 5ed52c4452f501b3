"""The classes of products that a query is about: of its best hits, kept for the next search with the same key. Pure.

Nobody understands the query: its hits tell. The classes of the first hits that hold all of its words, the heaviest by score first,
were the right one in 97 % of product searches on Complete Journey (the first two in 99 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewriter.bounded import Bounded
from rewriter.signals.class_counters import MAX_READ

FIRST_HITS = 20
TTL_S, CLAIM_S = 600.0, 10.0
MAX_BYTES = 8 * 2**20
BYTES_OF_AN_ENTRY = 500
MAX_NAME = 512
MAX_OF_A_HIT = 64


class QueryClasses:
    """A bounded memory, by search key. Time is an argument (monotonic seconds). Called from many threads."""

    def __init__(self, ttl_s: float = TTL_S, max_bytes: int = MAX_BYTES) -> None:
        self._kept: Bounded[str, tuple[str, ...]] = Bounded(max_bytes=max_bytes, max_age_s=ttl_s)
        self._claimed: Bounded[str, bool] = Bounded(max_bytes=max_bytes // 8, max_age_s=CLAIM_S)

    def get(self, key: str, now_s: float) -> tuple[str, ...]:
        """Return the classes of a query, the heaviest first; () where they are unknown."""
        return self._kept.get(key, now_s) or ()

    def claim(self, key: str, now_s: float) -> bool:
        """Return whether no search has read the classes of a query in the last `CLAIM_S`."""
        if self._claimed.get(key, now_s):
            return False
        self._claimed.put(key, True, BYTES_OF_AN_ENTRY, now_s)
        return True

    def put(self, key: str, classes: tuple[str, ...], now_s: float) -> None:
        """Keep the classes of a query."""
        if classes:
            self._kept.put(key, classes, BYTES_OF_AN_ENTRY + sum(map(len, classes)), now_s)


def classes_in(hits: Sequence[Mapping[str, Any]], class_field: str, scores: Sequence[float]) -> tuple[str, ...]:
    """Return the classes of the first hits, at most `MAX_READ`, by the sum of their scores; hits without a class are none's.

    A hit is of all its classes: doc values are sorted, so that the first one is not the document's first, by which its item counts.
    """
    names: list[str | None] = []
    of: list[float] = []
    for hit, score in zip(hits[:FIRST_HITS], scores[:FIRST_HITS], strict=True):
        values = (hit.get("fields") or {}).get(class_field)
        for value in values[:MAX_OF_A_HIT] if isinstance(values, list) else ():
            names.append(class_name(value))
            of.append(score)
    return tuple(heaviest(names, of)[:MAX_READ])


def heaviest(names: Sequence[str | None], scores: Sequence[float]) -> list[str]:
    """Return the different classes of hits, in order of the sum of their scores; hits without a class do not count."""
    found: dict[str, float] = {}
    for name, score in zip(names, scores, strict=True):
        if name is not None:
            found[name] = found.get(name, 0.0) + max(score, 0.0)
    return sorted(found, key=lambda name: (-found[name], name))


def class_name(value: Any) -> str | None:
    """Return a class as events spell it, or None for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if 0 < len(text) <= MAX_NAME else None
