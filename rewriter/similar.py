"""Suggestions for misspelled names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SIMILAR = 0.7
"""Least ratio of difflib's SequenceMatcher: `wieght` and `weight` have 0.83, `bosts` and `browse` 0.36."""
MAX_CHARS = 64
MAX_KNOWN = 2_000
"""Beyond these, a name is compared with nothing: the comparison takes quadratic time."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return "did you mean NAME?" with the closest of the known names, whatever the case, or "" where none is close."""
    names = {name.casefold(): name for name in known if len(name) <= MAX_CHARS}
    if len(given) > MAX_CHARS or len(names) > MAX_KNOWN:
        return ""
    close = get_close_matches(given.casefold(), names, 1, SIMILAR)
    return f"did you mean {names[close[0]]}?" if close else ""
