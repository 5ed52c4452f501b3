"""Searches that are not rewritten for a while, since rewriting them has just cost a second round trip.

A search that the server refuses with boosts and without is at fault itself, and one whose page shows a score of 0 or less has
nothing to multiply: both go plain for `REMEMBERED_S`, and then show anew whether that is still so. An index expression of which a
shard refused boosts goes parallel until its facts change, and one that timed out or lost a shard for another cause for
`REMEMBERED_S`: such an answer lacks hits, totals and aggregations, and the cause may lie in one index behind a pattern. Where the
search itself may be the cause, only searches of its form do: the key is then the expression's with a form (`rewrite_failures`).

Called from many threads. Time is an argument: monotonic seconds.
"""

from __future__ import annotations

from rewriter.bounded import Bounded
from rewriter.index_facts import IndexFacts
from rewriter.report import Reason

REMEMBERED_S = 60.0
MAX_SEARCHES = 4_096
MAX_EXPRESSIONS = 4_096
MAX_BYTES, BYTES_OF_AN_ENTRY = 2 * 2**20, 500
"""Memory of the searches, and of the expressions; and that of one besides its texts. A search's key is a hash."""


class Unrewritten:
    """The searches and index expressions of one process that are not rewritten."""

    def __init__(self) -> None:
        self._searches: Bounded[str, tuple[Reason, str]] = Bounded(
            max_bytes=MAX_BYTES, max_age_s=REMEMBERED_S, max_count=MAX_SEARCHES
        )
        self._partial: Bounded[str, tuple[IndexFacts | None, float, str]] = Bounded(
            max_bytes=MAX_BYTES, max_age_s=float("inf"), max_count=MAX_EXPRESSIONS
        )

    @property
    def any_search(self) -> bool:
        """Whether any search is remembered, so that it is worth while to make its key."""
        return len(self._searches) > 0

    def search(self, key: str, now_s: float) -> tuple[Reason, str] | None:
        """Return why the search with this key goes plain, or None."""
        return self._searches.get(key, now_s)

    def put_search(self, key: str, reason: Reason, detail: str, now_s: float) -> None:
        """Have a search go plain for a while."""
        self._searches.put(key, (reason, detail), BYTES_OF_AN_ENTRY + len(detail), now_s)

    @property
    def any_expression(self) -> bool:
        """Whether any expression is remembered."""
        return len(self._partial) > 0

    def expression(self, key: str, facts: IndexFacts, now_s: float) -> str:
        """Return in words why searches of an index expression go parallel, or ""."""
        kept = self._partial.get(key, now_s)
        if kept is None:
            return ""
        then, until_s, why = kept
        if now_s < until_s and (then is None or then == facts):
            return why
        self._partial.drop(key)
        return ""

    def put_expression(self, key: str, facts: IndexFacts | None, why: str, now_s: float) -> None:
        """Have an index expression go parallel: until `facts` are others, or without them for a while."""
        until_s = now_s + REMEMBERED_S if facts is None else float("inf")
        self._partial.put(key, (facts, until_s, why), BYTES_OF_AN_ENTRY + len(key) + len(why), now_s)
