"""Language of the project: the field's names in identifiers and file names, plain prose in code, docs, help and output.

Names that were replaced by the field's terms must not return, nor idioms that a reader from outside has to guess, nor British
spelling, of which American is the project's. docs/glossary.md explains the terms that are used instead.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for part in ("rewriter", "engines", "tests", "bench", "season") for path in (ROOT / part).rglob("*.py")
)
PROSE = sorted(
    path
    for pattern in (
        "rewriter/**/*.py",
        "rewriter/**/*.lua",
        "rewriter/**/*.toml",
        "docs/**/*.md",
        "*.md",
        "templates/**/*.j2",
    )
    for path in ROOT.glob(pattern)
)

REPLACED_NAMES: Mapping[str, str] = {
    "Account": "RenderBudget, RowCounts",
    "Ask": "SearchContext",
    "Asked": "ParsedSearch",
    "AskedQuery": "UbiFields",
    "AsyncDesk": "AsyncHarness",
    "AsyncPlayedStore": "AsyncFakeStore",
    "ConnectionByName": "ResolvingConnection",
    "Desk": "Harness",
    "DESKS": "HARNESSES",
    "Found": "SignalsRead, ShownPage",
    "Heard": "LastHeartbeat",
    "InFlight": "Bulkhead",
    "Known": "SignalsRead",
    "Loop": "TaskRuntime",
    "Looked": "Look",
    "Pace": "LateLegs",
    "Place": "SwitchTarget",
    "Plan": "PagePlan, CountingRules",
    "Played": "FakeEngine",
    "PlayedStore": "FakeStore",
    "Process": "ThreadRuntime, ProcessReport, ServerProcess",
    "Query": "SignalsQuery",
    "Request": "ParsedSearch",
    "SyncDesk": "SyncHarness",
    "Target": "StoreAddress, CounterKey, SwitchTarget",
    "heard": "parse_report, note_heartbeat",
    "personalised": "personalized",
    "say": "print_line",
    "read_request": "parse_search",
    "try_enter": "try_acquire",
}
"""Classes and functions by their former name, and what replaced them."""

REPLACED_FILES = frozenset(
    {
        "rewriter/boost/allowance.py", "rewriter/boost/trial.py", "rewriter/cli/known_subject.py", "rewriter/cli/verdict.py",
        "rewriter/decide/pace.py", "rewriter/flow/account.py", "rewriter/request.py", "rewriter/signals/backfill/account.py",
        "rewriter/signals/ingest/forgetting.py", "rewriter/signals/ingest/marks.py", "rewriter/signals/ingest/settling.py",
        "rewriter/signals/names.py", "tests/played.py",
    }
)  # fmt: skip

HOUSE_WORDS = re.compile(
    r"(^|_)(ask|asked|told|tell|heard|said|says|word|thing|things|desk|desks|settle|settled)(_|$)",
    re.IGNORECASE,
)
"""Parts of identifiers that stand for `request`, `value`, `reply`, `item`, `output` and the like."""

IDIOMS: Mapping[str, str] = {
    r"\bleg [123]\b": "baseline, personalized leg, exploration leg",
    r"(?i)\b(de|re|un)?(personal|normal|serial|initial|optim|organ|summar|minim|maxim|recogn|author|categor|util|prior)is"
    r"(e[ds]?|ing|ations?)\b": "American spelling: -ize",
    r"(?i)\b(analys(ed|ing)|behaviours?|favour\w*|centred?|honour\w*)\b": "American spelling",
    r"\brest(s|ing)\b": "is open, is paused, is idle",
    r"(?<!cannot be )\btold\b(?! apart| from| yet)": "is reported, gets, is called with",
    r"\b(takes?|taken|took|taking) back\b": "removes, releases",
    r"\bwhat is there\b": "what arrived in time, what exists",
    r"(?i)\bwhoever\b": "name the caller, the process, the user",
    r"(?i)\b(good|general|stronger|weaker|whose|policy's|source's) words?\b": "value, override",
    r"\bplaces? in flight\b": "permit",
    r"\b(falls?|fallen|fell) silent\b": "is silent, has stopped",
    r"\bin the place of\b": "replaces",
    r"\b(is|are|was|were|be) heard\b": "is received",
}
"""House idioms as patterns, and what to write instead."""

EXCEPTIONS: Mapping[str, frozenset[str]] = {}
"""By file, texts that match an idiom and are right there."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def definitions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of all that a file defines: classes, functions, arguments and variables."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the prose of a file line by line: of code its comments and texts, of any other file everything."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), token.start[0])


def idioms_in(text: str) -> Iterator[tuple[str, str]]:
    for pattern, rather in IDIOMS.items():
        for found in re.finditer(pattern, text):
            yield found[0], rather


def test_no_class_or_function_has_a_replaced_name() -> None:
    found = [
        f"{shown(path)}:{line}: {name}, now {REPLACED_NAMES[name]}"
        for path in CODE
        for line, name in definitions(path)
        if name in REPLACED_NAMES
    ]
    assert found == []


def test_no_file_has_a_replaced_name() -> None:
    assert [name for name in sorted(REPLACED_FILES) if (ROOT / name).exists()] == []


def test_identifiers_use_the_fields_words() -> None:
    found = [
        f"{shown(path)}:{line}: {name}"
        for path in CODE
        if not path.is_relative_to(ROOT / "tests")
        for line, name in definitions(path)
        if HOUSE_WORDS.search(name)
    ]
    assert found == []


def test_a_test_searches_through_a_harness() -> None:
    found = [f"{shown(path)}:{line}: {name}" for path in CODE for line, name in definitions(path) if "desk" in name]
    assert found == []


@pytest.mark.parametrize("path", PROSE, ids=shown)
def test_prose_has_no_house_idiom(path: Path) -> None:
    allowed = EXCEPTIONS.get(shown(path), frozenset())
    found = [
        f"{shown(path)}:{line}: {text!r}, rather {rather}"
        for line, prose in prose_of(path)
        for text, rather in idioms_in(prose)
        if text not in allowed
    ]
    assert found == []


@pytest.mark.parametrize(
    "sentence",
    [
        "leg 2 is late",
        "a personalised page",
        "the store rests for 5 s",
        "the caller is told once",
        "a switch takes back what it did",
        "answers with what is there",
        "whoever holds the lease",
        "keeps its last good word",
        "costs a place in flight",
        "puts the new set in the place of the old one",
    ],
)
def test_the_patterns_find_the_idioms(sentence: str) -> None:
    assert list(idioms_in(sentence))


def test_every_exception_is_needed() -> None:
    unneeded = [
        f"{name}: {text}"
        for name, texts in EXCEPTIONS.items()
        for text in texts
        if not any(text == found for _, prose in prose_of(ROOT / name) for found, _ in idioms_in(prose))
    ]
    assert unneeded == []
