"""Sandbox of templates: a Jinja2 environment in which every value prints as JSON and output is bounded.

Jinja2's sandbox stops access to attributes. Removed besides are string methods, text repetition, `range`, every filter that can
turn a small input into a large output, everything that recurs or is called twice (macros, blocks, recursive loops), and every
method of the policy. Left are loops over the template's input, and texts and lists made of it, within the render budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel

from rewriter.boost.generated_code import GeneratedCode
from rewriter.boost.render_budget import RenderBudget, filters
from rewriter.signals.affinities import Affinity, Clause, clause

FILTERS = (
    "abs", "count", "default", "d", "dictsort", "first", "float", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "round", "select", "selectattr", "sort", "sum", "trim", "unique", "upper",
)  # fmt: skip

LONG_TESTS = ("in", "lower", "upper")
"""Removed tests, which read every character of a text; the operator `in`, which is charged, stays."""

METHODS = frozenset({"get", "items", "keys", "values"})
"""The only callable methods, those of an object."""

_NODES = (
    nodes.And, nodes.Assign, nodes.BinExpr, nodes.Call, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Dict,
    nodes.Filter, nodes.For, nodes.Getattr, nodes.Getitem, nodes.If, nodes.Keyword, nodes.List, nodes.Name, nodes.Operand,
    nodes.Output, nodes.Pair, nodes.Slice, nodes.TemplateData, nodes.Test, nodes.Tuple, nodes.UnaryExpr, nodes.With,
)  # fmt: skip
_REFUSED: Mapping[type, tuple[str, str]] = {
    nodes.AssignBlock: ("`set` needs its value in the same tag", "write {% set NAME = VALUE %}"),
    nodes.FilterBlock: ("`filter` as a block is not allowed", "write {{ VALUE | FILTER }}"),
    nodes.ScopedEvalContextModifier: ("`autoescape` is not allowed", "leave it out: every value prints as JSON"),
    nodes.CallBlock: ("`call` is not allowed", "list each function by itself"),
    nodes.FromImport: ("`import` is not allowed", "list each function by itself"),
    nodes.Macro: ("macros are not allowed", "list each function by itself"),
}
_LONGEST_ARGUMENT = 64


class _Environment(ImmutableSandboxedEnvironment):
    context_class = RenderBudget
    code_generator_class = GeneratedCode
    affinity, clause = Affinity, Clause
    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"`{operator}` works only on numbers")
        if operator == "+":
            return left + right
        return super().call_binop(context, operator, float(left), right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, BaseModel):  # pydantic's own methods read files and unpickle
            return attr in type(obj).model_fields
        return not isinstance(obj, (str, bytes, int, float)) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Refuse `format`: the sandbox's own version accepts a width of 10⁹."""


_encode = json.JSONEncoder(allow_nan=False, default=str).encode


@pass_context
def _print(budget: RenderBudget, value: Any) -> str:
    kind = type(value)
    if kind is Clause:
        return value.text  # type: ignore[no-any-return]
    if kind is float and isfinite(value):
        return repr(value)
    text = _encode(value)
    budget.charge(len(text))
    return text


def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment: undefined names are errors, every value prints as JSON, output is charged to the render budget."""
    plain, made = _plain(), _plain()
    made.filters = filters(plain)
    if not _shortcuts_work(made):
        made.code_generator_class = CodeGenerator
    return made


_PROBE = (
    "{% for one in ones if one.weight > 0 %}{{ one.weight * one.scale }} {{ one.filter }} {{ loop.index }} {{ text }}"
    "{% endfor %}"
)
_PROBED = '0.125 {"$affinity": 0} 1 "text"'


def _shortcuts_work(made: ImmutableSandboxedEnvironment) -> bool:
    """Whether templates print what they should. The generated code uses hooks that a later Jinja2 may change; its own is slower."""
    one = Affinity("", "", (), (), 0.5, 0.25, "profile", 0, clause("attribute", ("field",), ("value",), 0))
    try:
        return made.from_string(_PROBE).render(ones=[one], text="text") == _PROBED
    except Exception:  # noqa: BLE001  of whatever kind the change is
        return False


def _plain() -> ImmutableSandboxedEnvironment:
    made = _Environment(
        undefined=StrictUndefined, finalize=_print, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in FILTERS}
    made.tests = {name: test for name, test in made.tests.items() if name not in LONG_TESTS}
    return made


def unbounded(tree: nodes.Template) -> Iterator[tuple[int, str, str]]:
    """Yield line, fault and remedy of every construct that the render budget cannot bound."""
    for node in tree.find_all(nodes.Node):
        match node:
            case nodes.For(recursive=True):
                yield node.lineno, "recursive loops are not allowed", "list each function by itself"
            case nodes.Call(node=called) if not (isinstance(called, nodes.Getattr) and called.attr in METHODS):
                yield node.lineno, f"only {', '.join(sorted(METHODS))} can be called", "use a filter"
            case nodes.Filter() if remedy := _bounding(node):
                yield node.lineno, f"the arguments of `{node.name}` are not bounded", remedy
            case nodes.Scope():  # around a block that is refused itself
                continue
            case _ if not isinstance(node, _NODES):
                what, remedy = _REFUSED.get(
                    type(node), (f"`{type(node).__name__.lower()}` is not allowed", "list each function by itself")
                )
                yield node.lineno, what, remedy


def _bounding(node: nodes.Filter) -> str | None:
    """Return how to bound a filter's arguments if they could turn a small input into a large output, else None."""
    arguments = [*node.args, *(named.value for named in node.kwargs)]
    is_open = node.dyn_args is not None or node.dyn_kwargs is not None
    match node.name:
        case "map" if is_open or len(arguments) != 1:
            return "pass only `attribute=` or the name of a filter"
        case "sum" if is_open or len(arguments) > 1 or any(named.key == "start" for named in node.kwargs):
            return "pass only `attribute=`"
        case "join" | "round" if is_open or not all(map(_is_short, arguments)):
            return f"write them as literals: numbers, or texts of up to {_LONGEST_ARGUMENT} characters"
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
