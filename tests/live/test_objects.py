"""Objects in a real index."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter.client.registry import around
from rewriter.signals.ingest.objects import LookUpFailed, Objects
from tests.conftest import MakeIndex

PROPERTIES = {"sku": {"type": "keyword"}, "brand": {"type": "keyword"}, "text": {"type": "text"}}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "p1": {"sku": "s1", "brand": "nike", "kind": {"name": "shoe"}, "text": "long"},
    "p2": {"sku": "s1", "brand": "nike"},
    "p3": {"sku": "s3"},
}


def objects(client: Any, *indices: str, **changes: Any) -> Objects:
    settings: dict[str, Any] = {"max_objects": 100, "age_s": 60.0, "clock_s": lambda: 0.0} | changes
    return Objects(around(client, is_async=False), indices, {"brand", "kind.name", "_id"}, **settings)


def test_objects_are_found_by_id_and_by_a_field(opensearch: OpenSearch, index: MakeIndex) -> None:
    found = objects(opensearch, index(PROPERTIES, documents=DOCUMENTS)).find(
        {("_id", "p1"), ("_id", "none"), ("sku", "s1"), ("sku", "s3"), ("nowhere", "x"), ("text", "long")}
    )
    assert found.pop(("sku", "s1"))["brand"] == "nike"
    assert found == {
        ("_id", "p1"): {"_id": "p1", "brand": "nike", "kind.name": "shoe"},
        ("sku", "s3"): {"_id": "p3"},
    }


def test_the_next_index_is_asked_for_what_the_first_has_not(opensearch: OpenSearch, index: MakeIndex) -> None:
    first, second = index(PROPERTIES, documents=DOCUMENTS), index(PROPERTIES, documents={"p9": {"brand": "asics"}})
    found = objects(opensearch, first, second).find({("_id", "p1"), ("_id", "p9")})
    assert found["_id", "p9"]["brand"] == "asics"
    assert found["_id", "p1"]["brand"] == "nike"


def test_an_index_that_is_missing_is_no_fault_of_the_objects(opensearch: OpenSearch) -> None:
    with pytest.raises(LookUpFailed, match="index_not_found"):
        objects(opensearch, "rewriter-test-no-such-index").find({("_id", "p1")})


def test_documents_are_remembered_for_a_while_and_not_without_bound(opensearch: OpenSearch, index: MakeIndex) -> None:
    name, now_s = index(PROPERTIES, documents=DOCUMENTS), [0.0]
    known = objects(opensearch, name, max_objects=2, clock_s=lambda: now_s[0])
    known.find({("_id", "p1")})
    opensearch.delete(index=name, id="p1", refresh=True)
    assert ("_id", "p1") in known.find({("_id", "p1")})
    now_s[0] = 61.0
    assert known.find({("_id", "p1")}) == {}
    known.find({("_id", "p2")})
    known.find({("_id", "p3")})
    assert len(known._known) == 2


def test_a_field_of_the_second_index_alone_is_asked_there(opensearch: OpenSearch, index: MakeIndex) -> None:
    first = index({"brand": {"type": "keyword"}}, documents={"p1": {"brand": "nike"}})
    second = index(PROPERTIES, documents=DOCUMENTS)
    known = objects(opensearch, first, second)
    assert set(known.find([("sku", "s3"), ("sku", "none"), ("nowhere", "x")])) == {("sku", "s3")}
    assert known.fault_of(("sku", "none")).what == "is not in the index"
    assert known.fault_of(("nowhere", "x")).what == "is not a field of the index"
