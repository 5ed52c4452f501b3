"""Logged searches, the input of a diff. Files of judged searches have the same form; a diff does not read their judgments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault, raise_faults
from rewriter.evaluate.search_lines import Wrong, numbered_lines, search_line
from rewriter.subject import Subject

Template = Callable[[str], Mapping[str, Any]]
"""Returns the body for words."""


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


def read_logged(path: Path, template: Template | None) -> list[LoggedSearch]:
    """Return the searches of a file. `template` returns the body for words; None without a search template.

    Raises ConfigurationError with the faults of all lines, none of which quotes an identifier.
    """
    faults: list[Fault] = []
    found: list[LoggedSearch] = []
    for number, line in numbered_lines(path):
        wrong: Wrong = []
        one = _search(number, line, template, wrong)
        faults += [Fault(f"{path}:{number}", what, remedy) for what, remedy in wrong]
        if one is not None:
            found.append(one)
    raise_faults(faults, str(path))
    if not found:
        raise ConfigurationError([Fault(str(path), "holds no search")])
    return found


def _search(number: int, line: str, template: Template | None, wrong: Wrong) -> LoggedSearch | None:
    one = search_line(number, line, wrong)
    if one is None:
        return None
    if not one.subject.known:
        wrong.append(("names nobody", "give user_id, client_id, session_id or segments"))
    body = one.body
    if body is None and one.words and template is not None:
        body = template(one.words)
    if body is None:
        if one.words:
            wrong.append(("has no `body`", "with `query` alone, give --body: a search template in Mustache"))
        else:
            wrong.append(("has neither `query` nor `body`" if template is not None else "has no `body`", ""))
    if wrong or body is None:
        return None
    return LoggedSearch(number, one.subject, one.words, body, one.index)
