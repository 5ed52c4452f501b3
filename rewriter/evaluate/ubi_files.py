"""Reader of User Behavior Insights: queries with their shown items, and the clicks of events, as NDJSON or Parquet."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.clicks import ShownList
from rewriter.signals.backfill.columns import unpatterned
from rewriter.signals.backfill.history import seconds_of


def read_lists(queries: Sequence[Path], events: Sequence[Path], actions: Collection[str]) -> list[ShownList]:
    """Return the searches of UBI queries with their clicks, in the order of time. Raises ConfigurationError.

    actions: the action names that count as a click. Documents without a query_id, a time or hits are skipped.
    """
    clicked: dict[str, list[str]] = defaultdict(list)
    for one in _documents(events):
        action, attributes = one.get("action_name"), one.get("event_attributes")
        attributes = _object(attributes) if isinstance(attributes, str) else attributes
        item = attributes.get("object") if isinstance(attributes, Mapping) else None
        if isinstance(action, str) and action in actions and isinstance(item, Mapping) and item.get("object_id"):
            clicked[str(one.get("query_id"))].append(str(item["object_id"]))
    found: dict[str, ShownList] = {}
    for one in _documents(queries):
        query_id, shown = one.get("query_id"), one.get("query_response_hit_ids")
        at_s = _time(one.get("timestamp"))
        if not query_id or at_s is None or not isinstance(shown, list) or not shown:
            continue
        name = str(query_id)
        person = str(one.get("user_id") or one.get("client_id") or "")
        ids = [str(item) for item in shown]
        found.setdefault(
            name, ShownList(name, person, str(one.get("user_query") or ""), at_s, ids, clicked.get(name, ()))
        )
    if not found:
        raise ConfigurationError([Fault(", ".join(map(str, queries)), "holds no search with its shown items")])
    return sorted(found.values(), key=lambda one: (one.at_s, one.query_id))


def _documents(paths: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    import duckdb  # noqa: PLC0415  an extra

    for path in paths:
        source = (
            "SELECT to_json(file) FROM read_parquet(?, hive_partitioning = false) AS file"
            if path.suffix == ".parquet"
            else "SELECT json FROM read_ndjson_objects(?, ignore_errors=true)"
        )
        try:
            with duckdb.connect() as db:
                cursor = db.execute(source, [unpatterned(path)])
                while rows := cursor.fetchmany(10_000):
                    yield from (found for (text,) in rows if text and (found := _object(text)) is not None)
        except duckdb.Error as error:
            raise ConfigurationError([Fault(str(path), f"cannot be read: {type(error).__name__}")]) from None


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text, None for anything else: one row of somebody's must not cost the others."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _time(stamp: Any) -> float | None:
    try:
        found = seconds_of(stamp) if isinstance(stamp, str) else float(stamp) / 1000.0
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) else None
