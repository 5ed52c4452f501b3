"""The sources that the background reads, and which of them failed when they were last read.

A round is a generator that yields `Call`s; `Sources.asked` yields one for it and notes how it went. A source that fails keeps its
last good value, and `status()` names it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Call:
    """Something only a shell can do: one call of the store or of the search client."""

    what: Literal["text", "mapping", "settings", "announce"]
    arguments: tuple[Any, ...] = ()


class Sources:
    """`errors` names each source that failed when it was last read, with the error's type."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def asked(self, source: str, call: Call) -> Generator[Call, Any, Any]:
        """Yield one call and return its answer, or None where it raised; `errors` tells which."""
        try:
            answer = yield call
        except Exception as error:  # noqa: BLE001  a source that fails keeps its last good value
            self.errors[source] = type(error).__name__
            return None
        self.errors.pop(source, None)
        return answer
