"""Reader of User Behavior Insights: queries with their shown items, and the clicks of events, as NDJSON or Parquet."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.clicks import ShownList
from rewriter.signals.absent import is_absent_id
from rewriter.signals.backfill.columns import unpatterned
from rewriter.signals.backfill.history import seconds_of

SHOWN = 5
MILLISECONDS = re.compile(r"\d{12,14}")
"""A time as text in milliseconds since the epoch, as exports of an index write it."""


@dataclass(slots=True)
class UbiLog:
    """The searches of a log in the order of time. left_out: unused documents by reason; applications: searches by application."""

    lists: list[ShownList]
    left_out: Counter[str] = field(default_factory=Counter)
    applications: Counter[str] = field(default_factory=Counter)

    @property
    def notes(self) -> list[str]:
        """Return a warning if searches of several applications are judged together."""
        if len(self.applications) < 2:
            return []
        named = ", ".join(f"{name} ({count:,})" for name, count in self.applications.most_common(SHOWN))
        return [f"the searches are of {len(self.applications)} applications: {named}; give files of one of them"]


def read_lists(queries: Sequence[Path], events: Sequence[Path], actions: Collection[str]) -> UbiLog:
    """Return the searches of UBI queries with their clicks. Raises ConfigurationError if there is none.

    actions: the action names that count as a click. A search's person is the `user_id` of its query, otherwise of its events (the
    plugin's queries have none), otherwise the `client_id`.
    """
    left_out: Counter[str] = Counter()
    clicked, users = _read_events(events, actions, left_out)
    found: dict[str, ShownList] = {}
    applications: Counter[str] = Counter()
    for one in _documents(queries, left_out):
        query_id, shown = one.get("query_id"), one.get("query_response_hit_ids")
        at_s = _time(one.get("timestamp"))
        if is_absent_id(query_id):
            left_out["queries without a query_id"] += 1
        elif at_s is None:
            left_out["queries without a time"] += 1
        elif not isinstance(shown, list) or not shown:
            left_out["queries without query_response_hit_ids"] += 1
        elif (name := str(query_id)) in found:
            left_out["queries with the query_id of another one"] += 1
        else:
            people = (one.get("user_id"), users.get(name), one.get("client_id"))
            person = next((str(each) for each in people if not is_absent_id(each)), "")
            ids = [str(item) for item in shown]
            found[name] = ShownList(name, person, str(one.get("user_query") or ""), at_s, ids, clicked.get(name, ()))
            applications[str(one.get("application") or "without a name")] += 1
    if foreign := sum(len(items) for name, items in clicked.items() if name not in found):
        left_out["events of no such query"] += foreign
    if not found:
        whys = "; ".join(f"{count:,} {why}" for why, count in left_out.items())
        what = "holds no search with its shown items" + (f": {whys}" if whys else "")
        raise ConfigurationError([Fault(", ".join(map(str, queries)), what)])
    return UbiLog(sorted(found.values(), key=lambda one: (one.at_s, one.query_id)), left_out, applications)


def _read_events(
    events: Sequence[Path], actions: Collection[str], left_out: Counter[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the clicked items and the `user_id` of each query_id."""
    clicked: dict[str, list[str]] = defaultdict(list)
    users: dict[str, str] = {}
    for one in _documents(events, left_out):
        query_id, user = one.get("query_id"), one.get("user_id")
        if not is_absent_id(query_id) and not is_absent_id(user):
            users.setdefault(str(query_id), str(user))
        action, attributes = one.get("action_name"), one.get("event_attributes")
        if not isinstance(action, str) or action not in actions:
            continue
        attributes = _object(attributes) if isinstance(attributes, str) else attributes
        item = attributes.get("object") if isinstance(attributes, Mapping) else None
        object_id = item.get("object_id") if isinstance(item, Mapping) else None
        if is_absent_id(query_id):
            left_out["events without a query_id"] += 1
        elif is_absent_id(object_id) or not isinstance(object_id, (str, int)):
            left_out["events without an object_id"] += 1
        else:
            clicked[str(query_id)].append(str(object_id))
    return clicked, users


def _documents(paths: Sequence[Path], left_out: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the documents of files. left_out counts the lines that are none."""
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
                    for (text,) in rows:
                        document = _object(text) if text else None
                        if document is None:
                            left_out["lines that are no JSON objects"] += 1
                        else:
                            yield document
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
        is_number = not isinstance(stamp, str) or MILLISECONDS.fullmatch(stamp)
        found = float(stamp) / 1000.0 if is_number else seconds_of(stamp)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) else None
