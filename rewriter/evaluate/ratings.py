"""Ratings by query: the form of judgments of search workbenches, which judge queries and not people. Pure.

CSV with the columns query, docid and rating is what Quepid exports and imports (`show.basic.csv.erb` and the ratings import of
https://github.com/o19s/quepid), and OpenSearch Dashboards imports it as a judgment list
(https://github.com/opensearch-project/dashboards-search-relevance/pull/715). A line with a query alone is an unrated query.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rewriter.errors import ConfigurationError, Fault, raise_faults
from rewriter.evaluate.judged import MAX_GRADE, JudgedSearch, wrong_grades
from rewriter.subject import Subject

HEADER = ("query", "docid", "rating")
UNRATED = "queries without ratings"
WITHOUT_RELEVANT = "queries without a relevant document"

Grades = dict[str, dict[str, float]]
"""Grade by document, by query."""


@dataclass(slots=True)
class Ratings:
    """Grades by query, in the order of the file, and the number left out by reason.

    merged: the number of queries that stand for several searches. notes: numbers of searches that an export changed, by reason.
    """

    grades: Grades = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    merged: int = 0
    notes: Counter[str] = field(default_factory=Counter)


def merged(searches: Iterable[JudgedSearch]) -> Ratings:
    """Return ratings of queries: a document's mean grade over all searches for the same words, 0 where it is not relevant.

    Searches without words, which only have a body, are left out and counted.
    """
    found, counts = Ratings(), Counter[str]()
    for one in searches:
        if not one.query:
            found.left_out["searches without words"] += 1
            continue
        counts[one.query] += 1
        grades = found.grades.setdefault(one.query, {})
        for document, grade in one.relevant.items():
            grades[document] = grades.get(document, 0.0) + grade
    for words, grades in found.grades.items():
        found.grades[words] = {document: grade / counts[words] for document, grade in grades.items()}
    found.merged = sum(count > 1 for count in counts.values())
    return found


def csv_of(grades: Mapping[str, Mapping[str, float]]) -> str:
    """Return ratings as CSV. Texts that a spreadsheet would take for a formula are not changed: they are ids and queries."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for words, ratings in grades.items():
        writer.writerows((words, document, number(grade)) for document, grade in ratings.items())
    return text.getvalue()


def number(grade: float) -> str:
    """Return a grade with three digits at most: 1, 0.5, 0.333."""
    return f"{grade:.3f}".rstrip("0").rstrip(".")


def read_csv(text: str, where: str) -> Ratings:
    """Return the ratings in a CSV. Raises ConfigurationError with the faults of all its lines; `where` names the file."""
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = next(rows, [])
    if tuple(one.strip().lower() for one in header) != HEADER:
        raise ConfigurationError([Fault(f"{where}:1", f"its columns are not {','.join(HEADER)}")])
    found, faults, rated = Ratings(), list[Fault](), set[str]()
    for row in rows:
        if not any(row):
            continue
        words, document, rating = (*(one.strip() for one in row), "", "", "")[:3]
        if len(row) > len(HEADER) or not words:
            faults.append(
                Fault(f"{where}:{rows.line_num}", "is not query,docid,rating", "quote texts that hold commas")
            )
        elif not document and not rating:
            found.grades.setdefault(words, {})
        elif (grade := grade_of(rating)) is None or not document:
            faults.append(
                Fault(
                    f"{where}:{rows.line_num}",
                    f"its rating is not a number in [0, {MAX_GRADE:g}], or its docid is empty",
                )
            )
        else:
            rated.add(words)
            found.grades.setdefault(words, {})[document] = grade
    raise_faults(faults, where)
    return found


def grade_of(rating: object) -> float | None:
    """Return a rating as a grade, None if it is not a number. Workbenches write numbers as texts."""
    if isinstance(rating, bool) or not isinstance(rating, (int, float, str)):
        return None
    try:
        grade = float(rating)
    except ValueError:
        return None
    return grade if 0.0 <= grade <= MAX_GRADE else None


def searches_of(
    ratings: Ratings, people: Mapping[str, Sequence[tuple[str, str]]] | None = None
) -> tuple[list[JudgedSearch], Counter[str]]:
    """Return judged searches of ratings, and the number left out by reason.

    people: by query, the (person, segment) of each search for it, "" for none. Any other query is one search of an unknown person.
    """
    left_out = Counter(ratings.left_out)
    found: list[JudgedSearch] = []
    for at, (words, grades) in enumerate(ratings.grades.items(), 1):
        if wrong_grades(grades):
            left_out[WITHOUT_RELEVANT if grades else UNRATED] += 1
            continue
        for copy, (person, segment) in enumerate((people or {}).get(words) or [("", "")]):
            subject = Subject(person or f"nobody-{at}", segments=(segment,) if segment else ())
            name = f"{at}" if copy == 0 else f"{at}.{copy + 1}"
            found.append(JudgedSearch(name, subject, words, grades, segment=segment))
    return found, left_out
