"""The exceptions that this library raises on purpose.

    RewriterError
    ├── ConfigurationError   settings, a template, a sample or an index is wrong. Raised at start, never by a search.
    └── StoreError           the signal store refused or failed. The shells catch it; a search's caller never sees it.
        └── AnswerTooLargeError   the store's answer exceeded the byte limit of a read and was cut off.

A search raises only what the wrapped client raised for the caller's own query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewriter.plural import count_of

FAULTS_SHOWN = 20


class RewriterError(Exception):
    """The base class of all exceptions of this library."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `where` it is (a file and line, a field), `what` is wrong, and the `remedy`."""

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.remedy})" if self.remedy else "")


class ConfigurationError(RewriterError):
    """All faults of one input, reported together.

    `faults` is never empty; the message has one line for each fault.
    """

    def __init__(self, faults: list[Fault] | tuple[Fault, ...]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def raise_faults(faults: Sequence[Fault], where: str) -> None:
    """Raise ConfigurationError with the first 20 faults of a file, `where`, and the number of the others, if there are any."""
    if faults:
        more = len(faults) - FAULTS_SHOWN
        rest = [Fault(where, f"and {count_of(more, 'more fault')}")] if more > 0 else []
        raise ConfigurationError([*faults[:FAULTS_SHOWN], *rest])


class StoreError(RewriterError):
    """The store refused a command, or its answer cannot be parsed. source: what a command names as the cause."""

    source = "store"


class AnswerTooLargeError(StoreError):
    """The store's answer exceeded the byte limit of a read; the rest was not received."""
