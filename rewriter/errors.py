"""Everything this library raises on purpose.

    RewriterError
    ├── ConfigurationError   what was given is wrong: settings, a template, a sample, an index. Raised at start, never by a search.
    └── StoreError           the signal store could not do what was asked. Caught by the shells, never seen by a search's caller.
        └── AnswerTooLargeError   it answered more than a read may take, and was cut off.

A search raises only what the wrapped client raised for the caller's own query.
"""

from __future__ import annotations

from dataclasses import dataclass


class RewriterError(Exception):
    """The root of all errors of this library."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where it stands, what it is, and what to do about it."""

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.remedy})" if self.remedy else "")


class ConfigurationError(RewriterError):
    """One or more faults in what was given, all of them at once.

    `faults` is never empty; the message has one line for each.
    """

    def __init__(self, faults: list[Fault] | tuple[Fault, ...]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


class StoreError(RewriterError):
    """The store refused, or answered something that cannot be read."""


class AnswerTooLargeError(StoreError):
    """The store answered more bytes than a read may take; the rest was not received."""
