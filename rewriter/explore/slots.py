"""Exploration slots: their positions in the merged list, and the seeded draw of a hit for each (promise P5).

Each block of round(1 / share) positions has one slot, its last position, so any run of ten positions has one or two. Inserting at
the block's end cost 1–3 % of nDCG on real purchases; replacing a random position cost 13 %.

A hit is drawn with probability proportional to score / (1 + n), with its base score and the number n of hits of its category on the
page. Draws by score are relevant far more often than uniform ones (under 1 %), and division by 1 + n prefers categories that the
page lacks. Each draw excludes the earlier draws of the same list, and its probability is its propensity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from rewriter.explore.scores import Hit
from rewriter.record import record

Key = tuple[str, ...]


def block_size(share: float) -> int:
    """Return the number of positions per slot, round(1 / share): 5 to 10, or 0 if exploration is off."""
    return round(1.0 / share) if share > 0.0 else 0


def slot_positions(from_: int, to: int, block: int) -> range:
    """Return the positions (from 0) of the slots in [from_, to)."""
    if block <= 0:
        return range(0)
    first = from_ + (block - 1 - from_) % block
    return range(first, to, block)


class Candidate(NamedTuple):
    """A hit that may be drawn: its key (hashable), its base score (only those > 0 are drawn), its category or None.

    hit: returns the hit itself. A shared pool keeps it serialized, and few are ever drawn.
    """

    key: Any
    score: float
    category: str | None = None
    hit: Callable[[], Hit] = dict


@record(frozen=True, slots=True)
class Draw:
    """The hit drawn for a slot, and its propensity in (0, 1]."""

    position: int
    key: Any
    propensity: float


def draws(positions: Iterable[int], pool: Sequence[Candidate], shown: Iterable[str | None], seed: int) -> list[Draw]:
    """Draw one candidate for each position until the pool is empty.

    shown: the categories of the page's other hits, None for a hit without one.
    seed:  of the list; draws depend on nothing but the arguments.
    """
    left = [candidate for candidate in pool if candidate.score > 0.0]
    seen: dict[str | None, int] = {}  # never of None
    for category in shown:
        if category is not None:
            seen[category] = seen.get(category, 0) + 1
    found = []
    for position in positions:
        if not left:
            break
        weights = [score / (1 + seen.get(category, 0)) for _, score, category, _ in left]
        total = sum(weights)
        at, remaining = 0, uniform(seed, position) * total
        while at < len(left) - 1 and remaining >= weights[at]:
            remaining -= weights[at]
            at += 1
        drawn = left.pop(at)
        found.append(Draw(position, drawn.key, weights[at] / total))
        if drawn.category is not None:
            seen[drawn.category] = seen.get(drawn.category, 0) + 1
    return found


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that depends only on seed and position, so that a draw can be repeated."""
    digest = blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53
