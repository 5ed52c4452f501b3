"""Readers of judged searches: NDJSON, and TREC qrels with a file of queries. All faults of a file are reported at once.

NDJSON, one search per line:
    {"user_id": "u1", "query": "milk", "timestamp": "2026-05-01T10:00:00Z", "relevant": ["p1", "p2"]}
`relevant` is a list of ids, or an object of grades by id. `client_id` may replace `user_id`; `session_id`, `segments`, `body` (a
search body), `index` and `id` are optional. A search without `timestamp` has the signals of the whole history.

TREC qrels: `QUERY 0 DOCUMENT GRADE`; the queries are NDJSON as above, with `id` and without `relevant`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.judged import JudgedSearch, wrong_grades
from rewriter.signals.backfill.history import seconds_of
from rewriter.subject import Subject

SHOWN = 20
KEYS = frozenset(
    {
        "id",
        "user_id",
        "client_id",
        "session_id",
        "segments",
        "query",
        "timestamp",
        "relevant",
        "body",
        "index",
        "segment",
    }
)


@dataclass(slots=True)
class JudgedFile:
    """The searches of a file, and the number left out by reason."""

    searches: list[JudgedSearch]
    left_out: Counter[str] = field(default_factory=Counter)


def read_judged(path: Path) -> JudgedFile:
    """Read judged searches as NDJSON. Raises ConfigurationError with the faults of its lines."""
    searches: list[JudgedSearch] = []
    faults: list[Fault] = []
    for number, line in _lines(path):
        where = f"{path}:{number}"
        one = _parsed(line, where, faults)
        if one is not None and (found := _search(one, where, faults, one.get("relevant"), str(number))) is not None:
            searches.append(found)
    return JudgedFile(_sound(path, searches, faults))


def read_qrels(qrels: Path, queries: Path) -> JudgedFile:
    """Read TREC qrels and their queries. Queries without judgments, and judgments of unknown queries, are left out and counted."""
    faults: list[Fault] = []
    grades: dict[str, dict[str, float]] = {}
    for number, line in _lines(qrels):
        parts = line.split()
        try:
            query, _, document, grade = parts
            grades.setdefault(query, {})[document] = max(0.0, float(int(grade)))  # TREC marks junk by negative grades
        except ValueError:
            faults.append(Fault(f"{qrels}:{number}", "is not QUERY 0 DOCUMENT GRADE, the grade a whole number"))
    searches: list[JudgedSearch] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    for number, line in _lines(queries):
        where = f"{queries}:{number}"
        one = _parsed(line, where, faults)
        if one is None:
            continue
        name = str(one.get("id", ""))
        if not name:
            faults.append(Fault(where, "has no `id`, which the qrels name"))
        elif name in seen:
            faults.append(Fault(where, "its `id` is another line's too"))
        elif not any(grade > 0 for grade in grades.get(name, {}).values()):
            left_out["queries without a relevant document"] += 1
        elif (found := _search(one, where, faults, grades[name], str(number))) is not None:
            searches.append(found)
        seen.add(name)
    left_out["judged queries that the queries' file lacks"] += sum(name not in seen for name in grades)
    return JudgedFile(_sound(qrels, searches, faults), +left_out)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError([Fault(str(path), f"is not UTF-8 at byte {error.start}", "convert it")]) from None
    except OSError as error:
        raise ConfigurationError([Fault(str(path), error.strerror or "cannot be read")]) from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line


def _parsed(line: str, where: str, faults: list[Fault]) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        faults.append(Fault(where, "is not JSON"))
        return None
    if not isinstance(found, dict):
        faults.append(Fault(where, "is JSON, but not an object"))
        return None
    if unknown := sorted(set(found) - KEYS):
        faults.append(
            Fault(where, f"unknown keys: {', '.join(one[:40] for one in unknown[:5])}", ", ".join(sorted(KEYS)))
        )
        return None
    return found


def _search(one: Mapping[str, Any], where: str, faults: list[Fault], relevant: Any, number: str) -> JudgedSearch | None:
    wrong: list[str] = []
    if isinstance(relevant, list):
        relevant = {one if isinstance(one, str) else str(one): 1.0 for one in relevant}
    if not isinstance(relevant, Mapping):
        wrong.append("`relevant` is neither a list of ids nor grades by id")
    else:
        wrong += wrong_grades(relevant)
    query, body = one.get("query", ""), one.get("body")
    if not isinstance(query, str) or (not query.strip() and body is None):
        wrong.append("has neither `query` nor `body`")
    if body is not None and (not isinstance(body, Mapping) or "query" not in body):
        wrong.append("`body` is not a search body with a query")
    at_s: float | None = None
    if (stamp := one.get("timestamp")) is not None:
        try:
            at_s = (
                float(stamp) if isinstance(stamp, (int, float)) and not isinstance(stamp, bool) else seconds_of(stamp)
            )
        except (ValueError, TypeError):
            wrong.append("`timestamp` is not a time: ISO 8601, or seconds since the epoch")
    subject = None
    try:
        segments = one.get("segments", ())
        subject = Subject(
            one.get("user_id") or one.get("client_id") or None, one.get("session_id") or None,
            tuple(segments) if isinstance(segments, list) else segments,
        )  # fmt: skip
    except ValueError as error:
        wrong.append(str(error))
    if subject is not None and subject.unit is None:
        wrong.append("has no `user_id`, `client_id` or `session_id`")
    if wrong or subject is None or not isinstance(relevant, Mapping):
        faults.extend(Fault(where, what) for what in wrong)
        return None
    grades = {str(name): float(grade) for name, grade in relevant.items()}
    return JudgedSearch(
        number, subject, " ".join(query.split()), grades, at_s, body, one.get("index"), str(one.get("segment", ""))
    )  # fmt: skip


def _sound(path: Path, searches: list[JudgedSearch], faults: list[Fault]) -> list[JudgedSearch]:
    if faults:
        more = len(faults) - SHOWN
        rest = [Fault("and", f"{more:,} more faults")] if more > 0 else []
        raise ConfigurationError([*faults[:SHOWN], *rest])
    if not searches:
        raise ConfigurationError([Fault(str(path), "holds no judged search")])
    return searches
