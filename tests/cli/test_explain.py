"""Every reason is explained once, in the wheel; docs/reasons.md and `rewriter explain` show the same text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.explain import explanations, forms
from rewriter.flow.unread import NO_POPULATION, NO_STORE, READING_FACTS
from rewriter.plural import count_of
from rewriter.report import Reason
from rewriter.shapes import TABLE
from rewriter.shell.ready import STORE_UNREAD
from tests.pages import ROOT
from tests.reasons_page import PAGE, written

REASONS = [str(reason) for reason in Reason]
DETAILS = [(reason, detail) for reason, row in explanations().items() for detail in row.details]


@cache
def all_texts() -> tuple[str, ...]:
    return tuple(texts())


def texts() -> Iterator[str]:
    """Yield every text of the library's code that is no docstring, with "…" for each value that an f-string fills in."""
    for path in (ROOT / "rewriter").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(map(shown, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value


def shown(part: ast.expr) -> str:
    """Return the text of a part of an f-string, with "…" for each value; `count_of(…, "noun")` is a number and its noun."""
    if isinstance(part, ast.FormattedValue):
        match part.value:
            case ast.Call(func=ast.Name(id="count_of"), args=[_, ast.Constant(value=str(noun)), *_]):
                return f"…{count_of(2, noun).removeprefix('2')}"
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def test_every_reason_has_one_row_in_the_order_of_reasons() -> None:
    assert [str(reason) for reason in explanations()] == REASONS, "add the row to rewriter/cli/reasons.toml"


def test_every_reason_says_what_it_means_and_what_to_do() -> None:
    assert [
        reason for reason, row in explanations().items() if not (row.means.endswith(".") and row.do.endswith("."))
    ] == []


@pytest.mark.parametrize(("reason", "detail"), DETAILS)
def test_every_detail_is_one_that_the_code_writes(reason: Reason, detail: str) -> None:
    written = re.compile(".*".join(map(re.escape, detail.split("…"))))
    assert any(written.search(text) for text in all_texts()), f"no code writes this detail of {reason}"


def test_what_a_new_process_is_missing_is_on_the_page() -> None:
    shown = re.findall(r"^\| ([^`|]+) \|", PAGE.read_text("utf-8").partition("## Reasons")[0], re.MULTILINE)
    assert shown == [NO_STORE, STORE_UNREAD, NO_POPULATION, READING_FACTS]


def test_the_page_shows_what_the_wheel_holds() -> None:
    page = PAGE.read_text("utf-8")
    assert page == written(page), "run: make docs"
    for reason in REASONS:
        assert len(re.findall(rf"^\| `{reason}` \| .* \| .* \|$", page.partition("## Details")[0], re.MULTILINE)) == 1


def test_every_form_that_is_passed_through_is_listed_under_its_reason() -> None:
    listed = {name for reason in Reason for name in forms(reason)}
    assert listed == {shape.name for shape in TABLE if isinstance(shape.outcome, Reason)}


@pytest.mark.parametrize("reason", REASONS)
def test_explain_prints_a_row_with_its_details_and_forms(reason: str) -> None:
    row = explanations()[Reason(reason)]
    shown = CliRunner().invoke(app, ["explain", reason])
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"{reason}: {row.means}\nWhat to do: {row.do}\n")
    for text in (*row.details, *row.details.values(), *forms(Reason(reason))):
        assert text in shown.stdout


def test_explain_alone_prints_all() -> None:
    shown = CliRunner().invoke(app, ["explain"])
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()[1 : len(REASONS) + 1]] == REASONS


def test_explain_prints_json() -> None:
    (row,) = json.loads(CliRunner().invoke(app, ["explain", "sorted", "--json"]).stdout).items()
    assert row[0] == "sorted"
    assert row[1].keys() == {"means", "do", "details", "forms"}


def test_an_unknown_reason_is_refused_with_all_that_there_are() -> None:
    shown = CliRunner().invoke(app, ["explain", "nonsense"])
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr == f"nonsense: is not a reason of a report (one of {', '.join(REASONS)})\n"
    shown = CliRunner().invoke(app, ["explain", "nosignals"])
    assert (shown.exit_code, shown.stderr) == (2, "nosignals: is not a reason of a report (did you mean no_signals?)\n")
