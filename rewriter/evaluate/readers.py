"""Readers of judged searches: NDJSON, and TREC qrels with a file of queries. All faults of a file are reported at once.

NDJSON has the form of `search_lines`, with `relevant`: a list of ids, or an object of grades by id. `timestamp` is ISO 8601, or
seconds since the epoch; a search without it has the signals of the whole history.

TREC qrels: `QUERY 0 DOCUMENT GRADE`; the queries are NDJSON as above, with `id` and without `relevant`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault, raise_faults
from rewriter.evaluate.judged import JudgedSearch, wrong_grades
from rewriter.evaluate.search_lines import SearchLine, Wrong, numbered_lines, search_line
from rewriter.signals.backfill.history import seconds_of


@dataclass(slots=True)
class JudgedFile:
    """The searches of a file, and the number left out by reason."""

    searches: list[JudgedSearch]
    left_out: Counter[str] = field(default_factory=Counter)


def read_judged(path: Path) -> JudgedFile:
    """Read judged searches as NDJSON. Raises ConfigurationError with the faults of its lines."""
    searches: list[JudgedSearch] = []
    faults: list[Fault] = []
    for number, line in numbered_lines(path):
        wrong: Wrong = []
        one = search_line(number, line, wrong)
        found = None if one is None else _judged(one, one.judgment.get("relevant"), wrong)
        faults += _placed(path, number, wrong)
        if found is not None:
            searches.append(found)
    return JudgedFile(_sound(path, searches, faults))


def read_qrels(qrels: Path, queries: Path) -> JudgedFile:
    """Read TREC qrels and their queries. Queries without judgments, and judgments of unknown queries, are left out and counted."""
    faults: list[Fault] = []
    grades: dict[str, dict[str, float]] = {}
    for number, line in numbered_lines(qrels):
        parts = line.split()
        try:
            query, _, document, grade = parts
            grades.setdefault(query, {})[document] = max(0.0, float(int(grade)))  # TREC marks junk by negative grades
        except ValueError:
            faults.append(Fault(f"{qrels}:{number}", "is not QUERY 0 DOCUMENT GRADE, the grade a whole number"))
    searches: list[JudgedSearch] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    for number, line in numbered_lines(queries):
        wrong: Wrong = []
        one = search_line(number, line, wrong)
        if one is not None:
            name = str(one.judgment.get("id", ""))
            if not name:
                wrong.append(("has no `id`, which the qrels name", ""))
            elif name in seen:
                wrong.append(("its `id` is another line's too", ""))
            elif not any(grade > 0 for grade in grades.get(name, {}).values()):
                left_out["queries without a relevant document"] += 1
            elif (found := _judged(one, grades[name], wrong)) is not None:
                searches.append(found)
            seen.add(name)
        faults += _placed(queries, number, wrong)
    left_out["judged queries that the queries' file lacks"] += sum(name not in seen for name in grades)
    return JudgedFile(_sound(qrels, searches, faults), +left_out)


def _judged(one: SearchLine, relevant: Any, wrong: Wrong) -> JudgedSearch | None:
    """Return a line as a judged search; None if it is unsound, with its faults added to `wrong`."""
    before = len(wrong)
    if isinstance(relevant, list):
        relevant = {name if isinstance(name, str) else str(name): 1.0 for name in relevant}
    if not isinstance(relevant, Mapping):
        wrong.append(("`relevant` is neither a list of ids nor grades by id", ""))
    else:
        wrong += [(what, "") for what in wrong_grades(relevant)]
    if one.body is None and not one.words:
        wrong.append(("has neither `query` nor `body`", ""))
    if one.body is not None and "query" not in one.body:
        wrong.append(("`body` is not a search body with a query", ""))
    if one.subject.unit is None:
        wrong.append(("has no `user_id`, `client_id` or `session_id`", ""))
    at_s: float | None = None
    try:
        at_s = _time_of(one.judgment.get("timestamp"))
    except (ValueError, TypeError, OverflowError):
        wrong.append(("`timestamp` is not a time: ISO 8601, or seconds since the epoch", ""))
    if len(wrong) > before or not isinstance(relevant, Mapping):
        return None
    grades = {str(name): float(grade) for name, grade in relevant.items()}
    segment = str(one.judgment.get("segment", ""))
    return JudgedSearch(str(one.number), one.subject, one.words, grades, at_s, one.body, one.index, segment)


def _time_of(stamp: Any) -> float | None:
    """Return a time in seconds since the epoch, None for None. Raises ValueError, TypeError or OverflowError."""
    if stamp is None:
        return None
    if isinstance(stamp, bool):
        raise TypeError(stamp)
    at_s = float(stamp) if isinstance(stamp, (int, float)) else seconds_of(stamp)
    if not isfinite(at_s):
        raise ValueError(at_s)
    return at_s


def _placed(path: Path, number: int, wrong: Wrong) -> list[Fault]:
    return [Fault(f"{path}:{number}", what, remedy) for what, remedy in wrong]


def _sound(path: Path, searches: list[JudgedSearch], faults: list[Fault]) -> list[JudgedSearch]:
    raise_faults(faults, str(path))
    if not searches:
        raise ConfigurationError([Fault(str(path), "holds no judged search")])
    return searches
