"""Judged searches made from a history: purchases or clicks of its last weeks are the relevant items of the searches before them.

A search is one person's words in one visit, and its time that of their first event: who views a hit, puts it into the cart and buys
it did all of that after the search, so none of it is a signal. The items that the person bought under these words are relevant. A
purchase without words has those under which the person used the item before in the visit. If no purchase has a query, the title
of the bought item replaces it. This may mislead: people may search with other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.past import Past
from rewriter.plural import count_of
from rewriter.signals.events import leaf
from rewriter.signals.ingest.reuse import VISIT_S
from rewriter.subject import Subject

TITLES_MISLEAD = (
    "no event has a query: titles replace queries. A search by title is precise; real queries are shorter and"
    " vaguer, so gains may differ. Log `query` with clicks, and evaluate again"
)
NOTHING_BEFORE = (
    "the history holds no event before the window: people have no signals at first. Hold out a shorter window"
)


@dataclass(slots=True)
class HeldOut:
    """The judged searches of a held-out window, and their origin.

    from_s: the window's beginning (seconds since the epoch); by_title: whether titles replace queries.
    found:  the number of searches before sampling. left_out: rows of the window by reason.
    before: the number of events before the window, which the first signals come from.
    """

    searches: list[JudgedSearch]
    from_s: float
    by_title: bool
    found: int
    left_out: Counter[str] = field(default_factory=Counter)
    before: int = 0


def held_out(
    past: Past,
    window_s: float,
    actions: Collection[str],
    *,
    title: str,
    count: int,
    seed: int,
    until_s: float | None = None,
    option: str = "--hold-out",
) -> HeldOut:
    """Return at most `count` searches of the last `window_s` seconds of a history, drawn at random.

    actions: the actions that make an item relevant; of several, the strongest one that occurs is used.
    title:   the document field whose text replaces the query if no event has one, or "".
    until_s: the window's end, by default the history's. option: the option that gave the window, for faults.
    Raises ConfigurationError for a window without such events.
    """
    end_s = past.until_s if until_s is None else until_s
    from_s = end_s - window_s
    rows = past.history.rows(
        """
        SELECT h.person, c.at_s, c.doc, h.query, h.session, coalesce(nullif(h.action, ''), 'purchase') AS action,
               list_distinct(c.named) AS named
        FROM chosen c JOIN history h ON h.rowid = c.row
        WHERE c.at_s > ? AND c.at_s <= ? AND c.weight > 0 ORDER BY c.at_s, c.row
        """,
        from_s,
        end_s,
    )
    if not rows:
        raise ConfigurationError(_empty(past, from_s, end_s, option))
    there = {row[5] for row in rows}
    action = next((one for one in actions if one in there), None)
    if action is None:
        remedy = f"--action with one of {', '.join(sorted(there))}"
        raise ConfigurationError([Fault("--action", f"no event of the window is {' or '.join(actions)}", remedy)])
    found = HeldOut([], from_s, by_title=False, found=0)
    groups = _grouped(past, rows, action, "", found.left_out)
    if not groups:
        if not title:
            remedy = "name a field of the documents with --title-field, or give a column `query`"
            raise ConfigurationError([Fault(option, "no event has a query, and no field replaces it", remedy)])
        found = HeldOut([], from_s, by_title=True, found=0)
        groups = _grouped(past, rows, action, title, found.left_out)
    if not groups:
        raise ConfigurationError(
            [Fault(option, f"{count_of(count, 'row')}, {why}") for why, count in found.left_out.most_common()]
        )
    found.found = len(groups)
    found.before = int(past.at_s.searchsorted(from_s, side="right"))
    numbers = sorted(Random(seed).sample(range(len(groups)), min(count, len(groups))))
    found.searches = [
        JudgedSearch(f"h{at}", subject, words, relevant, at_s)
        for at in numbers
        for subject, words, at_s, relevant in [groups[at]]
    ]
    return found


def _empty(past: Past, from_s: float, end_s: float, option: str) -> list[Fault]:
    """Return the faults of a window without events: its days, and how many events the history has, or why it has none."""
    days = [f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}" for at_s in (from_s, end_s)]
    events = len(past.at_s)
    if not events:
        rows = past.row_counts["rows"]
        what = f"the window holds no event, nor does the history: {count_of(rows, 'row', 'count')} for nothing"
        return [
            Fault(option, what if rows else "the history holds no row"),
            *(Fault("history", one) for one in past.lines),
        ]
    what = f"the window holds no event: none of {count_of(events, 'event', 'lie')} in {days[0]} to {days[1]}"
    return [Fault(option, what, "give a longer one, or one that the history covers")]


@dataclass(slots=True)
class _Search:
    """One person's words in one visit. at_s: of the first event under these words, or on a relevant item without words."""

    subject: Subject
    words: str
    at_s: float
    relevant: dict[str, float] = field(default_factory=dict)


def _grouped(
    past: Past, rows: list[tuple[Any, ...]], action: str, title: str, left_out: Counter[str]
) -> list[tuple[Subject, str, float, dict[str, float]]]:
    """Return subject, words, time and grades of each search with a relevant item: the words of one person in one visit.

    Its session and segments are those of its first event: an application names both at the search too.
    action: of the events that make an item relevant. title: the field whose text is an event's words, "" for its query.
    """
    found: dict[tuple[str, str, int], _Search] = {}
    under: dict[tuple[str, int, int], _Search] = {}
    wordless_s: dict[tuple[str, int, int], float] = {}
    last_s: dict[str, float] = {}
    visits: dict[str, int] = {}
    for person, at_s, doc, query, session, done, named in rows:
        if at_s - last_s.get(person, float("-inf")) > VISIT_S:
            visits[person] = visits.get(person, 0) + 1
        last_s[person] = at_s
        visit = visits[person]
        document: Mapping[str, Any] = past.documents[doc] or {}
        own = leaf(document, title) if title else query
        words = " ".join(str(own[0] if isinstance(own, list) and own else own or "").split())
        item = person, visit, doc
        if words:
            key = (person, words.casefold(), visit)
            if key not in found:
                found[key] = _Search(Subject(person, session, tuple(named or ())), words, at_s)
            under[item] = found[key]
        elif item not in under:
            wordless_s.setdefault(item, at_s)
        if done != action:
            continue
        if item not in under:
            left_out["without a title" if title else "without a query"] += 1
            continue
        search = under[item]
        search.relevant[str(document["_id"])] = 1.0
        search.at_s = min(search.at_s, wordless_s.get(item, at_s))
    return [(one.subject, one.words, one.at_s, one.relevant) for one in found.values() if one.relevant]
