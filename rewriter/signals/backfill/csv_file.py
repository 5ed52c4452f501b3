"""Reader of CSV history: delimiter and names are taken from the first line, and every value is read as text.

If the names are surrounded by blanks (`timestamp, user_id`), blanks around values are removed too. Empty lines are ignored. Excel's
line `sep=;` before the names sets the delimiter.

A quote that is never closed swallows the lines after it, which DuckDB does not report. So lines are counted, and those that are in
no row count as malformed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.signals.backfill.columns import (
    SHOWN_LINES,
    Columns,
    Lines,
    document,
    fill,
    literal,
    missing,
    refuse_other_bytes,
    split,
)

DELIMITERS = ",;\t|"
HEADER_LINES = 100
"""Lines read to find the names; a quoted name may contain line ends."""
SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?")


@dataclass(frozen=True, slots=True)
class _Header:
    """The first lines of a file.

    is_padded: whether the names are surrounded by blanks.
    full:      number of non-empty lines before the rows.
    skipped:   number of lines before the names, empty or not.
    """

    delimiter: str
    names: Sequence[str]
    is_padded: bool
    full: int
    skipped: int


def read_csv(
    db: Any, name: str, alias: str, attributes: Collection[str], more: Collection[str], number: int, lines: Lines
) -> None:
    """Read a file into `history`. Raises ConfigurationError."""
    import duckdb  # noqa: PLC0415  an extra

    header = _header(name)
    names = header.names
    twice = [one for one in dict.fromkeys(names) if one and names.count(one) > 1]
    faults = [
        *missing(name, names),
        *(Fault(f"{name}:{header.skipped + 1}", f"column {one} is there twice") for one in twice),
    ]
    if faults:
        raise ConfigurationError(faults)
    kinds = ", ".join(f"'c{at}': 'VARCHAR'" for at in range(len(names)))
    options = (
        f"{literal(alias)}, auto_detect = false, header = true, skip = {header.skipped}, delim = {literal(header.delimiter)},"
        f" quote = '\"', escape = '\"', columns = {{{kinds}}}, hive_partitioning = false"
    )
    value = "trim(c{})" if header.is_padded else "c{}"
    text = {one: value.format(at) for at, one in enumerate(names) if one}
    has_all = bool(attributes) and set(attributes) <= text.keys()
    columns = Columns(
        f"read_csv({options}, store_rejects = true)",
        text,
        f"moment({text['timestamp']})",
        f"agreed({text['consent']})" if "consent" in text else "true",
        split(text["segments"]) if "segments" in text else "NULL",
        document([(one, text[one]) for one in sorted(attributes)]) if has_all else "NULL",
        more,
    )
    db.execute("DROP TABLE IF EXISTS reject_errors")
    db.execute("DROP TABLE IF EXISTS reject_scans")
    try:
        fill(db, number, columns)
    except duckdb.InvalidInputException:
        raise ConfigurationError([_line_ends(name)]) from None
    rejected = db.execute(
        """
        SELECT min(line_byte_position), arg_min(error_type::VARCHAR, coalesce(column_idx, 0)), min(column_idx)
        FROM reject_errors GROUP BY line ORDER BY line
        """
    ).fetchall()
    ends = _line_end(name)
    lines.malformed = _unread(db, name, number, options, header, ends, len(rejected))
    shown = rejected[:SHOWN_LINES]
    at_lines = _lines_at(name, ends, [position for position, _, _ in shown])
    lines.faults = [
        Fault(f"{name}:{line}", _rejection(kind, names, at))
        for line, (_, kind, at) in zip(at_lines, shown, strict=True)
    ]
    if lines.malformed > len(rejected):
        lost = count_of(lines.malformed - len(rejected), "line", "are")
        what = f"{lost} in no row: a quote before them is never closed, or not doubled"
        lines.faults.append(Fault(name, what))


def _header(name: str) -> _Header:
    """Read the first lines of a file. Raises ConfigurationError if it is not text in UTF-8."""
    refuse_other_bytes(name)
    with Path(name).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = list(islice(file, HEADER_LINES))
    skipped = next((at for at, line in enumerate(head) if line.strip("\r\n")), 0)
    separator = SEPARATOR_LINE.fullmatch(head[skipped]) if head else None
    if separator is not None:
        skipped += 1
    try:
        read = {one: next(csv.reader(head[skipped:], delimiter=one, skipinitialspace=True), []) for one in DELIMITERS}
    except csv.Error:
        what = f"a name of the header is longer than {csv.field_size_limit():,} characters"
        raise ConfigurationError([Fault(f"{name}:{skipped + 1}", what, "is it a CSV file with a header?")]) from None
    delimiter = separator[1] if separator is not None else max(read, key=lambda one: len(read[one]))
    reader = csv.reader(head[skipped:], delimiter=delimiter)
    raw = next(reader, [])
    names = [one.strip() for one in next(csv.reader(head[skipped:], delimiter=delimiter, skipinitialspace=True), [])]
    full = sum(bool(line.strip("\r\n")) for line in head[: skipped + reader.line_num])
    return _Header(delimiter, names, any(one != one.strip() for one in raw), full, skipped)


def _line_end(name: str) -> bytes:
    """Return the last byte of a line end."""
    with Path(name).open("rb") as file:
        return b"\n" if b"\n" in file.readline() else b"\r"


def _lines_at(name: str, ends: bytes, positions: Sequence[int]) -> list[int]:
    """Return the numbers of the lines at ascending byte positions. DuckDB numbers rows, and one row may have many lines."""
    found, number, at = [], 1, 0
    with Path(name).open("rb") as file:
        for position in positions:
            while at < position:
                block = file.read(min(2**20, position - at))
                number, at = number + block.count(ends), at + len(block)
            found.append(number)
    return found


def _unread(db: Any, name: str, number: int, options: str, header: _Header, ends: bytes, rejected: int) -> int:
    """Return the number of lines in no row of `history`. Empty lines are not counted, not even within a value."""
    lines = _full_lines(name, ends) - header.full
    (rows,) = db.execute("SELECT count(*) FROM history WHERE file = ?", [number]).fetchone()
    if rows + rejected == lines:
        return rejected
    end = r"(\r?\n)+" if ends == b"\n" else r"\r+"
    values = " + ".join(f"coalesce(len(regexp_extract_all(c{at}, '{end}')), 0)" for at in range(len(header.names)))
    query = f"SELECT sum(1 + {values})::BIGINT FROM read_csv({options}, ignore_errors = true)"
    (read,) = db.execute(query).fetchone()
    return max(rejected, lines - (read or 0))


def _full_lines(name: str, ends: bytes) -> int:
    """Return the number of non-empty lines of a file."""
    count, partial = 0, b""
    with Path(name).open("rb") as file:
        while block := file.read(2**20):
            *whole, partial = (partial + block).split(ends)
            count += sum(1 for line in whole if line and line != b"\r")
    return count + bool(partial.strip(b"\r\n"))


def _rejection(kind: str, names: Sequence[str], at: int | None) -> str:
    """Return the fault of a line, without its content."""
    if at is None:  # a fault of the whole line
        return f"column 1: {kind.lower()}"
    column = f"column {names[at - 1] if 0 < at <= len(names) else at}"
    match kind:
        case "TOO MANY COLUMNS":
            return f"column {len(names) + 1}: the header names {count_of(len(names), 'column')}, and this line has more"
        case "MISSING COLUMNS":
            return f"column {names[min(at, len(names) - 1)]}: is missing, the line ends before it"
        case "INVALID ENCODING":
            return f"{column}: is not UTF-8 (convert the file)"
        case "UNQUOTED VALUE":
            return f"{column}: a quote is inside a value, or is never closed"
        case _:
            return f"{column}: {kind.lower()}"


def _line_ends(name: str) -> Fault:
    """Return a fault for the first line with another line end than the first; other faults of lines DuckDB reports itself."""
    with Path(name).open("rb") as lines:
        first = lines.readline().endswith(b"\r\n")
        for number, line in enumerate(lines, 2):
            if line.endswith(b"\n") and line.endswith(b"\r\n") != first:
                remedy = "convert it to one kind of line ends"
                return Fault(f"{name}:{number}", "ends unlike the first line, by \\n or by \\r\\n", remedy)
    return Fault(name, "is no CSV", "values in double quotes, quotes within them doubled")
