"""UBI queries and events from NDJSON and Parquet files into DuckDB, one row for each document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from rewriter.errors import Fault
from rewriter.experiment.records import Records
from rewriter.signals.absent import ABSENT_IDS

OURS = {
    "arm": "VARCHAR", "unit": "VARCHAR", "holdout": "DOUBLE", "experiment": "VARCHAR", "reason": "VARCHAR", "policy": "VARCHAR",
    "mode": "VARCHAR",
    "source": "VARCHAR", "template_version": "VARCHAR", "positions": ["INTEGER"], "total": "BIGINT", "baseline_ms": "DOUBLE",
    "added_ms": "DOUBLE", "slots": [{"object_id": "VARCHAR", "propensity": "DOUBLE"}], "teams": "VARCHAR",
    "categories": ["VARCHAR"], "ages_days": ["DOUBLE"], "intra_list_diversity": "DOUBLE",
}  # fmt: skip
QUERY = {
    "query_id": "VARCHAR", "client_id": "VARCHAR", "user_query": "VARCHAR", "timestamp": "VARCHAR",
    "query_response_hit_ids": ["VARCHAR"], "query_attributes": {"rewriter": OURS},
}  # fmt: skip
EVENT = {
    "query_id": "VARCHAR", "client_id": "VARCHAR", "event_id": "VARCHAR", "action_name": "VARCHAR", "timestamp": "VARCHAR",
    "event_attributes": {
        "object": {"object_id": "VARCHAR", "price": "DOUBLE"}, "price": "DOUBLE", "quantity": "DOUBLE",
    },
}  # fmt: skip
"""The fields of a document that are read, in one pass; a value of another type is null."""


def load(found: Records, name: str, paths: Sequence[Path], form: Mapping[str, Any], faults: list[Fault]) -> None:
    """Make a table of the documents, one row each, for any columns of the files. Attributes may be JSON within a text."""
    nested = "query_attributes" if "query_attributes" in form else "event_attributes"
    wanted, inner = json.dumps(form), json.dumps(form[nested])
    chosen = (
        f"json_transform(doc, '{wanted}') AS one, CASE WHEN json_type(doc, '$.{nested}') = 'VARCHAR' "
        f"THEN json_transform(TRY_CAST(doc->>'$.{nested}' AS JSON), '{inner}') END AS texts"
    )
    found.connection.execute(f"CREATE TABLE {name} AS SELECT {chosen} FROM (SELECT NULL::JSON AS doc) WHERE false")
    for path in paths:
        try:
            if path.suffix == ".parquet":
                columns = found.rows("DESCRIBE SELECT * FROM read_parquet(?)", [_literal(path)])
                kinds = {str(column): str(kind) for column, kind, *_ in columns}
                source = f"SELECT {_of_columns(form, nested, kinds)} FROM read_parquet(?)"
            else:
                _count_lines(found, path)
                documents = "read_ndjson_objects(?, ignore_errors=true, maximum_object_size=16777216)"
                source = f"SELECT {chosen} FROM (SELECT json AS doc FROM {documents}) WHERE doc IS NOT NULL"
            found.connection.execute(f"INSERT INTO {name} {source}", [_literal(path)])
        except duckdb.Error as error:
            cause = str(error).splitlines()[0][:200]
            faults.append(Fault(str(path), f"cannot be read: {cause}", "give NDJSON or Parquet"))


def _of_columns(form: Mapping[str, Any], nested: str, kinds: Mapping[str, str]) -> str:
    """Return the expressions of `one` and `texts` for a file with columns of these types, as for a document with these fields.

    A column that has the right type already is not converted: a document made from the whole row costs twice the time.
    """
    parts, texts = [], "NULL"
    for name, wanted in form.items():
        kind, quoted, shape = kinds.get(name), f'"{name}"', json.dumps(wanted)
        if kind is None:
            parts.append(f"\"{name}\" := json_transform(NULL::JSON, '{shape}')")
        elif name == nested and kind in ("VARCHAR", "JSON"):
            parsed = f"TRY_CAST({quoted} AS JSON)"
            parts.append(f"\"{name}\" := json_transform({parsed}, '{shape}')")
            texts = (
                f"CASE WHEN json_type({parsed}) = 'VARCHAR' "
                f"THEN json_transform(TRY_CAST({parsed}->>'$' AS JSON), '{shape}') END"
            )
        elif (wanted, kind) in (("VARCHAR", "VARCHAR"), (["VARCHAR"], "VARCHAR[]")):
            parts.append(f'"{name}" := {quoted}')
        else:
            parts.append(f"\"{name}\" := json_transform(to_json({quoted}), '{shape}')")
    return f"struct_pack({', '.join(parts)}) AS one, {texts} AS texts"


def _count_lines(found: Records, path: Path) -> None:
    """Count the lines that are not JSON objects, which DuckDB leaves out silently."""
    sql = "SELECT count(*) FROM read_ndjson_objects(?, ignore_errors=true, maximum_object_size=16777216) WHERE json IS NULL"
    found.left_out("no JSON", found.value(sql, [_literal(path)]), "line", f"of {path.name} are not JSON")


def _literal(path: Path) -> str:
    """Return a path for DuckDB, with the characters of its patterns escaped."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in str(path))


TIME = """
CASE
  WHEN {0} IS NULL OR NOT regexp_matches({0}, '^[0-9]') THEN NULL
  WHEN regexp_full_match({0}, '[0-9]{{12,14}}(\\.[0-9]+)?') THEN make_timestamp(CAST(CAST({0} AS DOUBLE) * 1000 AS BIGINT))
  WHEN regexp_full_match({0}, '[0-9]{{9,11}}(\\.[0-9]+)?') THEN make_timestamp(CAST(CAST({0} AS DOUBLE) * 1000000 AS BIGINT))
  WHEN regexp_full_match({0}, '[0-9]{{15,17}}') THEN make_timestamp(CAST({0} AS BIGINT))
  ELSE TRY_CAST(regexp_replace({0}, '([+-][0-9]{{2}})([0-9]{{2}})$', '\\1:\\2') AS TIMESTAMPTZ)::TIMESTAMP
END
"""
"""UBI's dialects: milliseconds, seconds, microseconds, ISO 8601 with `Z`, `+00:00` or `+0000`, or without a zone (read as UTC).
DuckDB's own words for times, such as `infinity`, are none."""


def id_of(expression: str) -> str:
    """Return the SQL expression of a text as an identifier, null where its spelling means that there is none (`ABSENT_IDS`)."""
    absent = ", ".join(f"'{one}'" for one in sorted(ABSENT_IDS))
    return f"CASE WHEN lower(trim({expression})) NOT IN ({absent}) THEN {expression} END"


def time_of(expression: str) -> str:
    """Return the SQL expression of a text as a time, null where it is none."""
    return TIME.format(expression)
