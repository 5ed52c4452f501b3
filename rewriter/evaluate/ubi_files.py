"""Reader of User Behavior Insights: queries with their shown items, and the clicks of events, as NDJSON or Parquet."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.clicks import ShownList
from rewriter.plural import agreeing, count_of
from rewriter.signals.absent import is_absent_id
from rewriter.signals.backfill.columns import refuse_other_bytes, unpatterned
from rewriter.signals.backfill.history import seconds_of

SHOWN = 5
MILLISECONDS = re.compile(r"\d{12,14}")
"""A time as text in milliseconds since the epoch, as exports of an index write it."""
IMPRESSION = "impression"
"""The action name of an event that says that an item was shown."""


@dataclass(slots=True)
class UbiLog:
    """The searches of a log in the order of time.

    left_out: unused documents by reason; applications: searches by application. broken: a text for each file with broken lines.
    by_impressions: searches whose shown items are known from impression events alone.
    """

    lists: list[ShownList]
    left_out: Counter[str] = field(default_factory=Counter)
    applications: Counter[str] = field(default_factory=Counter)
    broken: Sequence[str] = ()
    by_impressions: int = 0

    @property
    def notes(self) -> list[str]:
        """Return what a reader of the figures should know of the files."""
        found = list(self.broken)
        if self.by_impressions:
            found.append(
                f"{self.by_impressions:,} of {count_of(len(self.lists), 'search')} {agreeing(self.by_impressions, 'have')} no "
                "query_response_hit_ids: what they showed is taken from impression events"
            )
        if len(self.applications) > 1:
            named = ", ".join(f"{name} ({count:,})" for name, count in self.applications.most_common(SHOWN))
            found.append(
                f"the searches are of {len(self.applications)} applications: {named}; give files of one of them"
            )
        return found


@dataclass(slots=True)
class _Events:
    """The events of each query: clicked items, shown items with their position, and the `user_id`."""

    clicked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    users: dict[str, str] = field(default_factory=dict)

    def impressions(self, query_id: str) -> list[str]:
        """Return a query's shown items by their `ordinal`, those without one last, in the order of their events."""
        return list(dict.fromkeys(item for _, item in sorted(self.shown.get(query_id, ()), key=lambda one: one[0])))


def read_lists(queries: Sequence[Path], events: Sequence[Path], actions: Collection[str]) -> UbiLog:
    """Return the searches of UBI queries with their clicks. Raises ConfigurationError if there is none.

    actions: the action names that count as a click. A search's person is the `user_id` of its query, otherwise of its events (the
    plugin's queries have none), otherwise the `client_id`. What it showed are its `query_response_hit_ids`, otherwise the items of
    its impression events.
    """
    left_out: Counter[str] = Counter()
    broken: list[str] = []
    known = _read_events(events, actions, left_out, broken)
    clicked, by_impressions = known.clicked, 0
    found: dict[str, ShownList] = {}
    applications: Counter[str] = Counter()
    waiting: list[tuple[str, Mapping[str, Any], float]] = []

    def add(name: str, one: Mapping[str, Any], at_s: float, ids: list[str]) -> None:
        people = (one.get("user_id"), known.users.get(name), one.get("client_id"))
        person = next((str(each) for each in people if not is_absent_id(each)), "")
        found[name] = ShownList(name, person, str(one.get("user_query") or ""), at_s, ids, clicked.get(name, ()))
        applications[str(one.get("application") or "without a name")] += 1

    for one in _documents(queries, left_out, broken):
        query_id, shown = one.get("query_id"), one.get("query_response_hit_ids")
        at_s = _time(one.get("timestamp"))
        if is_absent_id(query_id):
            left_out["queries without a query_id"] += 1
        elif at_s is None:
            left_out["queries without a time"] += 1
        elif (name := str(query_id)) in found:
            left_out["queries with the query_id of another one"] += 1
        elif isinstance(shown, list) and shown:
            add(name, one, at_s, [str(item) for item in shown])
        else:
            waiting.append((name, one, at_s))
    for name, one, at_s in waiting:  # the client's document of a query may come before the plugin's, which has the hits
        if name in found:
            left_out["queries with the query_id of another one"] += 1
        elif ids := known.impressions(name):
            by_impressions += 1
            add(name, one, at_s, ids)
        else:
            left_out["queries without query_response_hit_ids and without impressions"] += 1
    if foreign := sum(len(items) for name, items in clicked.items() if name not in found):
        left_out["events of no such query"] += foreign
    if not found:
        whys = "; ".join([*(f"{count:,} {why}" for why, count in left_out.items()), *broken])
        what = "holds no search with its shown items" + (f": {whys}" if whys else "")
        raise ConfigurationError([Fault(", ".join(map(str, queries)), what)])
    lists = sorted(found.values(), key=lambda one: (one.at_s, one.query_id))
    return UbiLog(lists, left_out, applications, broken, by_impressions)


def _read_events(
    events: Sequence[Path], actions: Collection[str], left_out: Counter[str], broken: list[str]
) -> _Events:
    """Return what events tell of each query."""
    found = _Events()
    for one in _documents(events, left_out, broken):
        query_id, user = one.get("query_id"), one.get("user_id")
        if not is_absent_id(query_id) and not is_absent_id(user):
            found.users.setdefault(str(query_id), str(user))
        action, attributes = one.get("action_name"), one.get("event_attributes")
        if not isinstance(action, str) or (action not in actions and action != IMPRESSION):
            continue
        attributes = _object(attributes) if isinstance(attributes, str) else attributes
        item = attributes.get("object") if isinstance(attributes, Mapping) else None
        object_id = item.get("object_id") if isinstance(item, Mapping) else None
        kind = "events" if action in actions else "impressions"
        if is_absent_id(query_id):
            left_out[f"{kind} without a query_id"] += 1
        elif is_absent_id(object_id) or not isinstance(object_id, (str, int)):
            left_out[f"{kind} without an object_id"] += 1
        else:
            if action in actions:
                found.clicked[str(query_id)].append(str(object_id))
            if action == IMPRESSION:
                found.shown[str(query_id)].append((_ordinal(attributes), str(object_id)))
    return found


def _ordinal(attributes: Any) -> float:
    """Return an item's place in its list, from 0 or from 1 as applications count; infinity if the event has none."""
    position = attributes.get("position") if isinstance(attributes, Mapping) else None
    found = position.get("ordinal") if isinstance(position, Mapping) else None
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) and isfinite(found) else inf


def _documents(paths: Sequence[Path], left_out: Counter[str], broken: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the documents of files. left_out counts the lines that are none, broken says in which file and from which line on."""
    for path in paths:
        number = bad = first = 0
        for number, text in enumerate(_parquet(path) if path.suffix.lower() == ".parquet" else _lines(path), 1):
            if not text.strip():
                continue
            if (document := _object(text)) is not None:
                yield document
                continue
            bad, first = bad + 1, first or number
        if bad:
            left_out["lines that are no JSON objects"] += bad
            not_objects = "is no JSON object" if bad == 1 else "are no JSON objects"
            what = f"{bad:,} of {count_of(number, 'line')} {not_objects}"
            broken.append(f"{path}: {what}, the first is line {first:,}")


def _lines(path: Path) -> Iterator[str | bytes]:
    """Yield the lines of a text file, read piece by piece: a log may be large."""
    try:
        refuse_other_bytes(str(path))
        with path.open("rb") as file:
            for number, line in enumerate(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except OSError as error:
        raise ConfigurationError([Fault(str(path), f"cannot be read: {error.strerror or error}")]) from None


def _parquet(path: Path) -> Iterator[str]:
    """Yield the rows of a Parquet file as JSON. Attributes may be nested (structs) or JSON as text."""
    import duckdb  # noqa: PLC0415  an extra

    try:
        with duckdb.connect() as db:
            cursor = db.execute(
                "SELECT to_json(file) FROM read_parquet(?, hive_partitioning = false) AS file", [unpatterned(path)]
            )
            while rows := cursor.fetchmany(10_000):
                yield from (text for (text,) in rows)
    except duckdb.Error as error:
        raise ConfigurationError([Fault(str(path), f"cannot be read: {type(error).__name__}")]) from None


def _object(text: str | bytes) -> dict[str, Any] | None:
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
