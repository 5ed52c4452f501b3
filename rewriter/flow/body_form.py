"""The form of a body: its keys and the types of its values, without the values.

A search form of an application sends bodies of one form with other words in them. Evidence against a template is told apart by
form, so that one body that bears no boosts speaks for itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter.boost.body import NOT_FOR_OPTIONAL_LEGS

PER_HIT = frozenset(
    {
        "highlight", "inner_hits", "script_fields", "derived", "collapse", "script", "script_score", "docvalue_fields", "explain",
    }
)  # fmt: skip
"""Keys, at any depth, with which the server works something out for each hit or match. A personalized leg has other hits than the
baseline, so a rejection may be one hit's fault: a text too long to highlight, a document without the field that a script reads."""

MAX_NODES = 500
"""Of a body, objects and values looked at; what lies beyond is taken for the same form."""

MAX_ELEMENTS = 16
"""Of each list."""


def works_out_per_hit(body: Mapping[str, Any]) -> bool:
    """Whether the server works something out per hit for a leg of `body`, or whether the body is too large to tell."""
    nodes = [value for key, value in body.items() if key not in NOT_FOR_OPTIONAL_LEGS]
    if not PER_HIT.isdisjoint(body) or body.get("fields") or body.get("stored_fields"):
        return True
    seen = 0
    while nodes:
        node = nodes.pop()
        seen += 1
        if seen > MAX_NODES:
            return True
        if isinstance(node, Mapping):
            if not PER_HIT.isdisjoint(node):
                return True
            nodes += node.values()
        elif isinstance(node, (list, tuple)) and node and isinstance(node[0], (Mapping, list, tuple)):
            nodes += node
    return False


def form_of(body: Mapping[str, Any]) -> int:
    """Return a number that is the same for bodies of the same form in this process. It takes at most `MAX_NODES` steps."""
    left = [MAX_NODES]

    def form(node: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            return None
        if isinstance(node, Mapping):
            return frozenset((str(key), form(value)) for key, value in node.items())
        if isinstance(node, (list, tuple)):
            return ("list", frozenset(form(one) for one in node[:MAX_ELEMENTS]))
        return type(node).__name__

    try:
        return hash(form({key: value for key, value in body.items() if key not in NOT_FOR_OPTIONAL_LEGS}))
    except RecursionError:
        return 0
