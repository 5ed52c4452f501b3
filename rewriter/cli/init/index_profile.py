"""The figures by which `rewriter init` chooses: the documents and values of each field, and the times of dates.

Three rounds of aggregations, twenty fields at a time, then one search of ids. Beyond `SAMPLE` documents they run on a random sample
of about that many, the same in each run, so that an index of millions costs one scan a request and little memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from rewriter.cli.causes import cause_of
from rewriter.client.seam import Search, SearchClient
from rewriter.errors import Fault
from rewriter.index_facts import FRACTIONS, NUMBERS, WHOLE_VALUES, IndexFacts

SAMPLE = 100_000
"""About the number of documents from which the figures of a larger index are computed."""
MAX_FIELDS = 400
"""Most fields measured; a mapping holds up to 1,000 by default, and most fields of a large mapping are never searched."""
AT_ONCE = 20
TIMEOUT_S = 60.0
TOP = 200
RECENT_D = 30
"""Days within which a document is recent."""
PRECISION = 10_000
"""Up to this many distinct values a count is nearly exact; beyond, within a few percent."""
MAX_CLASSES, MAX_NARROWED, BUCKETS = 8, 8, 50
IDS = 50
DATES = frozenset({"date", "date_nanos"})
INTEGERS = frozenset(NUMBERS) - FRACTIONS
GENERATED_ID = re.compile(r"[A-Za-z0-9_-]{20}")
"""The form of an id that the server makes up."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FieldValues:
    """The figures of a keyword or an integer.

    documents:   how many have a value.
    distinct:    how many values there are.
    occurrences: how many values all documents have together.
    top:         the most frequent values, each with its number of documents; read only where values are shared.
    """

    name: str
    kind: str
    documents: int
    distinct: int
    occurrences: int
    top: tuple[tuple[str, int], ...] = ()

    @property
    def shared_by(self) -> float:
        """The mean number of documents of a value."""
        return self.occurrences / self.distinct if self.distinct else 0.0

    @property
    def per_document(self) -> float:
        """The mean number of values of a document that has any."""
        return self.occurrences / self.documents if self.documents else 0.0


@dataclass(frozen=True, slots=True)
class FieldDates:
    """The figures of a date: documents that have one, the first, the last, the times after which half and a quarter of them lie
    (seconds since the epoch), how many lie more than a day ahead, and how many in the last RECENT_D days.
    """

    name: str
    documents: int
    first_s: float
    last_s: float
    half_s: float
    quarter_s: float
    ahead: int
    recent: int = 0


@dataclass(frozen=True, slots=True)
class IndexProfile:
    """The figures of the indices that an index expression stands for.

    expression: as it was given.
    indices:    the concrete indices behind it.
    facts:      merged over them.
    documents:  their number; measured: the number of documents that the figures are computed from.
    narrowing:  (class, other field) → the mean number of the other's values within one value of the class, divided by the number
                that as many documents drawn at random would have: 1 if the two fields are independent.
    has_generated_ids: whether the ids that were looked at are of the form that the server makes up.
    is_data_stream: whether the expression names one.
    alias_fields: fields of the type `alias`, which stand for others.
    unmeasured: fields that have no figures, each with the reason.
    """

    expression: str
    indices: tuple[str, ...]
    facts: IndexFacts
    documents: int = 0
    measured: int = 0
    values: Mapping[str, FieldValues] = field(default_factory=dict)
    dates: Mapping[str, FieldDates] = field(default_factory=dict)
    narrowing: Mapping[tuple[str, str], float] = field(default_factory=dict)
    has_generated_ids: bool = False
    is_data_stream: bool = False
    alias_fields: frozenset[str] = frozenset()
    unmeasured: tuple[Fault, ...] = ()

    def source_field(self, name: str) -> str:
        """Return the field of the documents that fills a field: `brand` for the sub-field `brand.keyword`."""
        parent = name.rpartition(".")[0]
        kinds = self.facts.kinds(parent)
        return parent if kinds and not {"nested", "object", "flat_object"} & set(kinds) else name


def measure(client: SearchClient, profile: IndexProfile, now_ms: int, on_progress: Progress) -> IndexProfile:
    """Return the profile with its figures.

    profile: `expression`, `indices` and `facts` known, the rest not.
    now_ms:  a date lies ahead if it is more than a day after this time (milliseconds since the epoch).

    Raises one of `client.errors` if the index cannot be searched at all. A field that cannot be aggregated is left out with its
    reason.
    """
    counted = _searched(client, profile, {"size": 0, "track_total_hits": True})
    profile = replace(profile, documents=int(counted["hits"]["total"]["value"]))
    return _Measurement(client, profile, now_ms, on_progress).run() if profile.documents else profile


def _searched(client: SearchClient, profile: IndexProfile, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Search the index without its default search pipeline, which may change answers, and may not even exist."""
    params = {"search_pipeline": "_none"} if profile.facts.default_pipeline else {}
    answer: Mapping[str, Any] = client.search(Search(profile.expression, body, params), TIMEOUT_S)
    return answer


class _Measurement:
    def __init__(self, client: SearchClient, profile: IndexProfile, now_ms: int, on_progress: Progress) -> None:
        self._client = client
        self._profile = profile
        self._now_ms = now_ms
        self._on_progress = on_progress
        self._measured = profile.documents
        self._unmeasured: list[Fault] = []

    def run(self) -> IndexProfile:
        usable = self._aggregatable()
        kinds = {name: kind for name in usable if (kind := _kind(self._profile.facts, name))}
        counted = [name for name, kind in kinds.items() if kind in WHOLE_VALUES or kind in INTEGERS]
        dated = [name for name, kind in kinds.items() if kind in DATES]
        self._total, self._done = 2 * len(counted) + len(dated), 0
        values = dict(self._each(counted, _count_aggregations, self._values))
        dates = {name: one for name, one in self._each(dated, self._date_aggregations, _dates) if one is not None}
        shared = [name for name, one in values.items() if one.shared_by >= 2 and one.distinct > 1]
        tops = dict(self._each(shared, _top_aggregations, _top))
        values |= {name: replace(values[name], top=top) for name, top in tops.items()}
        return replace(
            self._profile,
            measured=self._measured,
            values=values,
            dates=dates,
            narrowing=self._narrowing([values[name] for name in tops]),
            has_generated_ids=self._has_generated_ids(),
            unmeasured=tuple(self._unmeasured),
        )

    def _aggregatable(self) -> list[str]:
        """Return the known fields that have values to aggregate in some index."""
        facts = self._profile.facts
        caps = self._client.field_caps(self._profile.expression, TIMEOUT_S)["fields"]
        names = [name for name in (*facts.fields, *facts.differing) if name in caps]
        usable = [
            name for name in names if any(one.get("aggregatable") for one in caps[name].values()) and not _odd(name)
        ]
        for name in usable[MAX_FIELDS:]:
            self._unmeasured.append(Fault(name, f"is beyond the first {MAX_FIELDS} fields, which were measured"))
        return usable[:MAX_FIELDS]

    def _each(
        self,
        names: Sequence[str],
        write: Callable[[str, str], dict[str, Any]],
        read: Callable[[str, str, Mapping[str, Any]], Any],
    ) -> Iterator[tuple[str, Any]]:
        """Yield the result of `read` for each field; a field for which the server fails is noted, and left out."""
        rest = iter(names)
        while batch := list(islice(rest, AT_ONCE)):
            for group in self._answered(batch, write):
                yield from ((name, read(name, f"f{at}", answer)) for at, name, answer in group)
            self._done += len(batch)
            self._on_progress(min(self._done, self._total), self._total)

    def _answered(
        self, batch: Sequence[str], write: Callable[[str, str], dict[str, Any]]
    ) -> Iterator[list[tuple[int, str, Mapping[str, Any]]]]:
        try:
            answer = self._search(_joined(batch, write))
            yield [(at, name, answer) for at, name in enumerate(batch)]
        except self._client.errors as error:
            fault = self._client.fault_of(error)
            if len(batch) > 1 and fault.status is not None:
                for name in batch:  # one field may fail all of them
                    yield from self._answered([name], write)
            elif len(batch) == 1 and fault.status == 400:
                self._unmeasured.append(Fault(batch[0], f"cannot be aggregated: {cause_of(error, fault)}"))
            else:
                raise

    def _search(self, aggregations: Mapping[str, Any]) -> Mapping[str, Any]:
        body: dict[str, Any] = {"size": 0, "track_total_hits": True, "aggs": aggregations}
        if self._profile.documents > SAMPLE:
            body["query"] = _drawn(SAMPLE / self._profile.documents)
        answer = _searched(self._client, self._profile, body)
        self._measured = int(answer["hits"]["total"]["value"])
        found: Mapping[str, Any] = answer["aggregations"]
        return found

    def _values(self, name: str, key: str, answer: Mapping[str, Any]) -> FieldValues:
        return FieldValues(
            name,
            _kind(self._profile.facts, name),
            int(answer[f"{key}e"]["doc_count"]),
            int(answer[f"{key}c"]["value"]),
            int(answer[f"{key}v"]["value"]),
        )

    def _date_aggregations(self, name: str, key: str) -> dict[str, Any]:
        ahead = {"range": {name: {"gt": self._now_ms + 86_400_000, "format": "epoch_millis"}}}
        recent = {"range": {name: {"gte": self._now_ms - RECENT_D * 86_400_000, "format": "epoch_millis"}}}
        return {
            f"{key}e": {"filter": {"exists": {"field": name}}},
            f"{key}a": {"filter": ahead},
            f"{key}r": {"filter": recent},
            f"{key}f": {"min": {"field": name}},
            f"{key}l": {"max": {"field": name}},
            f"{key}p": {"percentiles": {"field": name, "percents": [50, 75]}},
        }

    def _narrowing(self, shared: list[FieldValues]) -> dict[tuple[str, str], float]:
        """Return how much each class narrows each other field, for the fields with the most documents."""
        by_documents = sorted(shared, key=lambda one: (-one.documents, one.name))
        classes = [one for one in by_documents if 2 < one.distinct <= 1_000 and one.shared_by >= 10][:MAX_CLASSES]
        others = [one for one in by_documents if one.distinct > 2][:MAX_NARROWED]
        source, found = self._profile.source_field, dict[tuple[str, str], float]()
        for one in classes:
            inner = {f"o{at}": {"cardinality": {"field": other.name}} for at, other in enumerate(others)}
            try:
                answer = self._search({"c": {"terms": {"field": one.name, "size": BUCKETS}, "aggs": inner}})
            except self._client.errors:  # too many buckets for this server's limits: this class has no such figure
                continue
            for at, other in enumerate(others):
                ratio = _narrowed(other, answer["c"]["buckets"], f"o{at}", self._measured)
                if ratio is not None and source(one.name) != source(other.name):
                    found[one.name, other.name] = ratio
        return found

    def _has_generated_ids(self) -> bool:
        body = {"size": IDS, "_source": False, "query": {"match_all": {}}}
        try:
            answer = _searched(self._client, self._profile, body)
        except self._client.errors:
            return False
        ids = [str(hit["_id"]) for hit in answer["hits"]["hits"]]
        return bool(ids) and all(GENERATED_ID.fullmatch(one) for one in ids)


def _joined(batch: Sequence[str], write: Callable[[str, str], dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for at, name in enumerate(batch):
        joined |= write(name, f"f{at}")
    return joined


def _count_aggregations(name: str, key: str) -> dict[str, Any]:
    return {
        f"{key}e": {"filter": {"exists": {"field": name}}},
        f"{key}c": {"cardinality": {"field": name, "precision_threshold": PRECISION}},
        f"{key}v": {"value_count": {"field": name}},
    }


def _top_aggregations(name: str, key: str) -> dict[str, Any]:
    return {f"{key}t": {"terms": {"field": name, "size": TOP}}}


def _top(_: str, key: str, answer: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    counts = ((str(one["key"]), int(one["doc_count"])) for one in answer[f"{key}t"]["buckets"])
    return tuple((value, count) for value, count in counts if not _odd(value))


def _dates(name: str, key: str, answer: Mapping[str, Any]) -> FieldDates | None:
    first, last = answer[f"{key}f"]["value"], answer[f"{key}l"]["value"]
    if first is None or last is None:
        return None
    half, quarter = (answer[f"{key}p"]["values"][percent] for percent in ("50.0", "75.0"))
    return FieldDates(
        name,
        int(answer[f"{key}e"]["doc_count"]),
        first / 1_000,
        last / 1_000,
        half / 1_000,
        quarter / 1_000,
        int(answer[f"{key}a"]["doc_count"]),
        int(answer[f"{key}r"]["doc_count"]),
    )


def _drawn(share: float) -> dict[str, Any]:
    """Return the query that finds a random share of all documents, the same in each run."""
    draw = {"random_score": {"seed": 17, "field": "_seq_no"}}
    return {
        "function_score": {
            "query": {"match_all": {}},
            "functions": [draw],
            "boost_mode": "replace",
            "min_score": 1.0 - share,
        }
    }


def _narrowed(other: FieldValues, buckets: Sequence[Mapping[str, Any]], key: str, documents: int) -> float | None:
    """Return the mean over documents of a bucket's distinct values, divided by the number that chance alone would give it."""
    shares = [count / max(other.occurrences, 1) for _, count in other.top]
    rest = other.distinct - len(shares)
    if rest > 0:
        shares += [max(1.0 - sum(shares), 0.0) / rest] * rest
    whole = weighted = 0.0
    for bucket in buckets:
        drawn = bucket["doc_count"] * other.occurrences / max(documents, 1)
        expected = sum(1.0 - (1.0 - min(share, 1.0)) ** drawn for share in shares)
        if expected >= 1.0:
            whole += bucket["doc_count"]
            weighted += bucket["doc_count"] * min(bucket[key]["value"] / expected, 1.0)
    return weighted / whole if whole else None


def _kind(facts: IndexFacts, name: str) -> str:
    """Return a field's type; of one that indices map differently, the first on which a boost may act."""
    kinds = list(facts.kinds(name))
    return next((kind for kind in kinds if kind in WHOLE_VALUES or kind in NUMBERS), kinds[0] if kinds else "")


def _odd(text: str) -> bool:
    """Whether a name or value cannot be encoded in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
