"""Journal: rate-limited log lines about state changes, so that a flapping part cannot flood the log.

Breakers, quarantine and readers note a change under a topic; a background round writes the lines. A topic writes `BURST` lines per
`PERIOD_S`. Further changes are counted; when the period is over, one line reports their number and the latest of them. The number
of topics grows with breakers, stores and policies, never with subjects, bodies or indices.

A server's error message goes through `redacted` first, since it quotes values of documents, queries and subjects.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock
from typing import Literal, NamedTuple

from rewriter.plural import count_of

BURST = 3
PERIOD_S = 60.0
MAX_TOPICS = 256
MAX_CAUSE_CHARS = 300

Level = Literal["warning", "info"]


class Line(NamedTuple):
    """One line of the log."""

    level: Level
    text: str


@dataclass(slots=True)
class _Topic:
    since_s: float
    written: int = 0
    held_back: int = 0
    latest: Line | None = None


class Journal:
    """The pending log lines. Methods are called from many threads; time is an argument (monotonic seconds).

    The journal writes nothing itself: a background round writes the lines that `drain` returns.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._topics: dict[str, _Topic] = {}
        self._lines: deque[Line] = deque(maxlen=MAX_TOPICS * BURST)

    def note(self, topic: str, text: str, now_s: float, level: Level = "warning") -> None:
        """Note a change under `topic`. `text` must contain no identifier, no query text and no secret."""
        with self._lock:
            found = self._topics.get(topic)
            if found is None:
                if len(self._topics) >= MAX_TOPICS:
                    topic, text = "others", f"{topic}: {text}"
                found = self._topics.setdefault(topic, _Topic(now_s))
            self._turn(topic, found, now_s)
            line = Line(level, text)
            if found.written < BURST:
                found.written += 1
                self._lines.append(line)
            else:
                found.held_back += 1
                found.latest = line

    def drain(self, now_s: float) -> list[Line]:
        """Return the pending lines and remove them."""
        with self._lock:
            for topic, found in list(self._topics.items()):
                self._turn(topic, found, now_s)
            lines = list(self._lines)
            self._lines.clear()
            return lines

    def _turn(self, topic: str, found: _Topic, now_s: float) -> None:
        """Begin a new period if the old one is over, with a line about the changes that it held back."""
        if now_s - found.since_s < PERIOD_S:
            return
        if found.latest is not None:
            more = f"{topic}: {count_of(found.held_back, 'more such change')} in {now_s - found.since_s:.0f} s, the latest: "
            self._lines.append(Line(found.latest.level, more + found.latest.text))
        found.since_s, found.written, found.held_back, found.latest = now_s, 0, 0, None


_QUOTED = re.compile(r"\[[^\[\]]*\]|\"[^\"]*\"|(?<!\w)'[^']*'|`[^`]*`|<[^<>]*>|(?<=: )[^\s:\[\"'`<]+$")
_OPEN = re.compile(r"\"[^\"]*$|\[[^\]]*$|(?<!\w)'[^']*$")
_INDEX_SETTING = re.compile(r"[\"'\[]?index\.[a-z_.]+[\"'\]]?")


def redacted(text: str, names: Collection[str] = ()) -> str:
    """Return a server's or a template's message with "…" for every value in brackets or quotation marks, or after the last colon.

    names: texts to keep, such as document fields, which the operator wrote.
    Index settings are kept too. In a message with such a setting numbers are kept as well, since it is about a limit.
    """
    of_a_limit = _INDEX_SETTING.search(text) is not None

    def kept(match: re.Match[str]) -> str:
        quoted = match[0]
        inner = quoted[1:-1] if quoted[0] in "[\"'`<" else quoted
        known = inner in names or _INDEX_SETTING.fullmatch(inner) or (of_a_limit and inner.isdecimal())
        return quoted if known else "…"

    text = " ".join(text.split())
    for _ in range(4):  # brackets within brackets
        text = _QUOTED.sub(kept, text)
    # After an unbalanced quotation mark, the message cannot be separated from a quoted value.
    cut = _OPEN.search(text)
    return (text[: cut.start()] + "…" if cut else text)[:MAX_CAUSE_CHARS]
