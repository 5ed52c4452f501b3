"""Table `history`, into which every history file is read, and the SQL that a reader provides to fill it.

history   file (number), person, at_s, object_id, action, agreed, event_id, named (segments), long_id (whether an identifier is
          too long), document (JSON, or null), session, query (null unless they are wanted)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewriter.encodings import SAMPLE_BYTES, encoding_of
from rewriter.errors import ConfigurationError, Fault

COMPRESSED = {b"\x1f\x8b": "gzip", b"PK": "zip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
"""Compression formats by the first bytes of a file."""
IDENTIFIERS = ("user_id", "client_id", "object_id", "event_id")
NO_BOOLEANS = (*IDENTIFIERS, "session_id")
"""Identifiers that true and false are none of, as in events: with `"user_id": false` an export means nobody."""
SEARCH = ("session_id", "query")
"""Columns of the search behind an event, which `rewriter evaluate` reads; a backfill reads the session alone."""
UBI = {"object_id": "$.object.object_id", "segments": "$.segments"}
"""Columns of a history by their place in the `event_attributes` of a UBI event."""
SHOWN_LINES = 20
"""Reported lines of one file that are no rows."""

MAKE = (
    "CREATE TABLE history (file INT, person VARCHAR, at_s DOUBLE, object_id VARCHAR, action VARCHAR, agreed BOOLEAN,"
    " event_id VARCHAR, named VARCHAR[], long_id BOOLEAN, document VARCHAR, session VARCHAR, query VARCHAR)"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """SQL of one file: the source of its rows, and an expression for each column of `history`.

    text:     expressions of identifiers and action, by name, if the file has them.
    more:     the columns of SEARCH that are wanted.
    document: the counted columns as JSON; "NULL" if the file lacks one of them.
    """

    source: str
    text: Mapping[str, str]
    moment: str
    agreed: str
    named: str
    document: str
    more: Collection[str] = ()


@dataclass(slots=True)
class Lines:
    """The lines of a file that are no rows: their number, and faults of the first ones."""

    malformed: int = 0
    faults: list[Fault] = field(default_factory=list)


def fill(db: Any, number: int, columns: Columns) -> None:
    """Append a file's rows to `history`, in their order."""
    people = [f"there({columns.text[name]})" for name in ("user_id", "client_id") if name in columns.text]
    action = columns.text.get("action_name", "'purchase'")
    identifiers = [columns.text[one] for one in NO_BOOLEANS if one in columns.text]
    session, query = (columns.text.get(one, "NULL") if one in columns.more else "NULL" for one in SEARCH)
    db.execute(
        f"""
        INSERT INTO history
        SELECT {number}, coalesce({", ".join(people)}), {columns.moment}, there({columns.text["object_id"]}),
               coalesce({action}, ''), {columns.agreed}, there({columns.text.get("event_id", "NULL")}), names_of({columns.named}),
               {" OR ".join(f"too_long({one})" for one in identifiers)}, {columns.document}, there({session}), {query}
        FROM {columns.source}
        """
    )


def refuse_other_bytes(name: str) -> None:
    """Raise ConfigurationError for a text file that is compressed, or not in UTF-8."""
    with Path(name).open("rb") as file:
        head = file.read(SAMPLE_BYTES)
    if kind := next((kind for mark, kind in COMPRESSED.items() if head.startswith(mark)), None):
        raise ConfigurationError([Fault(name, f"is compressed ({kind})", "unpack it")])
    if not (encoding := encoding_of(head)).startswith("utf-8"):
        raise ConfigurationError([Fault(f"{name}:1", f"is {encoding[:6].upper()}", "convert it to UTF-8")])


def missing(name: str, there: Collection[str]) -> list[Fault]:
    """Return a fault for each column that a file needs and lacks."""
    wanted: Sequence[tuple[Collection[str], str]] = (
        (("timestamp",), "the time of each event"),
        (("object_id",), "the id of the product or document"),
        (("user_id", "client_id"), "the visitor"),
    )
    return [
        Fault(name, f"no column {' or '.join(of)}", _alike(of, there) or f"rename the column that holds {holds}")
        for of, holds in wanted
        if not {*of} & {*there}
    ]


def _alike(wanted: Collection[str], there: Collection[str]) -> str:
    """Return the remedy for a column that is only misspelled. Other names are not shown, since they may be a row's values."""
    spelled = {re.sub("[^a-z0-9]", "", one.lower()): one for one in there}
    found = [(spelled[key], one) for one in wanted if (key := one.replace("_", "")) in spelled]
    return f"rename {found[0][0]!r} to {found[0][1]}" if found else ""


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def unpatterned(path: Path) -> str:
    """Return a path for DuckDB's readers, with the characters of their patterns escaped."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in str(path))


def identifier(name: str) -> str:
    """Return a column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def split(text: str) -> str:
    """Return the expression that splits a comma-separated text into a list."""
    return rf"regexp_split_to_array(nullif(trim({text}), ''), '\s*,\s*')"


def document(parts: Sequence[tuple[str, str]]) -> str:
    """Return the expression of a JSON object of columns, given as name and expression."""
    return f"to_json({{{', '.join(f'{literal(name)}: {value}' for name, value in parts)}}})::VARCHAR"
