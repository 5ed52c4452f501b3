"""Reader of history files into one table of text, without guessing types.

A file is opened through a link with a name of our own, so that its name is not taken for a pattern, nor its folders for columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.backfill.columns import MAKE, Lines
from rewriter.signals.backfill.csv_file import read_csv
from rewriter.signals.backfill.json_file import read_json
from rewriter.signals.backfill.parquet_file import read_parquet
from rewriter.signals.backfill.spelling import MACROS

READERS = {
    ".parquet": read_parquet,
    ".ndjson": read_json,
    ".jsonl": read_json,
    ".json": read_json,
    ".csv": read_csv,
}


@dataclass(slots=True)
class Files:
    """The files of a history.

    rows:      number of rows of `history` of each file.
    malformed: number of lines that are no rows; `faults` are the first of them.
    """

    names: Sequence[str]
    rows: list[int] = field(default_factory=list)
    malformed: int = 0
    faults: list[Fault] = field(default_factory=list)

    def row(self, rowid: int) -> str:
        """Return the file and the number of a row of `history`."""
        for name, count in zip(self.names, self.rows, strict=True):
            if rowid < count:
                return f"{name}, row {rowid + 1:,}"
            rowid -= count
        raise IndexError(rowid)


def read_files(
    db: Any, names: Sequence[str], attributes: Collection[str], folder: Path, more: Collection[str] = ()
) -> Files:
    """Read all files into the table `history`.

    attributes: the counted document fields. If a file lacks one of them, its objects are looked up.
    folder:     an empty temporary folder for the links.
    more:       the columns of `columns.SEARCH` that are wanted.
    Raises ConfigurationError with all columns that are missing or cannot be read; lines that are no rows are left out.
    """
    import duckdb  # noqa: PLC0415  an extra: pip install 'rewriter[backfill]'

    found, faults = Files(names), list[Fault]()
    for command in (*MACROS, MAKE):
        db.execute(command)
    for number, name in enumerate(names):
        suffix = Path(name).suffix.lower()
        if suffix not in READERS:
            raise ConfigurationError([Fault(name, "is of no kind that is read", ", ".join(READERS))])
        alias = folder / f"{number}{suffix}"
        alias.symlink_to(Path(name).resolve())
        lines = Lines()
        try:
            READERS[suffix](db, name, str(alias), attributes, more, number, lines)
        except ConfigurationError as error:
            faults += error.faults
        except duckdb.Error as error:  # only the first line, since others may quote the file
            faults.append(Fault(name, f"cannot be read: {str(error).splitlines()[0].replace(str(alias), 'it')}"))
        (count,) = db.execute("SELECT count(*) FROM history WHERE file = ?", [number]).fetchone()
        found.rows.append(count)
        found.malformed += lines.malformed
        found.faults += lines.faults
    if faults:
        raise ConfigurationError(faults)
    return found
