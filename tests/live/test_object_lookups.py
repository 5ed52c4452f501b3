"""Look-ups on a real index: whatever an event names as its object, it changes nothing for the others of its batch.

Which ids a field can be asked for, where documents are found, and what makes all events wait.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opensearchpy import OpenSearch, helpers
from opensearchpy.exceptions import ConnectionTimeout, TransportError

from rewriter.client.registry import around
from rewriter.signals.ingest.object_search import TRIES
from rewriter.signals.ingest.objects import LookUpFailed, ObjectKey, Objects
from tests.conftest import MakeIndex
from tests.live.engine import storable, supported

IDS = {
    "keyword": ("x", "a"),
    "kw_no_doc_values": ("x", "x"),
    "normalized": ("ABC", "abc"),
    "wildcard": ("x", "x"),
    "text_with_keyword": ("Red Shoe 17", "Red Shoe 17"),
    "long": (17, "17"),
    "unsigned_long": (18_446_744_073_709_551_615, "18446744073709551615"),
    "integer": (17, "17"),
    "short": (17, "17"),
    "byte": (17, "17"),
    "double": (1.5, "1.5"),
    "float": (1.5, "1.5"),
    "half_float": (1.5, "1.5"),
    "scaled_float": (1.5, "1.5"),
    "date": ("2026-01-01", "2026-01-01"),
    "date_nanos": ("2026-01-01T00:00:00.000000001Z", "2026-01-01T00:00:00.000000001Z"),
    "ip": ("10.0.0.1", "10.0.0.1"),
    "boolean": (True, "true"),
    "many": (["x", "y", "z"], "y"),
    "many_longs": ([1, 2, 3], "2"),
    "object.inner": ("x", "x"),
    "nested.inner": ("x", "x"),
    "nested.deeper.inner": ("x", "x"),
    "flat": ("x", "x"),
    "flat.inner": ("x", "x"),
    "alias": (None, "x"),
}
"""By field: the value that the document has, and the id that finds it."""
TYPES: dict[str, Any] = {
    "brand": {"type": "keyword"},
    "keyword": {"type": "keyword"},
    "kw_no_doc_values": {"type": "keyword", "doc_values": False},
    "normalized": {"type": "keyword", "normalizer": "lowercase"},
    "text_with_keyword": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
    "scaled_float": {"type": "scaled_float", "scaling_factor": 100},
    "many": {"type": "keyword"},
    "many_longs": {"type": "long"},
    "object": {"properties": {"inner": {"type": "keyword"}}},
    "nested": {
        "type": "nested",
        "properties": {
            "inner": {"type": "keyword"},
            "deeper": {"type": "nested", "properties": {"inner": {"type": "keyword"}}},
        },
    },
    "flat": {"type": "flat_object"},
    "alias": {"type": "alias", "path": "keyword"},
    # holds no ids
    "text": {"type": "text"},
    "match_only": {"type": "match_only_text"},
    "geo": {"type": "geo_point"},
    "range": {"type": "integer_range"},
    "feature": {"type": "rank_feature"},
    "binary": {"type": "binary"},
    "completion": {"type": "completion"},
    "join": {"type": "join", "relations": {"parent": "child"}},
    "not_indexed": {"type": "keyword", "index": False},
    "not_indexed_long": {"type": "long", "index": False, "doc_values": False},
    **{
        name: {"type": name}
        for name in IDS
        if "." not in name
        and name
        in {
            *("wildcard", "long", "unsigned_long", "integer", "short", "byte", "double", "float", "half_float"),
            *("date", "date_nanos", "ip", "boolean"),
        }
    },
}
NO_IDS = [
    *("not_indexed_long", "object", "nested", "no.such", "keyword.no", "_index", "_routing", "_source", "_seq_no"),
    *("_field_names", "_version", "_ignored", "_nested_path", "_doc_count", "*", "key*", "keyword,long", " ", "_id.x"),
    *("{}", '"', "a" * 256, "\u0000", "\ud7ff\U0001f45f", "..", ".keyword", "keyword.", "doc['x']", "<a-{now/d}>"),
]
HOSTILE = [
    *("undefined", "null", "NaN", "Infinity", "-1", "-0", "1e5", "1e999999", "9" * 30, "9" * 256, "017", "0x11", " 17"),
    *("17.0", "true", "2026||/d", "now", "10.0.0.0/8", "::1", "[1 TO 2]", "*", "a b", "\u0000", "\x1f", '"', "\\"),
    *("x" * 256, "\U0001f45f" * 64, "../../_all", "{}", "a,b", "АБВ", "1" + "0" * 255, "1,2", "POINT(1 1)"),
]


def document() -> dict[str, Any]:
    """One document with a value in each field; dotted paths are nested where the mapping is."""
    found: dict[str, Any] = {name: value for name, (value, _) in IDS.items() if "." not in name and value is not None}
    return found | {
        "brand": "nike",
        "keyword": ["a", "x"],
        "object": {"inner": "x"},
        "nested": [{"inner": "x", "deeper": [{"inner": "x"}, {"inner": "y"}]}, {"inner": "y"}],
        "flat": {"inner": "x"},
        "text": "long red shoe",
        "match_only": "long red shoe",
        "geo": {"lat": 1, "lon": 1},
        "range": {"gte": 1, "lte": 17},
        "feature": 1,
        "binary": "eA==",
        "completion": "x",
        "not_indexed": "x",
        "not_indexed_long": 17,
    }


def looked_up_in(client: Any, *indices: str, fields: tuple[str, ...] = ("brand",), **more: Any) -> Objects:
    given: dict[str, Any] = {"max_objects": 10_000, "age_s": 600.0, "clock_s": lambda: 0.0} | more
    return Objects(around(client, is_async=False), indices, fields, **given)


@pytest.fixture(scope="module")
def every_type(opensearch: OpenSearch) -> Iterator[str]:
    """An index with a field of each type, three shards, and five good documents beside the one of every type."""
    name = f"rewriter-test-{uuid.uuid4().hex[:8]}"
    settings = {"number_of_shards": 3, "number_of_replicas": 0}
    opensearch.indices.create(index=name, body={"settings": settings, "mappings": {"properties": supported(TYPES)}})
    good = [{"_index": name, "_id": f"good-{n}", "_source": {"brand": f"b{n}", "long": 100 + n}} for n in range(5)]
    try:
        helpers.bulk(
            opensearch, [*good, {"_index": name, "_id": "p1", "_source": storable(TYPES, document())}], refresh=True
        )
        yield name
    finally:
        opensearch.indices.delete(index=name)


GOOD: list[ObjectKey] = [
    *((("_id", f"good-{n}")) for n in range(5)),
    *(("long", str(100 + n)) for n in range(5)),
]


def held_good(found: dict[ObjectKey, Any]) -> None:
    assert {key: found[key]["brand"] for key in GOOD} == {key: f"b{n % 5}" for n, key in enumerate(GOOD)}


@pytest.mark.parametrize("field", IDS)
def test_an_id_is_found_in_a_field_of_each_type(opensearch: OpenSearch, every_type: str, field: str) -> None:
    objects = looked_up_in(opensearch, every_type)
    found = objects.find([(field, IDS[field][1]), *GOOD])
    assert found[field, IDS[field][1]] == {"_id": "p1", "brand": "nike"}
    held_good(found)


@pytest.mark.parametrize("field", [*IDS, *NO_IDS])
def test_no_field_and_no_id_costs_others_their_object(opensearch: OpenSearch, every_type: str, field: str) -> None:
    """Every hostile id at once, beside good ones: in fields that hold ids, and in those that cannot."""
    objects = looked_up_in(opensearch, every_type)
    hostile = [(field, one) for one in HOSTILE]
    found = objects.find([*GOOD, *hostile])
    held_good(found)
    if field in NO_IDS:
        assert not found.keys() & set(hostile)
        for key in hostile:
            assert "object_id_field" in objects.fault_of(key).where
    for key in hostile:
        assert key[1] not in str(objects.fault_of(key)) or len(key[1]) < 3 or key[1] in ("true", "null", "now")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(["_id", *IDS, *NO_IDS]), st.text(min_size=1, max_size=256)),
            st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=256), st.integers().map(str)),
        ),
        max_size=40,
    )
)
@example([("_id", "\ud7ff"), ("ip", "1" * 200), ("date", "99999-01-01"), ("_id", "x" * 256)])
def test_whatever_events_name_the_good_ones_are_found(
    opensearch: OpenSearch, every_type: str, drawn: list[tuple[str, str]]
) -> None:
    wanted = [key for key in drawn if max(key[0] + key[1]) < "\ud800" or max(key[0] + key[1]) > "\udfff"]
    held_good(looked_up_in(opensearch, every_type).find([*wanted, *GOOD]))


# --- where documents are found ----------------------------------------------------------------------------------------

BRAND = {"brand": {"type": "keyword"}, "sku": {"type": "keyword"}}


@pytest.fixture
def place(opensearch: OpenSearch, index: MakeIndex, request: pytest.FixtureRequest) -> Iterator[str]:
    """An expression behind which p1 and p2 are, with the skus s1 and s2."""
    documents = {f"p{n}": {"brand": f"b{n}", "sku": f"s{n}"} for n in (1, 2)}
    name = f"rewriter-test-{uuid.uuid4().hex[:8]}"
    made: list[str] = []

    def create(suffix: str, shards: int = 3, **mapping: Any) -> str:
        made.append(name + suffix)
        body = {
            "settings": {"number_of_shards": shards, "number_of_replicas": 0},
            "mappings": {"properties": BRAND, **mapping},
        }
        opensearch.indices.create(index=made[-1], body=body)
        return made[-1]

    def put(to: str, number: int, **more: Any) -> None:
        opensearch.index(index=to, id=f"p{number}", body=documents[f"p{number}"], refresh=True, **more)

    match request.param:
        case "required routing" | "optional routing":
            to = create("", _routing={"required": request.param == "required routing"})
            for number in (1, 2):
                put(to, number, routing=f"tenant{number}")
            yield to
        case "alias" | "pattern" | "list" | "filtered alias":
            for number in (1, 2):
                put(create(f"-{number}"), number)
            actions: Any = [{"add": {"index": f"{name}-*", "alias": f"alias-{name}"}}]
            if request.param == "filtered alias":
                actions[0]["add"]["filter"] = {"terms": {"brand": ["b1", "b2"]}}
            opensearch.indices.update_aliases(body={"actions": actions})
            yield {"pattern": f"{name}-*", "list": f"{name}-1,{name}-2"}.get(request.param, f"alias-{name}")
        case "data stream":
            template = {"index_patterns": [name], "data_stream": {}, "template": {"mappings": {"properties": BRAND}}}
            opensearch.indices.put_index_template(name=name, body=template)
            opensearch.indices.create_data_stream(name=name)
            for number in (1, 2):
                body = documents[f"p{number}"] | {"@timestamp": "2026-01-01T00:00:00Z"}
                opensearch.index(index=name, id=f"p{number}", body=body, op_type="create", refresh=True)
                opensearch.indices.rollover(alias=name)
            yield name
            opensearch.indices.delete_data_stream(name=name)
            opensearch.indices.delete_index_template(name=name)
        case "unlike types":  # a sku is a keyword in one index, a number or a text in the others
            for number, kind in ((1, "keyword"), (2, "text"), (3, "long"), (4, "geo_point")):
                made.append(f"{name}-{number}")
                properties = BRAND | {"sku": {"type": kind}}
                opensearch.indices.create(index=made[-1], body={"mappings": {"properties": properties}})
                if number < 3:
                    put(made[-1], number)
            yield f"{name}-*"
    for one in made:
        opensearch.indices.delete(index=one)


PLACES = [
    *("required routing", "optional routing", "alias", "filtered alias", "pattern", "list", "data stream"),
    "unlike types",
]


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_objects_are_found_where_searches_find_them(opensearch: OpenSearch, place: str) -> None:
    wanted = [("_id", "p1"), ("_id", "p2"), ("sku", "s1"), ("_id", "none"), ("sku", "undefined")]
    found = looked_up_in(opensearch, place).find(wanted)
    assert {key: one["brand"] for key, one in found.items()} == {
        ("_id", "p1"): "b1",
        ("_id", "p2"): "b2",
        ("sku", "s1"): "b1",
    }


@pytest.mark.parametrize("place", ["unlike types"], indirect=True)
def test_a_text_in_one_index_finds_ids_and_not_words(opensearch: OpenSearch, place: str) -> None:
    opensearch.index(index=place.replace("*", "2"), id="p9", body={"brand": "b9", "sku": "red s7 shoe"}, refresh=True)
    found = looked_up_in(opensearch, place).find([("sku", "s2"), ("sku", "s7"), ("sku", "red")])
    assert {key: one["_id"] for key, one in found.items()} == {("sku", "s2"): "p2"}


@pytest.mark.parametrize(
    "source", [{"enabled": False}, {"excludes": ["brand"]}, {"excludes": ["sku"]}, {"includes": ["nothing"]}]
)
@pytest.mark.parametrize("brand", [{"type": "keyword"}, {"type": "keyword", "doc_values": False, "store": True}])
def test_objects_are_found_where_the_source_has_no_field(
    opensearch: OpenSearch, source: dict[str, Any], brand: dict[str, Any]
) -> None:
    name = f"rewriter-test-{uuid.uuid4().hex[:8]}"
    properties = {"brand": brand, "sku": {"type": "keyword"}, "price": {"type": "integer"}}
    opensearch.indices.create(index=name, body={"mappings": {"_source": source, "properties": properties}})
    try:
        opensearch.index(index=name, id="p1", body={"brand": ["a", "b"], "sku": "s1", "price": 17}, refresh=True)
        found = looked_up_in(opensearch, name, fields=("brand", "price")).find([("_id", "p1"), ("sku", "s1")])
        assert set(found) == {("_id", "p1"), ("sku", "s1")}
        for one in found.values():
            assert one == {"_id": "p1", "brand": ["a", "b"], "price": "17"}
    finally:
        opensearch.indices.delete(index=name)


def test_an_id_with_many_documents_leaves_room_for_the_others(opensearch: OpenSearch, index: MakeIndex) -> None:
    """Variants: a thousand documents of one sku, among them those that a search of a few ids would return."""
    documents = {f"v{n}": {"brand": "many", "sku": "s0"} for n in range(1_000)}
    documents |= {f"p{n}": {"brand": f"b{n}", "sku": f"s{n}"} for n in range(1, 20)}
    name = index(BRAND, documents=documents, shards=2)
    found = looked_up_in(opensearch, name).find([("sku", f"s{n}") for n in range(25)])
    assert {key[1]: one["brand"] for key, one in found.items()} == {"s0": "many"} | {
        f"s{n}": f"b{n}" for n in range(1, 20)
    }


def test_an_index_with_a_small_window_is_asked_for_one_at_a_time(opensearch: OpenSearch, index: MakeIndex) -> None:
    documents = {f"p{n}": {"brand": "b", "sku": f"s{n}"} for n in range(9)}
    name = index(BRAND, documents=documents, settings={"max_result_window": 3})
    keys = [("sku", f"s{n}") for n in range(9)]
    found = looked_up_in(opensearch, name).find([*keys, ("_id", "p1")])
    assert set(found) == {*keys, ("_id", "p1")}


def test_a_limit_that_no_look_up_can_keep_makes_all_wait(opensearch: OpenSearch, index: MakeIndex) -> None:
    name = index(BRAND, documents={"p1": {"brand": "b"}}, settings={"max_docvalue_fields_search": 0})
    with pytest.raises(LookUpFailed):
        looked_up_in(opensearch, name).find([("_id", "p1"), ("sku", "s1")])


# --- what makes all wait, and what does not ---------------------------------------------------------------------------


class Breaking:
    """A client whose searches fail where a function says so."""

    def __init__(self, client: OpenSearch, fails: Any) -> None:
        self._client, self._fails = client, fails
        self.searches = 0

    def field_caps(self, **call: Any) -> Any:
        return self._client.field_caps(**call)

    def search(self, **call: Any) -> Any:
        self.searches += 1
        if error := self._fails(call["body"]):
            raise error
        return self._client.search(**call)

    def msearch(self, *, body: list[Any], **call: Any) -> Any:
        answers = self._client.msearch(body=body, **call)["responses"]
        for number, line in enumerate(body[1::2]):
            if error := self._fails(line):
                status = getattr(error, "status_code", 500)
                status = 504 if status == "TIMEOUT" else status
                answers[number] = {"status": status, "error": {"type": "broken", "reason": "about culprit"}}
        return {"responses": answers}


ERRORS = [
    TransportError(500, "broken", {}),
    TransportError(400, "broken", {}),
    TransportError(503, "broken", {}),
    TransportError(429, "broken", {}),
    ConnectionTimeout("TIMEOUT", "broken", Exception()),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error.status_code))
def test_a_culprit_is_set_aside_after_a_few_tries_and_no_other(
    opensearch: OpenSearch, index: MakeIndex, error: Exception
) -> None:
    name = index(BRAND, documents={f"p{n}": {"brand": f"b{n}"} for n in range(30)})
    client = Breaking(opensearch, lambda body: error if "culprit" in str(body["query"]) else None)
    objects = looked_up_in(client, name)
    keys = [*(("_id", f"p{n}") for n in range(15)), ("_id", "culprit"), *(("_id", f"p{n}") for n in range(15, 30))]
    for _ in range(3 * TRIES):
        try:
            found = objects.find(keys)
            break
        except LookUpFailed:
            continue
    assert len(found) == 30
    fault = objects.fault_of(("_id", "culprit"))
    assert fault.where == "event_attributes.object.object_id"
    assert "cannot be looked up" in fault.what
    assert "culprit" not in str(fault)
    searches = client.searches
    assert len(objects.find(keys)) == 30
    assert client.searches == searches  # the worker's next round gets past it at once
    assert objects.fault_of(("_id", "culprit")) == fault


def test_an_index_that_is_slow_with_many_ids_is_asked_for_fewer(opensearch: OpenSearch, index: MakeIndex) -> None:
    def fails(body: dict[str, Any]) -> Exception | None:
        return ConnectionTimeout("TIMEOUT", "slow", Exception()) if body["size"] > 4 else None

    name = index(BRAND, documents={f"p{n}": {"brand": f"b{n}", "sku": f"s{n}"} for n in range(30)})
    objects = looked_up_in(Breaking(opensearch, fails), name)
    keys = [("_id", f"p{n}") for n in range(30)]
    for _ in range(TRIES - 1):
        with pytest.raises(LookUpFailed):
            objects.find(keys)
    assert set(objects.find(keys)) == set(keys)


@pytest.mark.parametrize("error", [*ERRORS, TransportError(403, "x", {})], ids=lambda error: str(error.status_code))
def test_what_fails_for_every_look_up_makes_all_wait(
    opensearch: OpenSearch, index: MakeIndex, error: Exception
) -> None:
    name = index(BRAND, documents={"p1": {"brand": "b1"}})
    is_away = [True]
    objects = looked_up_in(Breaking(opensearch, lambda _: error if is_away[0] else None), name)
    for _ in range(5 * TRIES):
        with pytest.raises(LookUpFailed, match="objects cannot be looked up"):
            objects.find([("_id", "p1"), ("sku", "s1")])
    is_away[0] = False
    assert set(objects.find([("_id", "p1"), ("sku", "s1")])) == {("_id", "p1")}


@pytest.mark.parametrize("how", ["missing", "closed", "pattern of none"])
def test_an_index_that_is_not_there_makes_all_wait(opensearch: OpenSearch, index: MakeIndex, how: str) -> None:
    name = index(BRAND, documents={"p1": {"brand": "b1"}})
    if how == "closed":
        opensearch.indices.close(index=name)
    expression = {"missing": f"{name}-no", "closed": name, "pattern of none": f"{name}-*"}[how]
    for _ in range(2 * TRIES):
        with pytest.raises(LookUpFailed):
            looked_up_in(opensearch, expression).find([("_id", "p1")])


def test_a_field_that_is_mapped_later_is_asked_after_a_while(opensearch: OpenSearch, index: MakeIndex) -> None:
    name, now_s = index(BRAND, documents={"p1": {"brand": "b1"}}), [0.0]
    objects = looked_up_in(opensearch, name, clock_s=lambda: now_s[0])
    assert objects.find([("ean", "17")]) == {}
    assert objects.fault_of(("ean", "17")).what == "is not a field of the index"
    opensearch.indices.put_mapping(index=name, body={"properties": {"ean": {"type": "long"}}})
    opensearch.index(index=name, id="p2", body={"ean": 17, "brand": "b2"}, refresh=True)
    now_s[0] = 31.0
    assert objects.find([("ean", "17")])["ean", "17"]["brand"] == "b2"


def test_a_field_that_no_index_has_costs_no_search(opensearch: OpenSearch, index: MakeIndex) -> None:
    client = Breaking(opensearch, lambda _: None)
    objects = looked_up_in(client, index(BRAND, documents={"p1": {"brand": "b1"}}))
    objects.find([(f"field{n}", "x") for n in range(1_000)])
    assert client.searches == 0


def test_what_is_remembered_has_a_bound_in_bytes(opensearch: OpenSearch, index: MakeIndex) -> None:
    """Documents with long arrays of long texts: of each as much is kept as is counted, and of all no more than the bound."""
    big = {"brand": [f"{n}-" + "x" * 900 for n in range(200)], "other": "y" * 50_000}
    name = index({"brand": {"type": "keyword"}}, documents={f"p{n}": big for n in range(60)})
    objects = looked_up_in(opensearch, name, max_bytes=300_000)
    found = objects.find([("_id", f"p{n}") for n in range(60)])
    assert all(len(one["brand"]) == 16 and set(one) == {"_id", "brand"} for one in found.values())
    assert 10 < len(objects._known) < 20
    assert objects._known._bytes <= 300_000


@pytest.mark.parametrize(
    "other", [{"type": "object"}, {"type": "nested"}, {"properties": {"name": {"type": "keyword"}}}]
)
def test_a_field_that_is_an_object_in_one_index_costs_no_object(
    opensearch: OpenSearch, index: MakeIndex, other: dict[str, Any]
) -> None:
    """The field's values are asked for beside `_source`, and the server refuses that for an object."""
    plain = index({"brand": {"type": "keyword"}}, documents={"p1": {"brand": "nike"}})
    mixed = index({"brand": other}, documents={"p2": {"brand": {"name": "puma"}}, "p3": {}})
    found = looked_up_in(opensearch, f"{plain},{mixed}").find([("_id", one) for one in ("p1", "p2", "p3")])
    objects = {("_id", one): {"_id": one} for one in ("p2", "p3")}
    assert found == {("_id", "p1"): {"_id": "p1", "brand": "nike"}} | objects


def test_of_a_constant_keyword_the_name_of_the_index_is_no_value(opensearch: OpenSearch, index: MakeIndex) -> None:
    constant = {"brand": {"type": "constant_keyword", "value": "nike"}}
    name = index(constant, documents={"p1": {}, "p2": {"brand": "nike"}})
    found = looked_up_in(opensearch, name).find([("_id", "p1"), ("_id", "p2")])
    assert found == {("_id", "p1"): {"_id": "p1"}, ("_id", "p2"): {"_id": "p2", "brand": "nike"}}
