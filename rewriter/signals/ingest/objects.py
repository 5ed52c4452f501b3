"""What an event's object is: its document's attributes, looked up in the index many at a time and remembered for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from opensearchpy.exceptions import OpenSearchException, RequestError

from rewriter.errors import StoreError
from rewriter.signals.events import leaf, texts

AT_ONCE = 500
REQUEST_TIMEOUT_S = 2.0

ObjectKey = tuple[str, str]
"""A document field and what it holds; the field is `_id` for most."""


class LookUpFailed(StoreError):
    """The index could not be asked. Events wait; none is dropped."""


class Objects:
    """Looks objects up in `indices`, one after the other, until they are found.

    attributes: the document fields that are wanted; max_objects, age_s: how many documents are remembered, and how long.
    """

    def __init__(
        self,
        client: Any,
        indices: Sequence[str],
        attributes: Collection[str],
        *,
        max_objects: int,
        age_s: float,
        clock_s: Callable[[], float],
    ) -> None:
        self._client = client
        self._indices = indices
        self._attributes = sorted(set(attributes) - {"_id"})
        self._max_objects = max_objects
        self._age_s = age_s
        self._clock_s = clock_s
        self._known: OrderedDict[ObjectKey, tuple[float, Mapping[str, Any]]] = OrderedDict()

    def find(self, wanted: Collection[ObjectKey]) -> dict[ObjectKey, Mapping[str, Any]]:
        """Return the documents of those that exist. Raises LookUpFailed."""
        found = self._remembered(wanted)
        missing = [key for key in dict.fromkeys(wanted) if key not in found]
        try:
            for index in self._indices:
                fresh = dict(self._asked(index, missing))
                self._remember(fresh)
                found |= fresh
                missing = [key for key in missing if key not in fresh]
        except OpenSearchException as error:
            raise LookUpFailed(f"objects cannot be looked up: {type(error).__name__}") from error
        return found

    def _remembered(self, wanted: Collection[ObjectKey]) -> dict[ObjectKey, Mapping[str, Any]]:
        oldest_s = self._clock_s() - self._age_s
        found = {}
        for key in wanted:
            if (known := self._known.get(key)) is not None and known[0] > oldest_s:
                found[key] = known[1]
        return found

    def _remember(self, fresh: Mapping[ObjectKey, Mapping[str, Any]]) -> None:
        now_s = self._clock_s()
        for key, document in fresh.items():
            self._known[key] = (now_s, document)
            self._known.move_to_end(key)
        while len(self._known) > self._max_objects:
            self._known.popitem(last=False)

    def _asked(self, index: str, wanted: Sequence[ObjectKey]) -> Iterator[tuple[ObjectKey, Mapping[str, Any]]]:
        by_field: dict[str, list[str]] = {}
        for name, text in wanted:
            by_field.setdefault(name, []).append(text)
        for name, ids in by_field.items():
            rest = iter(ids)
            while chunk := list(islice(rest, AT_ONCE)):
                yield from self._by_id(index, chunk) if name == "_id" else self._by_field(index, name, chunk)

    def _by_id(self, index: str, ids: list[str]) -> Iterator[tuple[ObjectKey, Mapping[str, Any]]]:
        answer = self._client.mget(
            index=index,
            body={"ids": ids},
            _source_includes=",".join(self._attributes) or "_id",
            request_timeout=REQUEST_TIMEOUT_S,
        )
        for one in answer["docs"]:
            if "error" in one:  # the index is missing or closed, which is no fault of the objects
                raise LookUpFailed(f"objects cannot be looked up in {index}: {one['error'].get('type')}")
            if one.get("found"):
                yield ("_id", one["_id"]), {**one.get("_source", {}), "_id": one["_id"]}

    def _by_field(self, index: str, name: str, ids: list[str]) -> Iterator[tuple[ObjectKey, Mapping[str, Any]]]:
        """Where many documents have the same id, as variants do, one of them stands for all."""
        body = {
            "size": len(ids),
            "query": {"bool": {"filter": [{"terms": {name: ids}}]}},
            "collapse": {"field": name},
            "_source": [*self._attributes, name],
            "track_total_hits": False,
        }
        try:
            answer = self._client.search(index=index, body=body, request_timeout=REQUEST_TIMEOUT_S)
        except RequestError:
            return  # no such field, or none that can be asked: the event named it, and nothing has that id
        for hit in answer["hits"]["hits"]:
            for text in texts(leaf(hit["_source"], name)):
                if text in ids:
                    yield (name, text), {**hit["_source"], "_id": hit["_id"]}
