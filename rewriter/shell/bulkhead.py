"""The bulkhead: a bound on what one process has in flight, in which no policy takes the permits of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from threading import Lock


class Bulkhead:
    """A bound on what one process has in flight of a kind, abandoned work included. Thread-safe.

    One policy whose legs hang must not take the permits of the others. So half of them belong to all, and the other half to the
    policies in equal shares: a policy takes more than its share only while the others could still take theirs.

    cap:      how many permits there are.
    policies: how many policies take them.
    beside:   bulkheads whose permits are counted too, but take none of these: a store that hangs must not take those of the legs.
    """

    def __init__(self, cap: int, policies: int = 1, beside: Collection[Bulkhead] = ()) -> None:
        self.cap = cap
        self._lock = Lock()
        self._count = 0
        self._beside = beside
        self._share = cap // (2 * policies) if policies > 1 else 0
        self._kept = self._share * policies  # the sum of what each policy has left of its share
        self._held: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """The number of permits that are taken, those of the bulkheads beside included."""
        return self._count + sum(one.count for one in self._beside)

    def try_acquire(self, policy: str = "") -> bool:
        """Take a permit, or return False if none is left for this policy."""
        with self._lock:
            within = self._held[policy] < self._share
            if self._count + (0 if within else self._kept) >= self.cap:
                return False
            self._count += 1
            self._kept -= within
            self._held[policy] += 1
            return True

    def give_back(self, policy: str = "") -> None:
        """Give a permit of `try_acquire` back."""
        with self._lock:
            self._count -= 1
            self._held[policy] -= 1
            self._kept += self._held[policy] < self._share

    def kept(self, policy: str) -> str:
        """Return in words why a policy was left no permit while there were some, or ""."""
        if self._count >= self.cap:
            return ""
        return f"{self._held[policy]} of this policy in flight; the other permits are those of other policies"
