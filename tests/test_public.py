"""The public interface: names, the tree of errors, the reasons, and the signatures of both rewriters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

import rewriter
from rewriter import errors
from rewriter.errors import ConfigurationError, Fault, RewriterError, StoreError
from rewriter.report import Reason


def test_the_public_names() -> None:
    assert rewriter.__all__ == [
        "AsyncRewriter",
        "BoostUsed",
        "ConfigurationError",
        "Hook",
        "Reason",
        "Report",
        "Rewriter",
        "RewriterError",
        "SearchDetails",
        "Settings",
        "Slot",
        "Status",
        "Subject",
    ]
    assert all(getattr(rewriter, name).__doc__ for name in rewriter.__all__)


def test_no_reason_is_renamed_or_moved() -> None:
    """Dashboards are built on them: one that is renamed breaks somebody's alert."""
    assert " ".join(Reason) == (
        "personalized no_subject no_consent switched_off not_rolled_out holdout shadow breaker_open busy no_policy "
        "no_hits sorted beyond_depth unsupported baseline_partial no_relevance flat_scores no_facts no_plan "
        "no_signals signals_late signals_failed lagging "
        "template_failed quarantined rejected_before search_rejected search_failed search_late answers_differ"
    )


def drawn() -> Iterator[tuple[str, str]]:
    """The tree of the module's text: (child, parent)."""
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+Error)\b", line):
            depth = len(found[1])
            parents[depth] = found[2]
            parent = max((at for at in parents if at < depth), default=None)
            yield found[2], parents[parent] if parent is not None else "Exception"


def defined() -> Iterator[tuple[str, str]]:
    for name, thing in vars(errors).items():
        if inspect.isclass(thing) and issubclass(thing, BaseException) and thing.__module__ == errors.__name__:
            assert len(thing.__bases__) == 1
            yield name, thing.__bases__[0].__name__


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    assert sorted(drawn()) == sorted(defined())
    assert len(list(drawn())) == 4


@pytest.mark.parametrize("error", [ConfigurationError([Fault("here", "is wrong")]), StoreError("is away")])
def test_one_name_catches_them_all(error: Exception) -> None:
    with pytest.raises(RewriterError):
        raise error


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("a.toml:3", "is wrong"), "a.toml:3: is wrong"),
        (Fault("a.toml:3", "is wrong", "write x"), "a.toml:3: is wrong (write x)"),
    ],
)
def test_a_fault_says_where_what_and_what_to_do(fault: Fault, text: str) -> None:
    assert str(fault) == text


def test_a_configuration_error_has_a_line_for_each_fault() -> None:
    error = ConfigurationError([Fault("a", "x"), Fault("b", "y")])
    assert str(error) == "a: x\nb: y"
    assert error.faults == (Fault("a", "x"), Fault("b", "y"))


def public(kind: type) -> dict[str, inspect.Signature]:
    methods = inspect.getmembers(kind, inspect.isroutine)
    named = {name: method for name, method in methods if not name.startswith("_") or name == "__init__"}
    return {name: inspect.signature(method) for name, method in named.items() if name != "after_fork"}


def test_both_rewriters_are_asked_in_the_same_way() -> None:
    sync, aio = public(rewriter.Rewriter), public(rewriter.AsyncRewriter)
    assert sync.keys() == aio.keys()
    assert {name: one.parameters.keys() for name, one in sync.items()} == {
        name: one.parameters.keys() for name, one in aio.items()
    }


def test_a_subject_s_identifiers_do_not_show() -> None:
    shown = repr(rewriter.Subject("user-7", "session-9", ("vip",)))
    assert shown == "Subject(user=True, session=True, segments=1)"
