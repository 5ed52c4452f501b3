"""The file form of searches, logged or judged: NDJSON, one search and its subject per line. Read by `diff`, `check` and `evaluate`.

    {"user_id": "u1", "session_id": "s1", "segments": ["vip"], "index": "products", "body": {"query": {…}}}
    {"client_id": "u1", "query": "milk", "timestamp": "2026-05-01T10:00:00Z", "relevant": ["p1", "p2"]}

`client_id` may replace `user_id`, and with a search template `query` may replace `body`. A line ends at a line feed alone, since
JSON allows U+2028 inside a text. A file may be UTF-8, or UTF-16 as some shells write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.subject import Subject

JUDGMENT = frozenset({"id", "timestamp", "relevant", "segment"})
KEYS = frozenset({"user_id", "client_id", "session_id", "segments", "query", "body", "index"}) | JUDGMENT

Wrong = list[tuple[str, str]]
"""The faults of one line: what is wrong, and the remedy or "". None quotes an identifier."""


@dataclass(frozen=True, slots=True)
class SearchLine:
    """One search of a file.

    number:   its line, from 1.
    subject:  the person who searched; a subject without ids and segments is possible.
    words:    the search text, "" if only the body is known.
    body:     the search body, None if only the words are known.
    index:    the index that was searched, or None.
    judgment: the values of the keys `id`, `timestamp`, `relevant` and `segment`, as they were written.
    """

    number: int
    subject: Subject = field(repr=False)
    words: str
    body: Mapping[str, Any] | None = field(repr=False)
    index: str | None
    judgment: Mapping[str, Any] = field(repr=False)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, with their numbers. Raises ConfigurationError if it cannot be read."""
    try:
        text = decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ConfigurationError([Fault(str(path), f"is not UTF-8 at byte {error.start}", "convert it")]) from None
    except OSError as error:
        raise ConfigurationError([Fault(str(path), f"cannot be read: {error.strerror or error}")]) from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def search_line(number: int, text: str, wrong: Wrong) -> SearchLine | None:
    """Return the search of a line; None if it is unsound, with its faults added to `wrong`."""
    try:
        one = json.loads(text)
    except (ValueError, RecursionError):
        one = None
    if not isinstance(one, dict):
        wrong.append(("is not a JSON object", ""))
        return None
    before = len(wrong)
    if unknown := sorted(set(one) - KEYS):
        shown = ", ".join(name[:40] for name in unknown[:5])
        wrong.append((f"unknown keys: {shown}", f"there are {', '.join(sorted(KEYS))}"))
    subject = _subject(one, wrong)
    words, body, index = one.get("query") or "", one.get("body"), one.get("index")
    if not isinstance(words, str) or not (index is None or isinstance(index, str)):
        wrong.append(("`query` and `index` are texts", ""))
    if body is not None and not (isinstance(body, Mapping) and isinstance(body.get("from", 0), int)):
        wrong.append(("`body` is not a search body", ""))
    if len(wrong) > before or subject is None:
        return None
    judgment = {name: one[name] for name in JUDGMENT & set(one)}
    return SearchLine(number, subject, " ".join(words.split()), body, index, judgment)


def _subject(one: Mapping[str, Any], wrong: Wrong) -> Subject | None:
    segments = one.get("segments") or ()
    try:
        return Subject(one.get("user_id") or one.get("client_id") or None, one.get("session_id") or None, segments)
    except (ValueError, TypeError) as error:
        wrong.append((f"its subject is wrong: {error}", ""))
        return None
