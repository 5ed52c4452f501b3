"""Decayed popularity of items: what everybody did with each item of a history, for a field of the documents.

    popularity(i) = Σ weight · 2^(−(end − t) / half-life) / heaviest

over the events of item i with a positive weight, with the heaviest of the actions' weights: a purchase counts 1 where none weighs
more, a view its part of one. So it stays a count, whatever the weights.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

AT_ONCE = 10_000
UPDATED_AT_ONCE = 1_000
"""Documents of one bulk request: some 100 KB."""
NAMED = 5
"""Rejected documents that are named."""
DIGITS = 4
MAX_ID_BYTES = 512
"""Bytes of the longest id that a document can have: a request with a longer one is refused whole."""


def popularities(db: Any, until_s: float, half_life_s: float, heaviest: float) -> Iterator[tuple[str, float]]:
    """Yield each item's id and popularity as of `until_s`, of the tables `chosen` and `docs` of a history."""
    cursor = db.cursor().execute(
        f"""
        SELECT object_id, sum(weight * pow(2, greatest(-1000, (at_s - {until_s!r}) / {half_life_s!r}))) / {heaviest!r}
        FROM chosen JOIN docs USING (doc) WHERE weight > 0 GROUP BY object_id ORDER BY object_id
        """
    )
    while rows := cursor.fetchmany(AT_ONCE):
        yield from ((name, round(popularity, DIGITS)) for name, popularity in rows)


def can_be_id(name: str) -> bool:
    """Whether a document can have this id."""
    return len(name.encode()) <= MAX_ID_BYTES


def bulk_lines(found: Iterable[tuple[str, float]], field_name: str) -> Iterator[dict[str, Any]]:
    """Yield the two objects of each item's partial update, as `_bulk` takes them: no other field changes."""
    for name, popularity in found:
        yield {"update": {"_id": name, "retry_on_conflict": 3}}
        yield {"doc": {field_name: popularity}}


def as_text(lines: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield objects as NDJSON."""
    return (json.dumps(one, ensure_ascii=False) + "\n" for one in lines)


@dataclass(slots=True)
class Updated:
    """How many documents were updated, were not in the index, and were rejected.

    reasons: rejected documents by the server's type of error. named: the ids of the first ones, each with its error.
    """

    updated: int = 0
    missing: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """The number of rejected documents."""
        return self.reasons.total()

    def note(self, answer: Mapping[str, Any]) -> None:
        """Count the items of the answer to a bulk request."""
        for one in answer["items"]:
            outcome = one["update"]
            if 200 <= outcome["status"] < 300:
                self.updated += 1
            elif outcome["status"] == 404 and "index_not_found" not in str(outcome.get("error")):
                self.missing += 1
            else:
                error = outcome.get("error") or {}
                kind = str(error.get("type", outcome["status"]))
                self.reasons[kind] += 1
                if len(self.named) < NAMED:
                    self.named.append(f"{outcome['_id']}: {kind}: {str(error.get('reason', ''))[:120]}")


def update(
    send: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
    found: Iterable[tuple[str, float]],
    field_name: str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Updated:
    """Write popularities into the documents, each as a partial update of one field, and return what became of them.

    send: sends the lines of one bulk request and returns its answer. on_progress: called with the number of documents sent.
    """
    done, sent = Updated(), 0
    left = iter(found)
    while chunk := list(islice(left, UPDATED_AT_ONCE)):
        some = [one for one in chunk if can_be_id(one[0])]
        done.missing += len(chunk) - len(some)
        if some:
            done.note(send(list(bulk_lines(some, field_name))))
        sent += len(chunk)
        on_progress(sent)
    return done
