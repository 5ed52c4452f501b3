"""The sources that the background reads, and which of them failed when they were last read.

A round is a generator that yields `Call`s; `Sources.asked` yields one for it and notes how it went. A source that fails keeps its
last good value, and `status()` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Call:
    """Something only a shell can do: one call of the store or of the search client."""

    what: Literal["text", "mapping", "settings", "announce"]
    arguments: tuple[Any, ...] = ()


def _nobody(error: Exception | None) -> None:
    """Nobody wants to know."""


class Sources:
    """`errors` names each source that failed when it was last read, with the error's type.

    answered: called after each call of a store with what it raised, or None.
    """

    def __init__(self, answered: Callable[[Exception | None], None] = _nobody) -> None:
        self.errors: dict[str, str] = {}
        self._answered = answered

    def read(self, source: str, call: Call) -> Generator[Call, Any, Any]:
        """Yield one call and return its answer, or None where it raised; `errors` tells which."""
        try:
            answer = yield call
        except Exception as error:  # noqa: BLE001  a source that fails keeps its last good value
            self.errors[source] = type(error).__name__
            self._answered(error)
            return None
        self.errors.pop(source, None)
        self._answered(None)
        return answer
