"""The environment that teams' templates run in: everything prints as JSON, and little can be made of nothing.

The sandbox stops attribute tricks. What it does not stop is taken away: string methods, text repetition, `range`, every filter
that can make much out of little, macros and recursive loops, and every method of the policy. What is left is loops over what a
template was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel

from rewriter.signals.affinities import Affinity, Clause

FILTERS = (
    "abs", "count", "default", "d", "dictsort", "first", "float", "groupby", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "round", "select", "selectattr", "sort", "sum", "trim", "unique", "upper",
)  # fmt: skip


_AFFINITY = frozenset(Affinity._fields)
_LOOP = frozenset({"first", "index", "index0", "last", "length"})


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if type(left) is float and type(right) is float and operator == "*":
            return left * right
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"`{operator}` works on numbers alone")
        return super().call_binop(context, operator, float(left), right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        # Nearly all look-ups are these, and they give plain data: the sandbox has nothing to ask.
        if (type(obj) is Affinity and attribute in _AFFINITY) or (type(obj) is LoopContext and attribute in _LOOP):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, BaseModel):  # pydantic's own methods read files and unpickle
            return attr in type(obj).model_fields
        return not isinstance(obj, (str, bytes, int, float)) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Admit no `format`: the sandbox's own would let a width of 10⁹ through."""


_encode = json.JSONEncoder(allow_nan=False, default=str).encode


def _print(value: Any) -> str:
    if type(value) is Clause:
        return value.text
    if type(value) is float and isfinite(value):
        return repr(value)
    return _encode(value)


def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment: strict about undefined names, every value printed as JSON."""
    made = _Environment(
        undefined=StrictUndefined, finalize=_print, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in FILTERS}
    return made


def unbounded(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """Yield the line and name of all that can call itself, and so run for ever on a small input."""
    for node in tree.find_all((nodes.Macro, nodes.CallBlock, nodes.For)):
        if not isinstance(node, nodes.For):
            yield node.lineno, "macros are not allowed"
        elif node.recursive:
            yield node.lineno, "recursive loops are not allowed"
