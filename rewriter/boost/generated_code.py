"""Generator of a template's Python code, in which the most frequent expressions cost no call.

Each shortcut holds for values of exactly one type, and gives what the sandbox would give; every other value goes through the
sandbox, as in the code that Jinja2 generates.
"""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

from rewriter.signals.affinities import Affinity

LOOP_ATTRIBUTES = frozenset({"first", "index", "index0", "last", "length"})

OF_TYPE: Mapping[str, str] = {
    **dict.fromkeys(Affinity._fields, "environment.affinity"),
    **dict.fromkeys(LOOP_ATTRIBUTES, "LoopContext"),
}
"""Attributes that are plain data, and the type, as the generated code names it, of which they are read without checks."""


class GeneratedCode(CodeGenerator):
    """Jinja2's code generator with shortcuts for attributes of affinities and loops, products of floats, and output.

    The environment must have the types `affinity` and `clause`, and a `finalize` that prints them as the shortcuts do.
    """

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802  Jinja2's names
        """Write the look-up of an attribute."""
        if node.attr not in OF_TYPE:
            super().visit_Getattr(node, frame)
            return
        value = self.temporary_identifier()
        self.write(f"({value}.{node.attr} if type({value} := ")
        self.visit(node.node, frame)
        self.write(f") is {OF_TYPE[node.attr]} else environment.getattr({value}, {node.attr!r}))")

    def visit_Mul(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802  as above
        """Write a product."""
        left, right = self.temporary_identifier(), self.temporary_identifier()
        self.write(f"({left} * {right} if (type({left} := ")
        self.visit(node.left, frame)
        self.write(f") is float) & (type({right} := ")
        self.visit(node.right, frame)
        self.write(f") is float) else environment.call_binop(context, '*', {left}, {right}))")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        """Write the beginning of an expression that is printed: `value - value` is 0 for every finite number."""
        if isinstance(node, nodes.TemplateData):
            super()._output_child_pre(node, frame, finalize)
            return
        value = self._printed = self.temporary_identifier()
        self.write(f"({value}.text if type({value} := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        """Write its end."""
        if isinstance(node, nodes.TemplateData):
            super()._output_child_post(node, frame, finalize)
            return
        value = self._printed
        self.write(f") is environment.clause else repr({value}) if type({value}) is float and {value} - {value} == 0.0")
        self.write(f" else str(environment.finalize(context, {value})))")
