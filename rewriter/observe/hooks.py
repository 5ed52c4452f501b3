"""Hooks: objects of the application that receive one frozen object after each search.

A hook is called with SearchDetails. Its method `baseline_failed`, if it has one, is called if the caller's own search raised. Its
method `answered`, if it has one, also receives the answer and the subject, for records that need them (see `ubi`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rewriter.expression import parsed_indices
from rewriter.report import Report
from rewriter.subject import Subject


@dataclass(frozen=True, slots=True)
class SearchDetails:
    """One search, for a hook: the names of the indices that were searched, and the report. Nothing in it identifies a person."""

    indices: tuple[str, ...]
    report: Report


@dataclass(frozen=True, slots=True)
class BaselineFailure:
    """A search of the caller that failed: the class name of its error, and its duration. The caller receives the error itself.

    For a search of a batch that the server answered with an error: the type of the server's error.
    """

    indices: tuple[str, ...]
    error: str
    after_ms: float


@dataclass(frozen=True, slots=True, repr=False)
class Answered:
    """One search with its arguments, subject, response and report. It holds identifiers, which the hook must protect.

    `arguments` and `response` are the caller's own objects. The caller may change them once the hook has returned, so copy the
    parts that are needed later.
    """

    arguments: Mapping[str, Any]
    subject: Subject | None
    response: Any
    report: Report


class Hook(Protocol):
    """A function that is called after each search, on the search's own thread or task.

    It must be quick. Its errors are suppressed, and counted in `status().hook_errors`.
    """

    def __call__(self, details: SearchDetails, /) -> object:
        """Receive one search."""


class Hooks:
    """The hooks of a rewriter. `errors` counts the exceptions that they raised, for `status()`."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(hooks)
        self._of_failures = _methods(self._hooks, "baseline_failed")
        self._of_answers = _methods(self._hooks, "answered")
        self.errors = 0

    def finished(self, arguments: Mapping[str, Any], subject: Subject | None, response: Any, report: Report) -> None:
        """Call every hook with a search that was answered."""
        if self._hooks:
            self._call(self._hooks, SearchDetails(_indices(arguments), report))
        if self._of_answers:
            self._call(self._of_answers, Answered(arguments, subject, response, report))

    def failed(self, arguments: Mapping[str, Any], error: BaseException, after_ms: float) -> None:
        """Call the hooks with a method `baseline_failed`, if `error` is an Exception. A cancelled search did not fail."""
        if isinstance(error, Exception):
            self._failed(arguments, type(error).__name__, after_ms)

    def of_batch(
        self,
        arguments: Mapping[str, Any],
        subject: Subject | None,
        response: Any,
        report: Report,
        error: str,
        after_ms: float,
    ) -> None:
        """Call the hooks with a search of a batch that was not personalized. error: the type of the server's error, "" if none."""
        if error:
            self._failed(arguments, error, after_ms)
        else:
            self.finished(arguments, subject, response, report)

    def _failed(self, arguments: Mapping[str, Any], error: str, after_ms: float) -> None:
        if self._of_failures:
            self._call(self._of_failures, BaselineFailure(_indices(arguments), error, after_ms))

    def _call(self, hooks: Iterable[Callable[[Any], object]], one: object) -> None:
        for hook in hooks:
            try:
                hook(one)
            except Exception:  # noqa: BLE001  an error of the application's hook must not fail the search
                self.errors += 1


def _methods(hooks: Iterable[Hook], name: str) -> tuple[Callable[[Any], object], ...]:
    return tuple(method for hook in hooks if callable(method := getattr(hook, name, None)))


def _indices(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    return parsed_indices(arguments.get("index"))
