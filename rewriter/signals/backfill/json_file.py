"""Reader of JSON history: one object per event, by line or in an array. Texts are unchanged; numbers are converted as by ingest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.signals.backfill.columns import (
    IDENTIFIERS,
    NO_BOOLEANS,
    SHOWN_LINES,
    UBI,
    Columns,
    Lines,
    fill,
    literal,
    missing,
    refuse_other_bytes,
    split,
)
from rewriter.signals.backfill.spelling import EXACT_BELOW

MAX_OBJECT_BYTES = 64 * 2**20
EMPTY = "'[]', '{}'"
NO_OBJECT = "json IS NULL OR json_type(json) <> 'OBJECT'"


def read_json(
    db: Any, name: str, alias: str, attributes: Collection[str], more: Collection[str], number: int, lines: Lines
) -> None:
    """Read a file into `history`. Raises ConfigurationError."""
    refuse_other_bytes(name)
    kind = _form(name)
    db.execute("DROP TABLE IF EXISTS records")
    make = (
        f"CREATE TEMP TABLE records AS SELECT json FROM read_json_objects({literal(alias)}, format = '{kind}',"
        f" hive_partitioning = false, maximum_object_size = {MAX_OBJECT_BYTES}, ignore_errors = {kind == 'newline_delimited'})"
    )
    db.execute(make)
    (lines.malformed,) = db.execute(f"SELECT count(*) FROM records WHERE {NO_OBJECT}").fetchone()
    if lines.malformed:
        found = _no_objects(name) if kind == "newline_delimited" else iter([Fault(name, "not all of it are objects")])
        lines.faults = list(islice(found, SHOWN_LINES))
        (records,) = db.execute("SELECT count(*) FROM records").fetchone()
        if records == lines.malformed:  # of its columns there is nothing to say
            raise ConfigurationError(lines.faults)
        db.execute(f"DELETE FROM records WHERE {NO_OBJECT}")
    _flatten_events(db)
    wanted = [*IDENTIFIERS, *more, "timestamp", "action_name", "consent", "segments"]
    there = there_in(db, "records", "json", {one: _path(one) for one in (*wanted, *attributes)})
    if there is None:  # an empty file has no rows
        return
    if faults := missing(name, there):
        raise ConfigurationError(faults)
    texts = {one: _text(one) for one in wanted if one in there and one != "segments"}
    texts |= {one: _unless_boolean(one, texts[one]) for one in NO_BOOLEANS if one in texts}
    _refuse_unsound(db, name, list(texts))
    parts = ", ".join(f"{literal(one)}, json_extract(json, {_path(one)})" for one in sorted(attributes))
    agreed = (
        f"CASE WHEN json_exists(json, {_path('consent')}) THEN agreed({texts.get('consent', 'NULL')}) ELSE true END"
    )
    columns = Columns(
        "records",
        texts,
        f"moment({texts['timestamp']})",
        agreed if "consent" in there else "true",
        segments_in("json") if "segments" in there else "NULL",
        f"json_object({parts})::VARCHAR" if attributes and set(attributes) <= there else "NULL",
        more,
    )
    fill(db, number, columns)
    db.execute("DROP TABLE records")


def _flatten_events(db: Any) -> None:
    """Give UBI events the columns of a history: object and segments stand in `event_attributes`, an object or JSON as text."""
    attributes = (
        "CASE json_type(json, '$.event_attributes') WHEN 'VARCHAR' THEN TRY_CAST(json->>'$.event_attributes' AS JSON)"
        " ELSE json_extract(json, '$.event_attributes') END"
    )
    for column, path in UBI.items():
        db.execute(
            f"UPDATE records SET json = json_merge_patch(json, json_object('{column}', json_extract({attributes}, '{path}')))"
            f" WHERE NOT json_exists(json, '$.{column}') AND json_exists({attributes}, '{path}')"
        )


def _form(name: str) -> str:
    """Return DuckDB's name for the layout of a file's objects."""
    if not name.lower().endswith(".json"):
        return "newline_delimited"
    with Path(name).open("rb") as file:
        first = next((line.strip() for line in file if line.strip()), b"{}").removeprefix(b"\xef\xbb\xbf")
    if first.startswith(b"["):
        return "array"
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return "unstructured"
    return "newline_delimited"


def there_in(db: Any, source: str, value: str, paths: Mapping[str, str]) -> set[str] | None:
    """Return the names of those paths that at least one row has in its JSON `value`, an expression; None if no row has JSON."""
    wanted = ", ".join(f"bool_or(json_exists({value}, {path}))" for path in paths.values())
    found = db.execute(f"SELECT {wanted} FROM {source}").fetchone()
    return None if found[0] is None else {one for one, is_there in zip(paths, found, strict=True) if is_there}


def _text(name: str) -> str:
    """Return the expression of a column as text, NULL for NaN and infinity, and for an empty list or object, as in events."""
    text, kind = f"json_extract_string(json, {_path(name)})", f"json_type(json, {_path(name)})"
    return (
        f"CASE WHEN {kind} = 'DOUBLE' AND NOT isfinite(TRY_CAST({text} AS DOUBLE)) THEN NULL"
        f" WHEN {kind} IN ('ARRAY', 'OBJECT') AND {text} IN ({EMPTY}) THEN NULL ELSE {text} END"
    )


def _unless_boolean(name: str, text: str) -> str:
    """Return the expression of an identifier, NULL for true and false."""
    return f"CASE WHEN json_type(json, {_path(name)}) <> 'BOOLEAN' THEN {text} END"


def segments_in(value: str) -> str:
    """Return the expression of the segments in the JSON `value` of a row, an expression too."""
    path = _path("segments")
    text, every = f"json_extract_string({value}, {path})", f"json_extract({value}, '$.segments[*]')"
    return (
        f"CASE json_type({value}, {path}) WHEN 'ARRAY' THEN {_names(every)}"
        f" WHEN 'VARCHAR' THEN {split(text)} WHEN 'OBJECT' THEN [nullif({text}, '{{}}')]"
        f" ELSE {_names(f'[json_extract({value}, {path})]')} END"
    )


def _names(listed: str) -> str:
    """Return the expression of a list's texts and numbers. True, false, null, NaN and infinity are no names, as in events."""
    number = "TRY_CAST(json_extract_string(one, '$') AS DOUBLE)"
    is_name = f"json_type(one) NOT IN ('BOOLEAN', 'NULL') AND (json_type(one) <> 'DOUBLE' OR coalesce(isfinite({number}), true))"
    return f"list_transform(list_filter({listed}, lambda one: {is_name}), lambda one: json_extract_string(one, '$'))"


def _refuse_unsound(db: Any, name: str, columns: Sequence[str]) -> None:
    """Raise ConfigurationError for columns with lists or objects, or with floats too large to distinguish integers."""
    limit = EXACT_BELOW["DOUBLE"]
    faults = []
    for what, where in (
        (
            "a list or an object",
            "json_type(json, {0}) IN ('ARRAY', 'OBJECT') AND json_extract_string(json, {0}) NOT IN ({1})",
        ),
        (
            f"a float above {limit:,}, which cannot distinguish integers (export it as integer or text)",
            "json_type(json, {0}) = 'DOUBLE' AND is_inexact(json_extract_string(json, {0}))",
        ),
    ):
        each = [where.format(_path(one), EMPTY) for one in columns]
        wanted = ", ".join(f"count(*) FILTER ({one}), min(rowid) FILTER ({one})" for one in each)
        counts = db.execute(f"SELECT {wanted} FROM records").fetchone()
        faults += [
            Fault(f"{name}, row {row + 1:,}", f"column {one}: {count_of(count, 'row', 'hold')} {what}")
            for one, count, row in zip(columns, counts[::2], counts[1::2], strict=True)
            if count
        ]
    if faults:
        raise ConfigurationError(faults)


def _no_objects(name: str) -> Iterator[Fault]:
    """Yield a fault for each line that is no object. DuckDB's own line numbers are relative to one of its threads."""
    with Path(name).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = line.rstrip(b"\r\n").decode("utf-8-sig")
                if not text.strip():
                    continue
                if not isinstance(found := json.loads(text), dict):
                    yield Fault(f"{name}:{number}", "column 1: is JSON, but no object")
                json.dumps(found, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                yield Fault(f"{name}:{number}", "holds half a character: a \\uD800 to \\uDFFF without its other half")
            except UnicodeDecodeError as error:
                yield Fault(f"{name}:{number}", f"column {error.start + 1}: is not UTF-8 (convert the file)")
            except RecursionError:
                yield Fault(f"{name}:{number}", "column 1: is nested too deep")
            except ValueError as error:
                at = error.colno if isinstance(error, json.JSONDecodeError) else 1
                yield Fault(f"{name}:{number}", f"column {at}: is no JSON")


def _path(name: str) -> str:
    """Return the JSON path of a key; a dot is part of its name."""
    return literal(f'$."{name}"')
