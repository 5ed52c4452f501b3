"""Record of a list's shown hits by position: a 5-byte hash per hit, enough to recognize it.

Pages of one list are cut from one order and so repeat no hit. If one page was the baseline's, because a leg was late or failed, the
other pages use this record to leave out hits that are shown elsewhere in the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from itertools import zip_longest

HASH_BYTES = 5
"""Two of 200 hits collide in one list of 50 million."""

NOTHING = bytes(HASH_BYTES)

Key = tuple[str, ...]


def hit_hash(key: Key) -> bytes:
    """Return the hash of a hit's key: its identity, or its group under `collapse`."""
    return blake2b("\x1f".join(key).encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def with_page(shown: bytes, from_: int, size: int, keys: Iterable[Key]) -> bytes:
    """Return `shown` with the hits of the page [from_, from_ + size); positions of skipped pages hold NOTHING."""
    page = b"".join(map(hit_hash, keys)).ljust(size * HASH_BYTES, b"\0")[: size * HASH_BYTES]
    start, end = from_ * HASH_BYTES, (from_ + size) * HASH_BYTES
    return shown[:start].ljust(start, b"\0") + page + shown[end:]


def elsewhere(shown: bytes, from_: int, size: int) -> frozenset[bytes]:
    """Return the hashes of all hits shown outside the page [from_, from_ + size)."""
    hashes = _hashes(shown)
    return frozenset(hashes[:from_] + hashes[from_ + size :]) - {NOTHING}


def whole_before(shown: bytes, from_: int) -> bool:
    """Whether every position before `from_` has shown a hit; False if a page was skipped."""
    hashes = _hashes(shown)[:from_]
    return len(hashes) == from_ and NOTHING not in hashes


def goes_beyond(shown: bytes, size: int) -> bool:
    """Whether a hit was shown after the first `size` positions."""
    return any(one != NOTHING for one in _hashes(shown)[size:])


def overlaid(shown: bytes, under: bytes) -> bytes:
    """Return `shown` with what `under` has at positions of which `shown` has nothing."""
    pairs = zip_longest(_hashes(shown), _hashes(under), fillvalue=NOTHING)
    return b"".join(under_it if one == NOTHING else one for one, under_it in pairs)


def _hashes(shown: bytes) -> list[bytes]:
    return [shown[at : at + HASH_BYTES] for at in range(0, len(shown), HASH_BYTES)]
