"""Look-up of many objects at once by a search in one index expression.

It is a search and not a multi-get, so that it covers the same as the shop's searches: aliases of several indices, data streams,
patterns, and documents with custom routing. The id of a hit is taken from `matched_queries`, not from `_source`, which may omit the
field or spell a number or a date differently.

An id may have several documents (variants of a product); any one of them represents the object.

An id that fails does not fail others. If a search for many ids fails, a search without any id follows; if that fails too, the index
is unavailable (`LookUpFailed`: all events wait). Else each id is searched by itself (after a time-out, half as many at once, then a
quarter); those that fail alone get a fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from rewriter.client.seam import ClientFault, Search, SearchClient
from rewriter.errors import Fault, StoreError
from rewriter.signals.events import kept_fields, leaf, texts
from rewriter.signals.ingest.object_fields import IdField, IndexField, fields_of, id_field

REQUEST_TIMEOUT_S = 2.0
FIELDS_AGAIN_S = 30.0
"""Interval at which an index's fields are read again while events name a field that it lacks."""
PASSING = frozenset({408, 429, 502, 503, 504})
"""Statuses of a server that is busy, starting or stopping."""
TRIES = 3
"""Look-ups of one field, or of one id, that must fail in a row with such a status before the field or id counts as the cause, if
the index answers other searches."""
NO_SOURCE = "_source is disabled"
OBJECT_ID = "event_attributes.object.object_id"

Document = Mapping[str, Any]


class LookUpFailed(StoreError):
    """The index could not be searched. Events wait; none is dropped."""

    source = "search engine"


class ObjectSearch:
    """Finds documents in one index, alias, data stream or pattern.

    attributes: the document fields to read.
    age_s:      seconds for which the index's fields are cached.
    clock_s:    monotonic seconds.
    """

    def __init__(
        self,
        client: SearchClient,
        index: str,
        attributes: Collection[str],
        *,
        age_s: float,
        clock_s: Callable[[], float],
    ) -> None:
        self._client = client
        self._index = index
        self._attributes = sorted(attributes)
        self._age_s = age_s
        self._clock_s = clock_s
        self._fields: dict[str, IndexField] | None = None
        self._read_at_s = float("-inf")
        self._has_source = bool(self._attributes)
        self._failed: Counter[str] = Counter()
        self._tries: Counter[tuple[str, str]] = Counter()

    def find(self, name: str, ids: Sequence[str]) -> tuple[dict[str, Document], dict[str, Fault]]:
        """Return documents by id, and faults by id, for ids in the field `name` (`_id` or any other).

        An id that is in neither has no document. Raises LookUpFailed if the index cannot be searched.
        """
        self._know_fields(name)
        field = None if name == "_id" else id_field(self._fields, name)
        if isinstance(field, Fault):
            return {}, dict.fromkeys(ids, field)
        try:
            answer = self._search(field, ids)
        except self._client.errors as error:
            self._blame_index(name, error)
            is_passing = _is_passing(self._client.fault_of(error))
            return self._halves(name, field, ids) if is_passing else self._each(name, field, ids)
        self._failed.pop(name, None)
        return self._read(answer, name, field, ids)

    def _read(
        self, answer: Mapping[str, Any], name: str, field: IdField | None, ids: Sequence[str]
    ) -> tuple[dict[str, Document], dict[str, Fault]]:
        found = dict(self._found(answer, field, ids))
        left = [one for one in ids if one not in found]
        if not left or answer["hits"]["total"]["value"] <= len(answer["hits"]["hits"]):
            return found, {}
        others, faults = self._each(name, field, left)  # documents of some ids filled the page
        return found | others, faults

    def _search(self, field: IdField | None, ids: Sequence[str]) -> Any:
        """Send one search for the ids. If an index stores no `_source`, it is not requested any more."""
        try:
            return self._sent(self._body(field, ids))
        except self._client.errors as error:
            if not self._has_source or NO_SOURCE not in str(self._client.fault_of(error).body):
                raise
            self._has_source = False
            return self._sent(self._body(field, ids))

    def _sent(self, body: Mapping[str, Any]) -> Any:
        """Send a search that fails if a shard does not answer, so that its documents do not count as missing."""
        whole = {"allow_partial_search_results": "false"}
        return self._client.search(Search(self._index, body, whole), REQUEST_TIMEOUT_S)

    def _halves(
        self, name: str, field: IdField | None, ids: Sequence[str]
    ) -> tuple[dict[str, Document], dict[str, Fault]]:
        """Search for half as many ids at once, until the slow ones are alone; each half has the full time-out."""
        if len(ids) == 1:
            return {}, {ids[0]: Fault(OBJECT_ID, "cannot be looked up: the index does not answer in time, or not now")}
        found: dict[str, Document] = {}
        faults: dict[str, Fault] = {}
        for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
            try:
                more = self._read(self._search(field, half), name, field, half)
            except self._client.errors as error:
                if not self._answers():
                    raise self._failure(error) from error
                more = self._halves(name, field, half)
            found |= more[0]
            faults |= more[1]
        return found, faults

    def _each(
        self, name: str, field: IdField | None, ids: Sequence[str]
    ) -> tuple[dict[str, Document], dict[str, Fault]]:
        """Search for each id by itself, in one `_msearch`."""
        whole = {"allow_partial_search_results": False}
        searches = [Search(self._index, self._body(field, [one]), whole) for one in ids]
        try:
            answers = self._client.multi_search(searches, REQUEST_TIMEOUT_S)["responses"]
        except self._client.errors as error:
            raise self._failure(error) from error
        found: dict[str, Document] = {}
        faults: dict[str, Fault] = {}
        for one, answer in zip(ids, answers, strict=True):
            if "error" not in answer:
                found |= self._found(answer, field, [one])
                self._tries.pop((name, one), None)
                continue
            kind = _kind(answer["error"])
            if not faults and not self._answers():
                raise LookUpFailed(f"objects cannot be looked up in {self._index}: {kind}")
            self._tries[name, one] += 1
            if answer.get("status") in PASSING and self._tries[name, one] < TRIES:
                raise LookUpFailed(f"objects cannot be looked up in {self._index}: {kind}")
            del self._tries[name, one]
            faults[one] = Fault(OBJECT_ID, f"cannot be looked up: the index answers {kind}")
        return found, faults

    def _body(self, field: IdField | None, ids: Sequence[str]) -> dict[str, Any]:
        if field is None:
            query: dict[str, Any] = {"ids": {"values": list(ids)}}
        else:
            should = [field.clause(one, str(number)) for number, one in enumerate(ids)]
            query = {"bool": {"should": should, "minimum_should_match": 1}}
        body: dict[str, Any] = {
            "size": len(ids),
            "query": {"bool": {"filter": [query]}},
            "_source": self._has_source and [*self._attributes, *([field.name] if field and field.is_verified else [])],
            "track_total_hits": True,
        }
        for name in self._attributes:  # for values that `_source` lacks
            if self._fields and (known := self._fields.get(name)) and known.has_values:
                body.setdefault("docvalue_fields" if known.has_doc_values else "stored_fields", []).append(name)
        return body

    def _found(
        self, answer: Mapping[str, Any], field: IdField | None, ids: Sequence[str]
    ) -> Iterator[tuple[str, Document]]:
        wanted = set(ids)
        for hit in answer["hits"]["hits"]:
            source = hit.get("_source") or {}
            if field is None:
                matched = [hit["_id"]] if hit["_id"] in wanted else []
            else:
                matched = [ids[int(number)] for number in hit.get("matched_queries", ())]
            if field is not None and field.is_verified:
                spelled = texts(leaf(source, field.name))
                matched = [one for one in matched if one in spelled]
            if not matched:
                continue
            indexed = hit.get("fields", {})
            document = {**kept_fields(indexed, self._attributes), **kept_fields(source, self._attributes)}
            document["_id"] = hit["_id"]
            for one in matched:
                yield one, document

    def _know_fields(self, name: str) -> None:
        """Read the fields of the index if the cached ones are old or lack `name`."""
        age_s = self._clock_s() - self._read_at_s
        is_new = self._fields is not None and name not in self._fields
        if age_s > (FIELDS_AGAIN_S if is_new else self._age_s):
            self._read_fields()

    def _read_fields(self) -> None:
        """Read the fields of the index. If the role may not, they stay unknown, and field names are used as they are."""
        try:
            caps = self._client.field_caps(self._index, REQUEST_TIMEOUT_S)
        except self._client.errors as error:
            if _is_passing(self._client.fault_of(error)) or not self._answers():
                raise self._failure(error) from error
            self._fields = None
        else:
            if not caps["indices"]:
                raise LookUpFailed(f"objects cannot be looked up: no index is called {self._index}")
            self._fields = fields_of(caps)
        self._read_at_s = self._clock_s()

    def _blame_index(self, name: str, error: Exception) -> None:
        """Raise LookUpFailed if the index, and not the ids, caused a failed search."""
        if _is_passing(self._client.fault_of(error)):
            self._failed[name] += 1
            if self._failed[name] < TRIES:
                raise self._failure(error) from error
        if not self._answers():
            raise self._failure(error) from error

    def _answers(self) -> bool:
        """Whether the index answers a look-up that contains nothing of an event."""
        try:
            self._search(None, ["-"])
        except self._client.errors:
            return False
        return True

    def _failure(self, error: Exception) -> LookUpFailed:
        fault = self._client.fault_of(error)
        status = f" {fault.status} {fault.error}" if fault.status is not None else ""
        return LookUpFailed(f"objects cannot be looked up in {self._index}: {fault.name}{status}"[:300])


def _is_passing(fault: ClientFault) -> bool:
    """Whether an error may be temporary: no connection, a time-out, an answer that is no JSON, a busy server."""
    return fault.status is None or fault.status in PASSING


def _kind(error: Any) -> str:
    """Return the type of an error's root cause. Its message is left out, since it quotes the id."""
    causes = error.get("root_cause") or [error] if isinstance(error, Mapping) else [{}]
    return str(causes[0].get("type", "an error"))[:100]
