"""CSV: the delimiter and the names are those of the first line, and every value is the text that stands there.

Where the names stand between blanks (`timestamp, user_id`), so do the values, and the blanks are none of theirs.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.backfill.columns import SHOWN_LINES, Columns, Lines, document, fill, literal, missing, split

DELIMITERS = ",;\t|"
HEADER_LINES = 100
"""A name may hold line ends, but not that many."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_csv(db: Any, name: str, alias: str, attributes: Collection[str], number: int, lines: Lines) -> None:
    """Read a file into `history`. Raises ConfigurationError."""
    import duckdb  # noqa: PLC0415  an extra

    delimiter, names, is_padded = _header(name)
    twice = [one for one in dict.fromkeys(names) if one and names.count(one) > 1]
    faults = [*missing(name, names), *(Fault(f"{name}:1", f"column {one} is there twice") for one in twice)]
    if faults:
        raise ConfigurationError(faults)
    kinds = ", ".join(f"'c{at}': 'VARCHAR'" for at in range(len(names)))
    source = (
        f"read_csv({literal(alias)}, auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"',"
        f" escape = '\"', columns = {{{kinds}}}, hive_partitioning = false, store_rejects = true)"
    )
    value = "trim(c{})" if is_padded else "c{}"
    text = {one: value.format(at) for at, one in enumerate(names) if one}
    has_all = bool(attributes) and set(attributes) <= text.keys()
    columns = Columns(
        source,
        text,
        f"moment({text['timestamp']})",
        f"agreed({text['consent']})" if "consent" in text else "true",
        split(text["segments"]) if "segments" in text else "NULL",
        document([(one, text[one]) for one in sorted(attributes)]) if has_all else "NULL",
    )
    db.execute("DROP TABLE IF EXISTS reject_errors")
    db.execute("DROP TABLE IF EXISTS reject_scans")
    try:
        fill(db, number, columns)
    except duckdb.InvalidInputException:
        raise ConfigurationError([_line_ends(name)]) from None
    rejected = db.execute(
        "SELECT line, arg_min(error_type::VARCHAR, column_idx), min(column_idx) FROM reject_errors GROUP BY line ORDER BY line"
    ).fetchall()
    lines.malformed = len(rejected)
    lines.faults = [Fault(f"{name}:{line}", _rejection(kind, names, at)) for line, kind, at in rejected[:SHOWN_LINES]]


def _header(name: str) -> tuple[str, list[str], bool]:
    """Return the delimiter, the names in the first line, and whether blanks stand around them."""
    with Path(name).open("rb") as file:
        if file.read(2) in UTF_16:
            raise ConfigurationError([Fault(f"{name}:1", "is UTF-16", "convert it to UTF-8")])
    with Path(name).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = list(islice(file, HEADER_LINES))
    read = {one: next(csv.reader(head, delimiter=one, skipinitialspace=True), []) for one in DELIMITERS}
    delimiter = max(read, key=lambda one: len(read[one]))
    raw = next(csv.reader(head, delimiter=delimiter), [])
    return delimiter, [one.strip() for one in read[delimiter]], any(one != one.strip() for one in raw)


def _rejection(kind: str, names: Sequence[str], at: int) -> str:
    """Say what is wrong with a line, without what it holds."""
    column = f"column {names[at - 1] if 0 < at <= len(names) else at}"
    match kind:
        case "TOO MANY COLUMNS":
            return f"column {len(names) + 1}: the header names {len(names)} columns, and this line has more"
        case "MISSING COLUMNS":
            return f"column {names[min(at, len(names) - 1)]}: is missing, the line ends before it"
        case "INVALID ENCODING":
            return f"{column}: is not UTF-8 (convert the file)"
        case "UNQUOTED VALUE":
            return f"{column}: a quote stands within a value, or is never closed"
        case _:
            return f"{column}: {kind.lower()}"


def _line_ends(name: str) -> Fault:
    """Say which line ends unlike the first: what else DuckDB gives up on is set aside by line."""
    with Path(name).open("rb") as lines:
        first = lines.readline().endswith(b"\r\n")
        for number, line in enumerate(lines, 2):
            if line.endswith(b"\n") and line.endswith(b"\r\n") != first:
                remedy = "convert it to one kind of line ends"
                return Fault(f"{name}:{number}", "ends unlike the first line, by \\n or by \\r\\n", remedy)
    return Fault(name, "is no CSV", "values in double quotes, quotes within them doubled")
