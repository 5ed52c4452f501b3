"""Reader of Parquet history: each column is converted to text by its type (see `spelling`), or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.backfill.columns import (
    IDENTIFIERS,
    NO_BOOLEANS,
    UBI,
    Columns,
    Lines,
    document,
    fill,
    identifier,
    literal,
    missing,
    split,
)
from rewriter.signals.backfill.json_file import segments_in, there_in
from rewriter.signals.backfill.spelling import moment_of, spelled, unsound


def read_parquet(
    db: Any, name: str, alias: str, attributes: Collection[str], more: Collection[str], number: int, _: Lines
) -> None:
    """Read a file into `history`. Raises ConfigurationError."""
    source = f"read_parquet({literal(alias)}, hive_partitioning = false)"
    kinds = _kinds(db, source)
    if flat := _of_events(db, source, kinds):
        source = f"(SELECT *, {flat} FROM {source})"
        kinds = _kinds(db, source)
    wanted = {*IDENTIFIERS, *more, *attributes, "timestamp", "action_name", "consent", "segments"}
    names = _column_names(db, alias)
    twice = sorted(one for one in wanted if names.count(one) > 1 or (one in names and one not in kinds))
    if faults := [*(Fault(name, f"column {one} is there twice") for one in twice), *missing(name, kinds)]:
        raise ConfigurationError(faults)
    has_all = bool(attributes) and set(attributes) <= kinds.keys()
    texts = {
        one: spelled(identifier(one), kinds[one])
        for one in (*IDENTIFIERS, *more, "action_name", "consent")
        if one in kinds
    }
    texts |= {one: "NULL" for one in NO_BOOLEANS if one in texts and kinds[one] == "BOOLEAN"}
    attributes_ = {one: _value(one, kinds[one]) for one in sorted(attributes)} if has_all else {}
    moment = moment_of(identifier("timestamp"), kinds["timestamp"])
    named = _segments(kinds["segments"]) if "segments" in kinds else "NULL"
    every = {**texts, **attributes_, "timestamp": moment, "segments": named}
    faults = [
        Fault(name, f"column {one} is of type {kinds[one]}, which has no canonical text", "export it as text")
        for one, expression in every.items()
        if expression is None
    ]
    faults += _unsound(db, name, source, {one: kinds[one] for one in (*texts, *attributes_)})
    if faults:
        raise ConfigurationError(faults)
    text = {one: expression for one, expression in texts.items() if expression is not None}
    columns = Columns(
        source,
        text,
        moment or "NULL",
        f"agreed({text['consent']})" if "consent" in text else "true",
        named or "NULL",
        document([(one, value or "NULL") for one, value in attributes_.items()]) if has_all else "NULL",
        more,
    )
    fill(db, number, columns)


def _kinds(db: Any, source: str) -> dict[str, str]:
    return {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}


def _of_events(db: Any, source: str, kinds: Mapping[str, str]) -> str:
    """Return the columns of a history that stand in the `event_attributes` of UBI events, as SQL; "" if there are none.

    `event_attributes` may be a struct, JSON as text, or columns of their own that are named by their path.
    """
    kind = kinds.get("event_attributes", "")
    found: dict[str, str] = {}
    for column, path in UBI.items():
        names = ["event_attributes", *path.removeprefix("$.").split(".")]
        nested = ".".join(map(identifier, names))
        if (dotted := ".".join(names)) in kinds:
            found[column] = identifier(dotted)
        elif kind.startswith("STRUCT") and _is_there(db, source, nested):
            found[column] = nested
    if kind in {"VARCHAR", "JSON"}:
        found = _of_json(db, source) | found
    return ", ".join(f"{found[one]} AS {identifier(one)}" for one in UBI if one in found and one not in kinds)


def _of_json(db: Any, source: str) -> dict[str, str]:
    """Return the expressions of the columns that some row has in its `event_attributes` as JSON; of all, if there is no row."""
    attributes = f"TRY_CAST({identifier('event_attributes')} AS JSON)"
    there = there_in(db, source, f"coalesce({attributes}, '{{}}')", {one: literal(path) for one, path in UBI.items()})
    path = literal(UBI["object_id"])
    kind, text = f"json_type({attributes}, {path})", f"json_extract_string({attributes}, {path})"
    every = {
        "object_id": f"CASE WHEN {kind} NOT IN ('BOOLEAN', 'ARRAY', 'OBJECT') THEN {text} END",
        "segments": segments_in(attributes),
    }
    return {one: expression for one, expression in every.items() if there is None or one in there}


def _is_there(db: Any, source: str, expression: str) -> bool:
    """Whether a struct has a field."""
    import duckdb  # noqa: PLC0415  an extra: pip install 'rewriter[backfill]'

    try:
        db.execute(f"DESCRIBE SELECT {expression} FROM {source}")
    except duckdb.BinderException:
        return False
    return True


def _column_names(db: Any, alias: str) -> list[str]:
    """Return the names of a file's columns. DuckDB ignores their case, and renames all but the first of several alike."""
    _, *rows = db.execute(f"SELECT name, num_children FROM parquet_schema({literal(alias)})").fetchall()
    names: list[str] = []
    inner = 0  # columns of a struct or a list that follow
    for one, children in rows:
        if inner == 0:
            names.append(one)
        else:
            inner -= 1
        inner += children or 0
    return names


def _value(name: str, kind: str) -> str | None:
    """Return the expression of a column as text; of a list, each element is a value."""
    if not kind.endswith("[]"):
        return spelled(identifier(name), kind)
    element = spelled("one", kind.removesuffix("[]"))
    return element and f"[{element} FOR one IN {identifier(name)}]"


def _segments(kind: str) -> str | None:
    """Return the expression of the column of segments. True and false are no names, as in events."""
    if kind.removesuffix("[]") == "BOOLEAN":
        return "NULL"
    text = _value("segments", kind)
    return text if text is None or kind.endswith("[]") else split(text)


def _unsound(db: Any, name: str, source: str, kinds: Mapping[str, str]) -> list[Fault]:
    """Return a fault for each column with a value that has no canonical text."""
    faults = []
    for one, kind in kinds.items():
        if found := unsound("one", kind.removesuffix("[]")):
            each = f"unnest({identifier(one)})" if kind.endswith("[]") else identifier(one)
            wanted = f"SELECT 1 FROM (SELECT {each} AS one FROM {source}) WHERE {found[0]} LIMIT 1"
            if db.execute(wanted).fetchone():
                faults.append(Fault(name, f"column {one} {found[1]}"))
    return faults
