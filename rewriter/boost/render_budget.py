"""Render budget: a limit on what one rendering produces and repeats, in characters.

A text that is joined to itself forty times has 10¹² characters, nested lists and nested loops grow as fast. So one rendering may
produce about 4 million characters (MAX_SPENT); each list element, and each expression inside a loop, counts as 16 (ELEMENT).
Example: two nested loops over 128 affinities leave room for 15 expressions. The size of a single list is limited too, since
comparing two lists is charged as little as naming them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MappingView, Sequence
from typing import Any

from jinja2 import Environment, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.visitor import NodeTransformer

from rewriter.signals.affinities import Affinity

MAX_SPENT = 4 * 2**20
MAX_ELEMENTS = 1_024
MAX_CHARACTERS = 2**20
ELEMENT = 16

LOOP, SEARCH, LITERAL, SLICE, JOIN = "each of", "in", "written", "part of", "~"
"""Names of the charging filters that `charged` inserts; a template cannot write them."""

INSTANT = frozenset({"count", "d", "default", "first", "last", "length"})
"""Filters that produce nothing new and take constant time, so they are free."""

SORTING = frozenset({"dictsort", "sort"})
"""Filters that take several times as long for an element as others, and are charged for four."""

OF_TEXTS = frozenset({"float", "int", "lower", "trim", "upper"})
"""Filters that process a text as a whole and are charged 1 per character; others turn it into a list, charged ELEMENT each."""


class RenderBudget(Context):
    """The Jinja2 context of one rendering, with the characters that it has spent."""

    spent = 0

    def charge(self, characters: int) -> None:
        """Spend `characters`. Raises SecurityError beyond MAX_SPENT."""
        self.spent += characters
        if self.spent > MAX_SPENT:
            raise SecurityError(f"produces and repeats more than {MAX_SPENT:,} characters in all")

    def charge_for(self, value: Any, character: int = 1) -> None:
        """Spend `character` for each character of a text, ELEMENT for each element of a list or object, nothing otherwise."""
        if isinstance(value, str):
            self.charge(character * len(value))
        elif isinstance(value, (list, tuple, Mapping, MappingView)):
            self.charge(ELEMENT * len(value))


def filters(plain: Environment) -> dict[str, Callable[..., Any]]:
    """Return the filters of `plain`, each charging for its input and output, and the charging filters that `charged` inserts."""
    return {
        LOOP: _each_of, SEARCH: _searched, LITERAL: _written, SLICE: _part_of, JOIN: _joined,
        **{name: plain.filters[name] if name in INSTANT else _charging(name, plain) for name in plain.filters},
    }  # fmt: skip


def charged(tree: nodes.Template) -> nodes.Template:
    """Return the template with charges for its loops, `in` operands, list and object literals, slices and `~`."""
    _Charging().visit(tree)
    return tree


class _Charging(NodeTransformer):
    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        each = _each(node) if isinstance(node, nodes.For) else 0
        self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For(iter=nodes.Expr() as values):
                node.iter = _through(LOOP, values, nodes.Const(each))
            case nodes.Operand(op="in" | "notin", expr=where):
                node.expr = _through(SEARCH, where)
            case nodes.Concat():
                return _through(JOIN, nodes.List(node.nodes, lineno=node.lineno))
            case nodes.Getitem(arg=nodes.Slice()):
                return _through(SLICE, node)
            case nodes.Dict() | nodes.List() | nodes.Tuple(ctx="load") if node.find(nodes.Name):
                return _through(LITERAL, node)  # a literal without a name in it is as small as its source
        return node


def _each(loop: nodes.For) -> int:
    """Return the charge of one iteration of a loop; the iterated expression is evaluated only once."""
    return _takes(loop) - _takes(loop.iter)


def _takes(part: nodes.Node) -> int:
    texts = sum(len(text.data) for text in part.find_all(nodes.TemplateData))
    return texts + sum(ELEMENT for _ in part.find_all(nodes.Expr))


def _through(name: str, value: nodes.Expr, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(
        value, name, list(arguments), [], None, None, lineno=value.lineno, environment=value.environment
    )


@pass_context
def _each_of(budget: RenderBudget, values: Any, each: int) -> Any:
    values = values if hasattr(values, "__len__") else list(values)
    budget.charge(len(values) * each)
    return values


@pass_context
def _searched(budget: RenderBudget, where: Any) -> Any:
    budget.charge(len(where) if hasattr(where, "__len__") else 0)
    return where


@pass_context
def _part_of(budget: RenderBudget, value: Any) -> Any:
    budget.charge_for(value)
    return value


@pass_context
def _joined(budget: RenderBudget, parts: Sequence[Any]) -> str:
    if not all(isinstance(part, (str, int, float, Undefined)) for part in parts):
        raise SecurityError("`~` joins only texts and numbers")
    texts = [str(part) for part in parts]
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise SecurityError(f"`~` makes a text of more than {MAX_CHARACTERS:,} characters")
    budget.charge(characters)
    return "".join(texts)


@pass_context
def _written(budget: RenderBudget, value: Any) -> Any:
    elements = characters = 0
    left = [value]
    while left:
        one = left.pop()
        elements += 1
        match one:
            case str():
                characters += len(one)
            case Affinity():
                characters += sum(map(len, one.values))
            case Mapping():
                left += [*one, *one.values()]
            case list() | tuple():
                left += one
            case MappingView():
                raise SecurityError("a list or object cannot hold the keys, values or items of another")
        if elements + len(left) > MAX_ELEMENTS or characters > MAX_CHARACTERS:
            what = f"{MAX_ELEMENTS:,} elements or {MAX_CHARACTERS:,} characters"
            raise SecurityError(f"a list or object holds more than {what}, nested ones included")
    budget.charge(ELEMENT * elements + characters)
    return value


def _charging(name: str, plain: Environment) -> Callable[..., Any]:
    @pass_context
    def run(budget: RenderBudget, value: Any, *arguments: Any, **named: Any) -> Any:
        budget.charge_for(value, 1 if name in OF_TEXTS else ELEMENT)
        if name in SORTING and hasattr(value, "__len__"):
            budget.charge(3 * ELEMENT * len(value))
        found = plain.call_filter(name, value, arguments, named, budget, budget.eval_ctx)
        if isinstance(found, Iterator):
            found = list(found)
        if isinstance(found, list) and len(found) > MAX_ELEMENTS:
            raise SecurityError(f"`{name}` returns a list of more than {MAX_ELEMENTS:,} elements")
        budget.charge_for(found)
        return found

    return run
