"""Logged searches, the input of a diff: NDJSON with one search and its subject per line.

    {"user_id": "u1", "session_id": "s1", "segments": ["vip"], "index": "products", "body": {"query": {…}}}
    {"client_id": "u1", "query": "milk"}

`client_id` may replace `user_id`, and with a search template `query` may replace `body`. Files of judged searches have this form
too; their other keys are not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.subject import Subject

SHOWN = 20
NOT_READ = frozenset({"id", "timestamp", "relevant", "segment"})
KEYS = frozenset({"user_id", "client_id", "session_id", "segments", "query", "body", "index"}) | NOT_READ


@dataclass(frozen=True, slots=True)
class LoggedSearch:
    """One search: its line in the file, its subject, words (or "") and body, and its index or None."""

    line: int
    subject: Subject = field(repr=False)
    words: str
    body: Mapping[str, Any] = field(repr=False)
    index: str | None

    @property
    def first_page(self) -> bool:
        """Whether it requests a first page: a later page continues a list, which a diff does not keep."""
        return not self.body.get("from")


def read_logged(path: Path, template: Callable[[str], Mapping[str, Any]] | None) -> list[LoggedSearch]:
    """Return the searches of a file. `template` returns the body for words; None without a search template.

    Raises ConfigurationError with the faults of all lines, none of which quotes an identifier.
    """
    try:
        text = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(str(path), f"cannot be read: {error}")]) from None
    faults: list[Fault] = []
    found: list[LoggedSearch] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            wrong: Wrong = []
            one = _search(number, line, template, wrong)
            faults += [Fault(f"{path}:{number}", what, remedy) for what, remedy in wrong]
            if one is not None:
                found.append(one)
    if faults:
        more = [Fault(str(path), f"and {len(faults) - SHOWN:,} more faults")] if len(faults) > SHOWN else []
        raise ConfigurationError([*faults[:SHOWN], *more])
    if not found:
        raise ConfigurationError([Fault(str(path), "holds no search")])
    return found


Wrong = list[tuple[str, str]]


def _search(
    number: int, line: str, template: Callable[[str], Mapping[str, Any]] | None, wrong: Wrong
) -> LoggedSearch | None:
    try:
        one = json.loads(line)
    except (ValueError, RecursionError):
        one = None
    if not isinstance(one, dict):
        wrong.append(("is not a JSON object", ""))
        return None
    wrong += _odd_keys(one)
    subject = _subject(one, wrong)
    words, body, index = one.get("query") or "", one.get("body"), one.get("index")
    if not isinstance(words, str) or not (index is None or isinstance(index, str)):
        wrong.append(("`query` and `index` are texts", ""))
    elif body is None and words and template is not None:
        body = template(words)
    elif body is None:
        wrong.append(
            ("has no `body`", "with `query` alone, give --body: a search template in Mustache" if words else "")
        )
    if body is not None and not (isinstance(body, Mapping) and isinstance(body.get("from", 0), int)):
        wrong.append(("`body` is not a search body", ""))
    if wrong or subject is None or body is None:
        return None
    return LoggedSearch(number, subject, words, body, index)


def _odd_keys(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if unknown := sorted(set(one) - KEYS):
        yield (
            f"unknown keys: {', '.join(name[:40] for name in unknown[:5])}",
            f"there are {', '.join(sorted(KEYS - NOT_READ))}",
        )


def _subject(one: Mapping[str, Any], wrong: Wrong) -> Subject | None:
    segments = one.get("segments") or ()
    try:
        ids = one.get("user_id") or one.get("client_id") or None, one.get("session_id") or None
        subject = Subject(*ids, tuple(segments) if isinstance(segments, list) else segments)
    except (ValueError, TypeError) as error:
        wrong.append((f"its subject is wrong: {error}", ""))
        return None
    if not subject.known:
        wrong.append(("names nobody", "give user_id, client_id, session_id or segments"))
    return subject
