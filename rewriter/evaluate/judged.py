"""Judged searches: searches whose relevant documents are known, with the subject who searched and the time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewriter.plural import count_of
from rewriter.subject import Subject

MAX_GRADE = 100.0


@dataclass(frozen=True, slots=True)
class JudgedSearch:
    """One judged search.

    search_id: unique within a run: a TREC query's id, or file and line. It holds no identifier of a person.
    subject:   the person who searched, under the ids of the history's events.
    query:     the search's words, "" if only `body` is known.
    relevant:  grade by document `_id`, in [0, MAX_GRADE]; 0 is judged and not relevant. A missing document is not judged.
    at_s:      the time of the search (seconds since the epoch), None if unknown: signals then hold all of the history.
    body:      the search body, or None if a template makes it from `query`.
    index:     the index that was searched, or None for the policy's.
    segment:   a name by which results are grouped besides the slices of the report, or "".
    """

    search_id: str
    subject: Subject
    query: str
    relevant: Mapping[str, float]
    at_s: float | None = None
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    index: str | None = None
    segment: str = ""

    @property
    def positive(self) -> frozenset[str]:
        """The ids of the documents with a grade above 0."""
        return frozenset(one for one, grade in self.relevant.items() if grade > 0.0)


def wrong_grades(relevant: Mapping[str, Any]) -> list[str]:
    """Return the faults of a search's grades, without their ids."""
    unsound = sum(not _is_grade(grade) for grade in relevant.values())
    faults = [f"{count_of(unsound, 'grade', 'are')} not in [0, {MAX_GRADE:g}]"] if unsound else []
    if not unsound and not any(grade > 0 for grade in relevant.values()):
        faults.append("no document is relevant")
    if "" in relevant:
        faults.append("an id is empty")
    return faults


def only(search: JudgedSearch, ids: Collection[str]) -> dict[str, float]:
    """Return the grades of the relevant documents among `ids`."""
    return {one: grade for one, grade in search.relevant.items() if one in ids}


def _is_grade(grade: Any) -> bool:
    return (
        isinstance(grade, (int, float))
        and not isinstance(grade, bool)
        and 0.0 <= grade <= MAX_GRADE  # of nan false, and no conversion of an integer beyond a float
    )
