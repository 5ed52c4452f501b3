"""Sources that the background reads: the steps that read them, and which of them failed when it was last read.

A round is a generator that yields background steps and is sent their results. A source that fails keeps its last good value, and
`status()` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from rewriter.signals.store_failures import described


@dataclass(frozen=True, slots=True)
class ReadTexts:
    """Read the texts under several keys of the store together; the result is each key's text, None or exception, in their order."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Write this process's report into the store: `text` under `name` in the hash `key`, at `now_s` (seconds since the epoch)."""

    key: str
    name: str
    text: str
    now_s: float


@dataclass(frozen=True, slots=True)
class GetMapping:
    """Read the mappings of an index expression. params: of the URL."""

    index: str
    params: Mapping[str, Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class GetSettings:
    """Read settings of an index expression. names: of the settings, separated by commas. params: of the URL."""

    index: str
    names: str
    params: Mapping[str, Any]
    timeout_s: float


BackgroundStep = ReadTexts | Announce | GetMapping | GetSettings


def _ignore(error: Exception | None) -> None:
    """Ignore the outcome of a step."""


class Sources:
    """The sources of one rewriter. `errors` maps each source whose last read failed to the error as text.

    answered: called with the exception that a step raised, and with None after a step while every source's last one went well. So a
              store that answers reads and refuses writes does not answer again with each read.
    """

    def __init__(self, answered: Callable[[Exception | None], None] = _ignore) -> None:
        self.errors: dict[str, str] = {}
        self._answered = answered
        self._failing: set[str] = set()

    def read(self, source: str, step: BackgroundStep) -> Generator[BackgroundStep, Any, Any]:
        """Yield one step and return its result; None if it raised, with the error as text in `errors[source]`."""
        try:
            answer = yield step
        except Exception as error:  # noqa: BLE001  a source that fails keeps its last good value
            self._noted(source, error)
            return None
        self._noted(source, None)
        return answer

    def read_texts(self, keys: Mapping[str, str]) -> Generator[BackgroundStep, Any, dict[str, str | None]]:
        """Yield one step for the keys of several sources, and return the text of each source; None for one that failed."""
        try:
            answers = yield ReadTexts(tuple(keys.values()))
        except Exception as failure:  # noqa: BLE001  as above
            answers = [failure] * len(keys)
        found: dict[str, str | None] = {}
        for source, answer in zip(keys, answers, strict=True):
            failed = answer if isinstance(answer, Exception) else None
            self._noted(source, failed)
            found[source] = None if failed else answer
        return found

    def _noted(self, source: str, error: Exception | None) -> None:
        if error is None:
            self.errors.pop(source, None)
            self._failing.discard(source)
        else:
            self.errors[source] = described(error, quotes=False)
            self._failing.add(source)
        if error is not None or not self._failing:
            self._answered(error)
