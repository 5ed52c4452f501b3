"""Judged searches made from a history: purchases or clicks of its last weeks are the relevant items of the searches before them.

A search is one person's words in one visit; the items that the person used in that visit after these words are relevant. If no row
has a query, the title of the bought item replaces it. This may mislead: people may search with other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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
        raise ConfigurationError(
            [Fault(option, "the window holds no event", "give a longer one, or one that the history covers")]
        )
    there = {row[5] for row in rows}
    action = next((one for one in actions if one in there), None)
    if action is None:
        remedy = f"--action with one of {', '.join(sorted(there))}"
        raise ConfigurationError([Fault("--action", f"no event of the window is {' or '.join(actions)}", remedy)])
    chosen = [row for row in rows if row[5] == action]
    by_title = not any((row[3] or "").strip() for row in chosen)
    found = HeldOut([], from_s, by_title, 0)
    if by_title and not title:
        remedy = "name a field of the documents with --title-field, or give a column `query`"
        raise ConfigurationError([Fault(option, "no event has a query, and no field replaces it", remedy)])
    groups = _grouped(past, chosen, title if by_title else "", found.left_out)
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


def _grouped(
    past: Past, rows: list[tuple[Any, ...]], title: str, left_out: Counter[str]
) -> list[tuple[Subject, str, float, dict[str, float]]]:
    """Return subject, words, time and grades of each search: the words of one person in one visit.

    Its session and segments are those of its first event: an application names both at the search too.
    """
    found: dict[tuple[str, str, int], tuple[Subject, str, float, dict[str, float]]] = {}
    last_s: dict[str, float] = {}
    visits: dict[str, int] = {}
    for person, at_s, doc, query, session, _, named in rows:
        document: Mapping[str, Any] = past.documents[doc] or {}
        own = leaf(document, title) if title else query
        words = " ".join(str(own[0] if isinstance(own, list) and own else own or "").split())
        if at_s - last_s.get(person, float("-inf")) > VISIT_S:
            visits[person] = visits.get(person, 0) + 1
        last_s[person] = at_s
        if not words:
            left_out["without a title" if title else "without a query"] += 1
            continue
        key = (person, words.casefold(), visits[person])
        if key not in found:
            found[key] = Subject(person, session, tuple(named or ())), words, at_s, {}
        found[key][3][str(document["_id"])] = 1.0
    return list(found.values())
