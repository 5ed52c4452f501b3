"""The hooks of a rewriter: what leaves a search, one frozen object for each, handed to whoever asked for it.

A hook is called with SearchDetails. If it has a method `baseline_failed`, that is called where the caller's own search raised;
if it has a method `answered`, that is called with the answer and the subject as well, for records that need them (see `ubi`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rewriter.report import Report
from rewriter.subject import Subject


@dataclass(frozen=True, slots=True)
class SearchDetails:
    """One search, for a hook: what was asked of which indices, and the report. Nothing in it identifies anybody."""

    indices: tuple[str, ...]
    report: Report


@dataclass(frozen=True, slots=True)
class BaselineFailure:
    """A search of the caller's that raised: the class name of its error, and after how long. The caller has the error itself."""

    indices: tuple[str, ...]
    error: str
    after_ms: float


@dataclass(frozen=True, slots=True, repr=False)
class Answered:
    """One search with all that went in and came out: it holds identifiers, and whoever takes it in is to guard them.

    arguments and response are the caller's own objects, who may change them once the hook has returned: copy what is needed.
    """

    arguments: Mapping[str, Any]
    subject: Subject | None
    response: Any
    report: Report


class Hook(Protocol):
    """A function that is called after each search, on the search's own thread or task.

    It must be quick. What it raises is swallowed, and counted in `status().hook_errors`.
    """

    def __call__(self, details: SearchDetails, /) -> object:
        """Take in one search."""


class Hooks:
    """The hooks of a rewriter; counts what they raised, so that a broken one shows in `status()`."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(hooks)
        self._of_failures = _methods(self._hooks, "baseline_failed")
        self._of_answers = _methods(self._hooks, "answered")
        self.errors = 0

    def finished(
        self,
        indices: tuple[str, ...],
        arguments: Mapping[str, Any],
        subject: Subject | None,
        response: Any,
        report: Report,
    ) -> None:
        """Call every hook with a search that was answered."""
        if self._hooks:
            self._call(self._hooks, SearchDetails(indices, report))
        if self._of_answers:
            self._call(self._of_answers, Answered(arguments, subject, response, report))

    def failed(self, indices: tuple[str, ...], error: BaseException, after_ms: float) -> None:
        """Call the hooks that want to know where the caller's own search raised. One that was cancelled did not fail."""
        if self._of_failures and isinstance(error, Exception):
            self._call(self._of_failures, BaselineFailure(indices, type(error).__name__, after_ms))

    def _call(self, hooks: Iterable[Callable[[Any], object]], one: object) -> None:
        for hook in hooks:
            try:
                hook(one)
            except Exception:  # noqa: BLE001  a hook is somebody else's code, and the search is done
                self.errors += 1


def _methods(hooks: Iterable[Hook], name: str) -> tuple[Callable[[Any], object], ...]:
    return tuple(method for hook in hooks if callable(method := getattr(hook, name, None)))
