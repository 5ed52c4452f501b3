"""Search bodies of judged searches: their own, or made from a search template in Mustache. Pure.

The server renders the template once, for a sentinel that occurs nowhere else. Each search's words then replace the sentinel in the
rendered body. The body equals the one that the server would render, without a request for each search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.judged import JudgedSearch

SENTINEL = "rewriterwordsrewriter"
SHOWN = 5


def bodies_of(
    judged: Sequence[JudgedSearch], rendered: Mapping[str, Any] | None, where: str
) -> list[Mapping[str, Any]]:
    """Return the body of each search. Raises ConfigurationError if a search has none.

    rendered: the template's body for SENTINEL, or None without a template. where: the template's name in faults.
    """
    if rendered is not None and not holds_words(rendered):
        what = "renders a body that does not hold the words"
        raise ConfigurationError([Fault(where, what, 'write "{{query}}" where they belong, quotation marks included')])
    missing = [one.search_id for one in judged if one.body is None and rendered is None]
    if missing:
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        what = f"no `body`: {', '.join(missing[:SHOWN])}{more}"
        raise ConfigurationError([Fault("--body", what, "give a search template with {{query}}")])
    return [one.body if one.body is not None else with_words(rendered, one.query) for one in judged]


def holds_words(part: Any) -> bool:
    """Whether a rendered body holds the sentinel."""
    if isinstance(part, Mapping):
        return any(holds_words(one) for one in part.values())
    if isinstance(part, list):
        return any(map(holds_words, part))
    return isinstance(part, str) and SENTINEL in part


def with_words(part: Any, words: str) -> Any:
    """Return a rendered body with a search's words."""
    if isinstance(part, Mapping):
        return {name: with_words(one, words) for name, one in part.items()}
    if isinstance(part, list):
        return [with_words(one, words) for one in part]
    return part.replace(SENTINEL, words) if isinstance(part, str) else part
