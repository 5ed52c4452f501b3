"""Where exploration stands, and what is drawn for it (promise P5).

One slot per block of round(1 / share) positions, the block's last: any run of ten positions then holds one or two. Inserting at
the block's end cost 1–3 % of nDCG on real purchases; a random position replaced cost 13 %.

A hit is drawn with probability in proportion to its base score, divided by one more than the number of hits on the page that
are of its category already: draws by score are relevant far more often than uniform ones (under 1 %), and what the page lacks
comes first. Each draw is given the earlier draws of the same list, and its probability is its propensity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b


def block_size(share: float) -> int:
    """Return the number of positions per slot, round(1 / share): 5 to 10, or 0 where exploration is off."""
    return round(1.0 / share) if share > 0.0 else 0


def slot_positions(from_: int, to: int, block: int) -> range:
    """Return the positions (from 0) of the slots in [from_, to)."""
    if block <= 0:
        return range(0)
    first = from_ + (block - 1 - from_) % block
    return range(first, to, block)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hit that may be drawn: what tells it from others, its base score > 0, its category."""

    key: Hashable
    score: float
    category: Hashable = None


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn for a slot, and how probable that was, in (0, 1]."""

    position: int
    key: Hashable
    propensity: float


def draws(positions: Iterable[int], pool: Sequence[Candidate], shown: Iterable[Hashable], seed: int) -> list[Draw]:
    """Draw one candidate for each position while the pool lasts; `shown` are the categories of the page's other hits."""
    left = [candidate for candidate in pool if candidate.score > 0.0]
    seen = Counter(category for category in shown if category is not None)
    found = []
    for position in positions:
        if not left:
            break
        weights = [candidate.score / (1 + seen[candidate.category]) for candidate in left]
        total = sum(weights)
        at, hit_hash = 0, uniform(seed, position) * total
        while at < len(left) - 1 and hit_hash >= weights[at]:
            hit_hash -= weights[at]
            at += 1
        drawn = left.pop(at)
        found.append(Draw(position, drawn.key, weights[at] / total))
        if drawn.category is not None:
            seen[drawn.category] += 1
    return found


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that depends on seed and position alone, so that anybody can repeat a draw."""
    digest = blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53
