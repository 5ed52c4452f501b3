"""UBI queries and events from NDJSON and Parquet files into DuckDB, one row for each document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from rewriter.errors import Fault
from rewriter.experiment.records import Records
from rewriter.signals.backfill.columns import unpatterned

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
                columns = found.rows(
                    "DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [unpatterned(path)]
                )
                kinds = {str(column): str(kind) for column, kind, *_ in columns}
                source = f"SELECT {_of_columns(form, nested, kinds)} FROM read_parquet(?, hive_partitioning = false)"
            else:
                _count_lines(found, path)
                documents = "read_ndjson_objects(?, ignore_errors=true, maximum_object_size=16777216)"
                source = f"SELECT {chosen} FROM (SELECT json AS doc FROM {documents}) WHERE doc IS NOT NULL"
            found.connection.execute(f"INSERT INTO {name} {source}", [unpatterned(path)])
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
    found.left_out("no JSON", found.value(sql, [unpatterned(path)]), "line", f"of {path.name} are not JSON")


def id_of(expression: str) -> str:
    """Return the SQL expression of a text as an identifier, null where it means that there is none, as in a history's rows.

    True, false, an empty list and an empty object were texts before: with `"event_id": false` all events would be one.
    """
    return f"CASE WHEN bare({expression}) NOT IN ('true', 'false', '[]', '{{}}') THEN there({expression}) END"


def time_of(expression: str) -> str:
    """Return the SQL expression of a text as a time, null where it is none, in the dialects of a history's rows.

    DuckDB's own words for times, such as `infinity`, are none.
    """
    moment = f"moment({expression})"
    return (
        f"CASE WHEN regexp_matches({expression}, '^\\s*[0-9]') AND isfinite({moment}) AND abs({moment}) < 1e11"
        f" THEN make_timestamp(CAST(round({moment} * 1e6) AS BIGINT)) END"
    )
