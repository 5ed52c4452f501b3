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
MANY_MORE = 1_000
"""Columns of a line beyond those of the header from which on DuckDB is not asked about faults."""
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


@dataclass(frozen=True, slots=True)
class _Scan:
    """The lines of a file.

    full:     number of non-empty lines.
    has_wide: whether a line has far more delimiters than the header. For each column too many DuckDB keeps a copy of the line among
              its rejects, so a line of a million columns would take terabytes: such a file is read without them.
    wide:     the numbers of those lines, unless the delimiters are inside a quoted value.
    """

    full: int
    has_wide: bool
    wide: Sequence[int]


def read_csv(
    db: Any, name: str, alias: str, attributes: Collection[str], more: Collection[str], number: int, lines: Lines
) -> None:
    """Read a file into `history`. Raises ConfigurationError."""
    import duckdb  # noqa: PLC0415  an extra

    header = _header(name)
    names = header.names
    if not names:  # an empty file has no rows, like one with names alone
        return
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
    ends = _line_end(name)
    scan = _scanned(name, ends, header)
    value = "trim(c{})" if header.is_padded else "c{}"
    text = {one: value.format(at) for at, one in enumerate(names) if one}
    has_all = bool(attributes) and set(attributes) <= text.keys()
    columns = Columns(
        f"read_csv({options}, {'ignore_errors' if scan.has_wide else 'store_rejects'} = true)",
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
    rejected = [] if scan.has_wide else _rejected(db)
    lines.malformed = _unread(db, number, options, header, ends, scan.full - header.full, len(rejected))
    shown = rejected[:SHOWN_LINES]
    at_lines = _lines_at(name, ends, [position for position, _, _ in shown])
    lines.faults = [
        Fault(f"{name}:{line}", _rejection(kind, names, at))
        for line, (_, kind, at) in zip(at_lines, shown, strict=True)
    ]
    if lines.malformed:
        lines.faults += [
            Fault(f"{name}:{line}", _rejection("TOO MANY COLUMNS", names, 0)) for line in scan.wide[:SHOWN_LINES]
        ]
    if lines.malformed > (named := len(rejected) + len(scan.wide)):
        lost = count_of(lines.malformed - named, "line", "are")
        why = "" if scan.has_wide else ": a quote before them is never closed, or not doubled"
        lines.faults.append(Fault(name, f"{lost} in no row{why}"))


def _rejected(db: Any) -> list[tuple[int, str, int | None]]:
    """Return the byte position of each line that is no row, the kind of its fault, and its column."""
    found: list[tuple[int, str, int | None]] = db.execute(
        """
        SELECT min(line_byte_position), arg_min(error_type::VARCHAR, coalesce(column_idx, 0)), min(column_idx)
        FROM reject_errors GROUP BY line ORDER BY line
        """
    ).fetchall()
    return found


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


def _unread(db: Any, number: int, options: str, header: _Header, ends: bytes, lines: int, rejected: int) -> int:
    """Return how many of a file's `lines` are in no row of `history`. Empty ones are not counted, not even within a value."""
    (rows,) = db.execute("SELECT count(*) FROM history WHERE file = ?", [number]).fetchone()
    if rows + rejected == lines:
        return rejected
    end = r"(\r?\n)+" if ends == b"\n" else r"\r+"
    values = " + ".join(f"coalesce(len(regexp_extract_all(c{at}, '{end}')), 0)" for at in range(len(header.names)))
    query = f"SELECT sum(1 + {values})::BIGINT FROM read_csv({options}, ignore_errors = true)"
    (read,) = db.execute(query).fetchone()
    return max(rejected, lines - (read or 0))


def _scanned(name: str, ends: bytes, header: _Header) -> _Scan:
    """Count the lines of a file, and find those with far more columns than the header."""
    full, number, partial, is_inside, has_wide, wide = 0, 0, b"", False, False, list[int]()
    most, delimiter = len(header.names) + MANY_MORE, header.delimiter.encode()
    with Path(name).open("rb") as file:
        while True:
            block = file.read(2**20)
            *whole, partial = (partial + block).split(ends) if block else [partial, b""]
            for line in whole:
                number += 1
                full += bool(line) and line != b"\r"
                if len(line) > most and line.count(delimiter) > most:
                    has_wide = True
                    if not is_inside and _columns(line, delimiter) > most:
                        wide.append(number)
                is_inside ^= line.count(b'"') % 2 == 1
            if not block:
                return _Scan(full, has_wide, wide)


def _columns(line: bytes, delimiter: bytes) -> int:
    """Return the number of columns of a line; a quoted value is one, however many delimiters it holds."""
    outside = re.sub(rb'"[^"]*("|$)', b"", line)
    return outside.count(delimiter) + 1


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
