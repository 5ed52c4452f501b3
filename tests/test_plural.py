"""Counts in texts: the helper, and that no text puts a count before a plural without it (`1 searches`)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from rewriter.plural import agreeing, count_of

SOURCES = sorted((Path(__file__).parents[1] / "rewriter").rglob("*.py"))
NOUNS = (
    "affinities boosts calls changes clicks days documents entries events expressions failures faults hits households "
    "indices judgments lines pages partitions people persons processes products queries rows searches segments shards "
    "slots trials users uses values weights"
)
PLURAL = re.compile(rf"^ (?:(?!of )[a-z]+ ){{0,1}}?({NOUNS.replace(' ', '|')})\b")
TEXTS = ("name", "set_name", "measure")
A_SHARE = re.compile(r"%|\.[1-9]|g$")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("1 search", count_of(1, "search")),
        ("0 searches", count_of(0, "search")),
        ("1,204 judged searches are", count_of(1204, "judged search", "are")),
        ("1 judged search is", count_of(1, "judged search", "are")),
        ("1 person has", count_of(1, "person", "have")),
        ("2 people have", count_of(2, "person", "have")),
        ("2 indices", count_of(2, "index")),
        ("2 more queries", count_of(2, "more query")),
        ("3 days", count_of(3, "day")),
        ("1 page changes", count_of(1, "page", "change")),
        ("2 classes", count_of(2, "class")),
        ("was", agreeing(1, "were")),
        ("were", agreeing(0, "were")),
        ("matches", agreeing(1, "match")),
    ],
)
def test_a_count_agrees_with_its_noun_and_its_verb(text: str, made: str) -> None:
    assert made == text


def test_no_text_puts_a_count_before_a_plural_without_the_helper() -> None:
    found = [
        f"{path.name}:{value.lineno}: {ast.unparse(value)}{str(after.value)[:40]!r}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.JoinedStr)
        for value, after in zip(node.values, node.values[1:], strict=False)
        if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant) and _is_a_count(value)
        if PLURAL.match(str(after.value))
    ]
    assert not found, "\n".join(found)


def _is_a_count(value: ast.FormattedValue) -> bool:
    """Leave out constants above one, shares, means and names."""
    spec = ast.unparse(value.format_spec) if value.format_spec else ""
    inner = value.value
    if (
        isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Name)
        and inner.func.id in ("count_of", "agreeing", "quoted")
    ):
        return False
    named = ast.unparse(inner).rpartition(".")[2]
    return not (A_SHARE.search(spec.strip("'f")) or named.isupper() or named in TEXTS)
