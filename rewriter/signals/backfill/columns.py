"""The table that every file of a history is read into, and what a reader says of a file to fill it.

history   file (number), person, at_s, object_id, action, agreed, event_id, named (segments), document (JSON, or null)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewriter.errors import Fault

IDENTIFIERS = ("user_id", "client_id", "object_id", "event_id")
SHOWN_LINES = 20
"""Of those that are no rows, in one file."""

MAKE = (
    "CREATE TABLE history (file INT, person VARCHAR, at_s DOUBLE, object_id VARCHAR, action VARCHAR, agreed BOOLEAN,"
    " event_id VARCHAR, named VARCHAR[], document VARCHAR)"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """SQL for one file: where its rows come from, and an expression for each column of `history`.

    text:     by name, the text of each identifier and of the action that the file has.
    document: the columns that are counted, as JSON; "NULL" where the file lacks one of them.
    """

    source: str
    text: Mapping[str, str]
    moment: str
    agreed: str
    named: str
    document: str


@dataclass(slots=True)
class Lines:
    """The lines of a file that are no rows: how many, and the first of them."""

    malformed: int = 0
    faults: list[Fault] = field(default_factory=list)


def fill(db: Any, number: int, columns: Columns) -> None:
    """Append a file's rows to `history`, in their order."""
    people = [f"there({columns.text[name]})" for name in ("user_id", "client_id") if name in columns.text]
    action = columns.text.get("action_name", "'purchase'")
    db.execute(
        f"""
        INSERT INTO history
        SELECT {number}, coalesce({", ".join(people)}), {columns.moment}, there({columns.text["object_id"]}),
               coalesce({action}, ''), {columns.agreed}, there({columns.text.get("event_id", "NULL")}), {columns.named},
               {columns.document}
        FROM {columns.source}
        """
    )


def missing(name: str, there: Collection[str]) -> list[Fault]:
    """Return a fault for each column that a file needs and lacks."""
    wanted = [one for one in ("timestamp", "object_id") if one not in there]
    people = [] if {"user_id", "client_id"} & set(there) else ["user_id or client_id"]
    return [Fault(name, f"no column {one}") for one in (*wanted, *people)]


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def split(text: str) -> str:
    """Return the expression that makes a list of a text with commas."""
    return rf"regexp_split_to_array(nullif(trim({text}), ''), '\s*,\s*')"


def document(parts: Sequence[tuple[str, str]]) -> str:
    """Return the expression that makes JSON of columns: name and expression of each."""
    return f"to_json({{{', '.join(f'{literal(name)}: {value}' for name, value in parts)}}})::VARCHAR"
