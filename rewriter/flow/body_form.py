"""The form of a body: its keys and the types of its values, without the values.

A search box of an application sends bodies of one form that differ only in their values. Evidence against a template is kept per
form, so that a body that cannot be boosted counts against its own form alone.
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
"""Keys, at any depth, for which the server computes something per hit or match. A personalized leg has other hits than the
baseline, so one hit can cause a rejection: a text too long to highlight, a document without the field that a script reads."""

MAX_NODES = 500
"""How many objects and values of a body are read; bodies that differ only beyond these have the same form."""

MAX_ELEMENTS = 16
"""How many elements of each list are read."""


def works_out_per_hit(body: Mapping[str, Any]) -> bool:
    """Whether the server computes something per hit for a leg of `body`. True also if the body is too large to tell."""
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
    """Return a hash that is equal for bodies of the same form in this process. Takes at most `MAX_NODES` steps."""
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
