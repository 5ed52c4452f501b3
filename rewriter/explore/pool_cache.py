"""Pool cache: the exploration leg's hits, shared by equal searches for a few seconds and bounded in bytes.

The key covers everything that the answer depends on, see `flow/exploration`. Hits are kept serialized: parsed ones take about
seven times the memory of their text, and only the size of bytes is known exactly. What a draw needs of a hit is kept beside its
bytes. So a page loads only the hits that it shows, and each page anew, since its caller may modify them.
"""

from __future__ import annotations

import marshal
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

from rewriter.bounded import Bounded
from rewriter.decide.senders import RefusedSenders, Sender
from rewriter.explore.slots import Candidate
from rewriter.record import record

TTL_S = 5.0
MAX_BYTES = 32 * 2**20

BYTES_OF_AN_ENTRY = 480
"""Memory of a pool besides its serialized hits: its key, its entry in the cache, and their objects."""

CLAIM_S = 2.0
"""After how long another search may fetch a pool that one has set out to fetch."""

BYTES_OF_A_REFUSAL = 2_048
"""Memory of the senders of the rejected legs of one pool, with a dozen headers and parameters."""

BYTES_OF_A_HIT = 280
"""Memory of one of its hits besides its serialized form: key, score, category, and their objects. Measured with tracemalloc."""


@record(frozen=True, slots=True)
class Pool:
    """A pool that is kept: its hits, and whether it is to be fetched anew.

    hits:      as candidates for slots, each of which is loaded when it is drawn.
    top_score: the best score of the list that the hits are the next ranks of; None where a template has changed its scores.
    """

    hits: Sequence[Candidate]
    stale: bool = False
    top_score: float | None = None


class PoolCache:
    """A bounded cache of pools, the oldest evicted first. Methods are called from many threads; time is monotonic seconds.

    found: the number of searches that found a fresh pool, a stale one, or none ("missing").
    """

    def __init__(self, ttl_s: float = TTL_S, max_bytes: int = MAX_BYTES) -> None:
        self._kept: Bounded[str, _Kept] = Bounded(max_bytes=max_bytes, max_age_s=ttl_s)
        self._ttl_s = ttl_s
        self._lock = Lock()
        self._claimed: Bounded[str, bool] = Bounded(max_bytes=2**20, max_age_s=CLAIM_S)
        self._refused: Bounded[str, RefusedSenders] = Bounded(max_bytes=2**20, max_age_s=TTL_S)
        self.found: Counter[str] = Counter()

    def get(self, key: str, now_s: float) -> list[Mapping[str, Any]] | None:
        """Return copies of the hits of the pool of `key`, or None if there is none or it is older than the time to live."""
        pool = self.look(key, now_s, self._ttl_s, self._ttl_s)
        return None if pool is None else [one.hit() for one in pool.hits]

    def look(self, key: str, now_s: float, fresh_s: float, stale_s: float) -> Pool | None:
        """Return the pool of a search: fresh up to `fresh_s` old, then stale, and None from `stale_s` on."""
        kept = self._kept.get(key, now_s)
        age_s = now_s - kept.at_s if kept else 0.0
        pool = None
        if kept is not None and age_s <= max(fresh_s, stale_s):
            pool = Pool(kept.hits, age_s > fresh_s, kept.top_score)
        self.found["missing" if pool is None else "stale" if pool.stale else "fresh"] += 1
        return pool

    def claim(self, key: str, now_s: float) -> bool:
        """Return whether it is this search that fetches a stale pool anew: one in CLAIM_S does."""
        with self._lock:
            if self._claimed.get(key, now_s):
                return False
            self._claimed.put(key, True, BYTES_OF_AN_ENTRY, now_s)
            return True

    def put(self, key: str, hits: Sequence[Candidate], now_s: float, top_score: float | None = None) -> None:
        """Keep a pool; if its hits cannot be serialized, remove the earlier pool of `key`."""
        size, kept = BYTES_OF_AN_ENTRY, []
        texts: dict[str, str] = {}  # a parser makes a new text for each hit: of the index, of its category
        for one in hits:
            packed = _packed(one.hit())
            if packed is None:
                self._kept.drop(key)
                return
            size += BYTES_OF_A_HIT + len(packed)
            kept.append(Candidate(_shared(one.key, texts), one.score, _shared(one.category, texts), packed))
        self._refused.drop(key)
        self._kept.put(key, _Kept(tuple(kept), now_s, top_score), size, now_s)

    def refuse(self, key: str, sender: Sender, now_s: float) -> None:
        """Note that the server rejected the leg of a sender's search. The pool that others have fetched serves on."""
        with self._lock:
            refused = self._refused.get(key, now_s) or RefusedSenders()
            refused.add(sender)
            self._refused.put(key, refused, BYTES_OF_A_REFUSAL, now_s)

    def refused(self, key: str, sender: Callable[[], Sender], now_s: float) -> bool:
        """Return whether this sender's leg was rejected some seconds ago, so that it is not sent again."""
        refused = self._refused.get(key, now_s)
        return refused is not None and refused.holds(sender())


class _Kept(NamedTuple):
    hits: tuple[Candidate, ...]
    at_s: float
    top_score: float | None


class _Marshalled(bytes):
    """A serialized hit that loads itself when it is called. One object instead of the four of a `functools.partial`:
    a cache holds tens of thousands, and Python's garbage collector visits them.
    """

    __slots__ = ()

    def __call__(self) -> Any:
        return marshal.loads(self)  # noqa: S302  of this process


class _Pickled(bytes):
    __slots__ = ()

    def __call__(self) -> Any:
        return pickle.loads(self)  # noqa: S301  of this process


def _shared(value: Any, texts: dict[str, str]) -> Any:
    """Return a key or a category with the texts that are equal to earlier ones replaced by those."""
    if type(value) is tuple:
        return tuple([_shared(one, texts) for one in value])
    return texts.setdefault(value, value) if type(value) is str else value


def _packed(hit: Mapping[str, Any]) -> _Marshalled | _Pickled | None:
    """Return a serialized hit; None if it cannot be serialized and loaded again.

    `marshal` serializes the types of a JSON parser, 400 KB in a quarter of a millisecond; `pickle` those of a caller's own
    deserializer, such as decimals.
    """
    try:
        return _Marshalled(marshal.dumps(hit))  # type: ignore[arg-type]
    except ValueError:
        pass
    try:
        raw = _Pickled(pickle.dumps(hit, pickle.HIGHEST_PROTOCOL))
        raw()  # an object of the caller's own may be written and not read
    except Exception:  # noqa: BLE001  whatever it raises, its pool is not shared
        return None
    return raw
