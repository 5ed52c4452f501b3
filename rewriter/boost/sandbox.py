"""The environment that teams' templates run in: everything prints as JSON, and little can be made of nothing.

The sandbox stops attribute tricks. What it does not stop is taken away: string methods, text repetition, `range`, every filter
that can make much out of little, whatever calls itself or is called twice (macros, blocks, recursive loops), and every method of
the policy. What is left is loops over what a template was given, and texts and lists made of it, within `allowance`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel

from rewriter.boost.render_budget import RenderBudget, filters
from rewriter.signals.affinities import Affinity, Clause

FILTERS = (
    "abs", "count", "default", "d", "dictsort", "first", "float", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "round", "select", "selectattr", "sort", "sum", "trim", "unique", "upper",
)  # fmt: skip

LONG_TESTS = ("in", "lower", "upper")
"""Tests that look at every character; what is left of them is the operator `in`."""

METHODS = frozenset({"get", "items", "keys", "values"})
"""All that can be called, on an object that was given."""

_NODES = (
    nodes.And, nodes.Assign, nodes.BinExpr, nodes.Call, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Dict,
    nodes.Filter, nodes.For, nodes.Getattr, nodes.Getitem, nodes.If, nodes.Keyword, nodes.List, nodes.Name, nodes.Operand,
    nodes.Output, nodes.Pair, nodes.Slice, nodes.TemplateData, nodes.Test, nodes.Tuple, nodes.UnaryExpr, nodes.With,
)  # fmt: skip
_REFUSED: Mapping[type, tuple[str, str]] = {
    nodes.AssignBlock: ("`set` needs its value in the same tag", "write {% set NAME = VALUE %}"),
    nodes.FilterBlock: ("`filter` as a block is not allowed", "write {{ VALUE | FILTER }}"),
    nodes.Macro: ("macros are not allowed", "list each function by itself"),
}
_LONGEST_ARGUMENT = 64
_AFFINITY = frozenset(Affinity._fields)
_LOOP = frozenset({"first", "index", "index0", "last", "length"})


class _Environment(ImmutableSandboxedEnvironment):
    context_class = RenderBudget
    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if type(left) is float and type(right) is float and operator == "*":
            return left * right
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"`{operator}` works on numbers alone")
        if operator == "+":
            return left + right
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


@pass_context
def _print(budget: RenderBudget, value: Any) -> str:
    if type(value) is Clause:
        return value.text
    if type(value) is float and isfinite(value):
        return repr(value)
    text = _encode(value)
    budget.charge(len(text))
    return text


def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment: strict about undefined names, every value printed as JSON, all that is made charged for."""
    plain, made = _plain(), _plain()
    made.filters = filters(plain)
    return made


def _plain() -> ImmutableSandboxedEnvironment:
    made = _Environment(
        undefined=StrictUndefined, finalize=_print, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in FILTERS}
    made.tests = {name: test for name, test in made.tests.items() if name not in LONG_TESTS}
    return made


def unbounded(tree: nodes.Template) -> Iterator[tuple[int, str, str]]:
    """Yield the line of all that an allowance cannot hold, what it is, and what to do instead."""
    for node in tree.find_all(nodes.Node):
        match node:
            case nodes.For(recursive=True):
                yield node.lineno, "recursive loops are not allowed", "list each function by itself"
            case nodes.Call(node=called) if not (isinstance(called, nodes.Getattr) and called.attr in METHODS):
                yield node.lineno, f"nothing is called but {', '.join(sorted(METHODS))}", "use a filter"
            case nodes.Filter() if remedy := _settled(node):
                yield node.lineno, f"the arguments of `{node.name}` are not bounded", remedy
            case _ if not isinstance(node, _NODES):
                what, remedy = _REFUSED.get(
                    type(node), (f"`{type(node).__name__.lower()}` is not allowed", "list each function by itself")
                )
                yield node.lineno, what, remedy


def _settled(node: nodes.Filter) -> str | None:
    """Return how to write the arguments of a filter that could make much out of little with others, or None."""
    arguments = [*node.args, *(named.value for named in node.kwargs)]
    is_open = node.dyn_args is not None or node.dyn_kwargs is not None
    match node.name:
        case "map" if is_open or len(arguments) != 1:
            return "give it an attribute or a filter alone"
        case "sum" if is_open or len(arguments) > 1 or any(named.key == "start" for named in node.kwargs):
            return "give it an attribute alone"
        case "join" | "round" if is_open or not all(map(_is_short, arguments)):
            return f"write them down, as numbers or texts of up to {_LONGEST_ARGUMENT}"
    return None


def _is_short(argument: nodes.Expr) -> bool:
    try:
        value = argument.as_const()
    except nodes.Impossible:
        return False
    return (
        len(value) <= _LONGEST_ARGUMENT
        if isinstance(value, str)
        else isinstance(value, int) and abs(value) <= _LONGEST_ARGUMENT
    )
