"""Searches one index expression for the documents of many ids at once.

A search and not a multi-get: it reaches what the shop's searches reach, that is aliases of several indices, data streams, patterns
and documents with a routing of their own. The server says which id a hit has (`matched_queries`). `_source` does not: it may leave
the field out, and may spell a number or a date in another way.

An id may have many documents (variants of a product): any one of them stands for all.

One id that fails does not fail others. Where a search of many ids fails, the index is sent a search without any of them; if that
fails too, the index is away (`LookUpFailed`: all events wait). Else each id is asked for by itself (or, where the search took too
long, half as many at once, then a quarter); those that fail alone get a fault.
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
"""After how long an index's fields are read again where an event names one that it does not have."""
PASSING = frozenset({408, 429, 502, 503, 504})
"""Statuses of a server that is busy or on its way up or down."""
TRIES = 3
"""How often in a row look-ups of one field, or of one id, fail with such a status before the field or id is blamed; provided
that the index answers other searches."""
NO_SOURCE = "_source is disabled"
OBJECT_ID = "event_attributes.object.object_id"

Document = Mapping[str, Any]


class LookUpFailed(StoreError):
    """The index could not be asked. Events wait; none is dropped."""


class ObjectSearch:
    """Finds documents in one index, alias, data stream or pattern. Keeps what is known of its fields for `age_s`.

    attributes: the document fields that are wanted.
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
        """Return the documents of the ids in the field `name` (`_id`, or any other), and what is wrong with which ids.

        An id that is in neither has no document. Raises LookUpFailed.
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
        rest = [one for one in ids if one not in found]
        if not rest or answer["hits"]["total"]["value"] <= len(answer["hits"]["hits"]):
            return found, {}
        others, faults = self._each(name, field, rest)  # the documents of some ids left no room for those of others
        return found | others, faults

    def _search(self, field: IdField | None, ids: Sequence[str]) -> Any:
        """Send one search for the ids. Where an index keeps no `_source`, it is not asked for any more."""
        try:
            return self._sent(self._body(field, ids))
        except self._client.errors as error:
            if not self._has_source or NO_SOURCE not in str(self._client.fault_of(error).body):
                raise
            self._has_source = False
            return self._sent(self._body(field, ids))

    def _sent(self, body: Mapping[str, Any]) -> Any:
        """A shard that does not answer fails the search: what it holds must not pass for missing."""
        whole = {"allow_partial_search_results": "false"}
        return self._client.search(Search(self._index, body, whole), REQUEST_TIMEOUT_S)

    def _halves(
        self, name: str, field: IdField | None, ids: Sequence[str]
    ) -> tuple[dict[str, Document], dict[str, Fault]]:
        """Ask for half as many at once, until those that take too long are alone: each half has the whole time."""
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
        """Ask for each id in a search of its own."""
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
        for name in self._attributes:  # what `_source` does not have
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
        """Read the fields of the index where what is known of them is old, or does not have this one."""
        age_s = self._clock_s() - self._read_at_s
        is_new = self._fields is not None and name not in self._fields
        if age_s > (FIELDS_AGAIN_S if is_new else self._age_s):
            self._read_fields()

    def _read_fields(self) -> None:
        """Read the fields of the index. Where the role may not, nothing is known of them, and names are taken as they are."""
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
        """Raise LookUpFailed where the index is to blame for a search that failed, and not what it was asked for."""
        if _is_passing(self._client.fault_of(error)):
            self._failed[name] += 1
            if self._failed[name] < TRIES:
                raise self._failure(error) from error
        if not self._answers():
            raise self._failure(error) from error

    def _answers(self) -> bool:
        """Whether the index answers a look-up that holds nothing of any event."""
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
    """Whether an error is of a moment: no connection, no answer in time, an answer that is no JSON, a busy server."""
    return fault.status is None or fault.status in PASSING


def _kind(error: Any) -> str:
    """Return the name of what went wrong at the bottom. The server's sentence is left out: it repeats the id."""
    causes = error.get("root_cause") or [error] if isinstance(error, Mapping) else [{}]
    return str(causes[0].get("type", "an error"))[:100]
