"""The records of an experiment's window in DuckDB, with the count of what was left out of them.

Everything runs in DuckDB, whose memory is bounded, so that a million searches need no million Python objects. `record_files` reads
the files, `searches` and `outcomes` make a table of each kind, and `window_records` runs them and makes the rows of people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from rewriter.plural import count_of

ARMS = ("treatment", "holdout", "interleaved")
FAILED = ("search_failed", "search_late", "search_rejected", "template_failed", "answers_differ")


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows or people that one filter left out: their number and the reason as a phrase."""

    name: str
    count: int
    what: str
    why: str


@dataclass(slots=True)
class Records:
    """The records in a DuckDB connection with the tables `searches`, `outcomes`, `people` and `days`."""

    connection: duckdb.DuckDBPyConnection
    filters: list[Filter] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    no_verdict: list[str] = field(default_factory=list)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(sql, list(parameters)).fetchall()

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first value of a query's first row."""
        row = self.connection.execute(sql, list(parameters)).fetchone()
        return row[0] if row else None

    def columns(self, sql: str, parameters: Sequence[Any] = ()) -> Mapping[str, Any]:
        """Return a query's columns as numpy arrays."""
        return self.connection.execute(sql, list(parameters)).fetchnumpy()

    def left_out(self, name: str, count: int, noun: str, why: str) -> None:
        """Note the rows or people that a filter left out, if there are any. noun: in the singular."""
        if count:
            self.filters.append(Filter(name, count, count_of(count, noun).partition(" ")[2], why))
