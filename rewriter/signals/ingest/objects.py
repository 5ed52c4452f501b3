"""Documents of events' objects: their attributes, looked up in the index in bulk and cached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from sys import getsizeof
from typing import Any

from rewriter.bounded import Bounded
from rewriter.client.seam import SearchClient
from rewriter.errors import Fault
from rewriter.signals.ingest.object_search import OBJECT_ID, LookUpFailed, ObjectSearch

__all__ = ["LookUpFailed", "ObjectKey", "Objects"]

AT_ONCE = 500
REFUSED_BYTES, REFUSED_AGE_S = 2**20, 20.0
"""Size and age of the cache of ids that the index refused. To identify such an id may take longer than a lease lasts; the next
round must then skip it at once."""
OVERHEAD_BYTES = 400
"""Memory of a cached object besides its texts: key, tuple, dict, entries in the cache's own tables."""
NOT_THERE = Fault(OBJECT_ID, "is not in the index")

ObjectKey = tuple[str, str]
"""A document field and its value, an object's id; the field is usually `_id`."""


class Objects:
    """Looks objects up in `indices`, one after the other until they are found, and caches their documents.

    attributes: the document fields to read.
    max_objects, max_bytes, age_s: limits of the cache: documents, bytes of memory, seconds.
    """

    def __init__(
        self,
        client: SearchClient,
        indices: Sequence[str],
        attributes: Collection[str],
        *,
        max_objects: int,
        age_s: float,
        clock_s: Callable[[], float],
        max_bytes: int = 64 * 2**20,
    ) -> None:
        wanted = set(attributes) - {"_id"}
        self._searches = [ObjectSearch(client, index, wanted, age_s=age_s, clock_s=clock_s) for index in indices]
        self._clock_s = clock_s
        self._known: Bounded[ObjectKey, Mapping[str, Any]] = Bounded(
            max_bytes=max_bytes, max_age_s=age_s, max_count=max_objects
        )
        self._refused: Bounded[ObjectKey, Fault] = Bounded(max_bytes=REFUSED_BYTES, max_age_s=REFUSED_AGE_S)
        self._faults: dict[ObjectKey, Fault] = {}

    def find(self, wanted: Collection[ObjectKey]) -> dict[ObjectKey, Mapping[str, Any]]:
        """Return the documents of the existing objects, each with `_id` and its attributes by dotted path.

        Raises LookUpFailed if the index cannot be searched.
        """
        now_s = self._clock_s()
        found, missing = {}, []
        refused: dict[ObjectKey, Fault] = {}
        for key in dict.fromkeys(wanted):
            if (known := self._known.get(key, now_s)) is not None:
                found[key] = known
            elif (fault := self._refused.get(key, now_s)) is not None:
                refused[key] = fault
            else:
                missing.append(key)
        self._faults = {}
        requested: set[ObjectKey] = set()
        for search in self._searches:
            for key, document in self._look_up(search, missing, requested):
                found[key] = document
                self._known.put(key, document, _size(key, document), self._clock_s())
            missing = [key for key in missing if key not in found]
        self._faults = {key: fault for key, fault in self._faults.items() if key not in found and key not in requested}
        for key, fault in self._faults.items():
            if fault.where == OBJECT_ID:
                self._refused.put(key, fault, OVERHEAD_BYTES + getsizeof(key[1]), self._clock_s())
        self._faults |= refused
        return found

    def fault_of(self, key: ObjectKey) -> Fault:
        """Return the fault for which the last `find` did not return an object."""
        return self._faults.get(key, NOT_THERE)

    def _look_up(
        self, search: ObjectSearch, wanted: Sequence[ObjectKey], requested: set[ObjectKey]
    ) -> list[tuple[ObjectKey, Mapping[str, Any]]]:
        """Return the objects that one index has. Add those that it could be searched for to `requested`, others to the faults."""
        by_field: dict[str, list[str]] = {}
        for name, text in wanted:
            by_field.setdefault(name, []).append(text)
        answers = []
        for name, ids in by_field.items():
            left = iter(ids)
            while chunk := list(islice(left, AT_ONCE)):
                found, faults = search.find(name, chunk)
                answers += [((name, one), document) for one, document in found.items()]
                self._faults |= {(name, one): fault for one, fault in faults.items()}
                requested |= {(name, one) for one in chunk if one not in faults}
        return answers


def _size(key: ObjectKey, document: Mapping[str, Any]) -> int:
    """Return the bytes of memory that a cached document takes."""
    parts = [one for value in document.values() for one in (value if isinstance(value, list) else (value,))]
    return OVERHEAD_BYTES + getsizeof(document) + sum(map(getsizeof, (*key, *parts))) + 8 * len(parts)
