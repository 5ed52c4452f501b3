"""What leaves: one frozen details object for each search, handed to whoever asked for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rewriter.report import Report


@dataclass(frozen=True, slots=True)
class SearchDetails:
    """One search, for a hook: what was asked of which indices, and the report. Nothing in it identifies anybody."""

    indices: tuple[str, ...]
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
        self.errors = 0

    def tell(self, indices: tuple[str, ...], report: Report) -> None:
        """Call every hook."""
        for hook in self._hooks:
            try:
                hook(SearchDetails(indices, report))
            except Exception:  # noqa: BLE001  a hook is somebody else's code, and the search is done
                self.errors += 1
