"""Counts in texts: `1 search is`, `1,204 searches are`."""

from __future__ import annotations

import re

_IRREGULAR = {"person": "people", "index": "indices"}
_SINGULAR = {"are": "is", "have": "has", "were": "was", "do": "does"}


def count_of(number: int, noun: str, verb: str = "") -> str:
    """Return the number with its noun, and with a verb that agrees with it.

    noun: in the singular, such as "search" or "judged search"; its last word takes the plural.
    verb: in the plural, such as "are" or "differ".
    """
    head, space, last = noun.rpartition(" ")
    words = f"{number:,} {noun if number == 1 else f'{head}{space}{_plural(last)}'}"
    return f"{words} {agreeing(number, verb)}" if verb else words


def agreeing(number: int, verb: str) -> str:
    """Return a verb, given in the plural, in the form that agrees with the number."""
    if number != 1:
        return verb
    return _SINGULAR.get(verb) or _with_s(verb)


def _plural(noun: str) -> str:
    return _IRREGULAR.get(noun) or _with_s(noun)


def _with_s(stem: str) -> str:
    if re.search(r"[^aeiou]y$", stem):
        return stem[:-1] + "ies"
    return stem + ("es" if re.search(r"(s|x|z|ch|sh)$", stem) else "s")
