"""Exchange with Quepid (https://github.com/o19s/quepid): ratings as CSV, and the JSON export of a case. Pure.

The import of Quepid's interface cuts a line at its commas, even within quotation marks
(`import_ratings_modal_instance_controller.js`), so commas in queries are written as blanks. A case is exported by
`app/views/api/v1/export/cases`: `queries`, each with `query_text` and `ratings` by document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rewriter.errors import ConfigurationError, Fault, raise_faults
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.ratings import Grades, Ratings, csv_of, grade_of, merged, read_csv

COMMA = "documents whose id has a comma, which Quepid cannot import"


def exported(searches: Sequence[JudgedSearch]) -> tuple[dict[str, str], Ratings]:
    """Return the files of an export by name, and the ratings in them. Documents with a comma in their id are left out."""
    ratings = merged(searches)
    plain: Grades = {}
    for words, grades in ratings.grades.items():
        own = plain.setdefault(" ".join(words.replace(",", " ").replace('"', " ").split()), {})
        for document, grade in grades.items():
            if set(document) & set(',"\n\r'):
                ratings.left_out[COMMA] += 1
            else:
                own[document] = max(grade, own.get(document, 0.0))
    ratings.grades = {words: grades for words, grades in plain.items() if words}
    return {"ratings.csv": csv_of(ratings.grades)}, ratings


def read(text: str, where: str) -> Ratings:
    """Return the ratings in a CSV export, or in the JSON export of a case. Raises ConfigurationError with every fault."""
    if not text.removeprefix("\ufeff").lstrip().startswith("{"):
        return read_csv(text, where)
    try:
        case = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise ConfigurationError([Fault(where, "is not JSON")]) from None
    queries = case.get("queries")
    if not isinstance(queries, list):
        raise ConfigurationError([Fault(where, "holds no `queries`", "export a case, or its ratings as CSV")])
    found, faults = Ratings(), list[Fault]()
    for at, one in enumerate(queries):
        words = one.get("query_text") if isinstance(one, Mapping) else None
        ratings = (one.get("ratings") or {}) if isinstance(one, Mapping) else None
        if not isinstance(words, str) or not words or not isinstance(ratings, Mapping):
            faults.append(Fault(where, f"queries[{at}] has no `query_text`, or its `ratings` are not by document"))
            continue
        grades = found.grades.setdefault(words, {})
        for document, rating in ratings.items():
            if rating is None:
                continue  # a document that a person viewed and did not rate
            if (grade := grade_of(rating)) is None or not document:
                faults.append(Fault(where, f"queries[{at}] has a rating that is not a number"))
            else:
                grades[document] = grade
    raise_faults(faults, where)
    return found
