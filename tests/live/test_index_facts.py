"""Facts read from a real server, and its behavior on fields that they report as dead."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch, RequestError

from rewriter.index_facts import changed_class, dead_fields, facts_of, fits
from rewriter.settings import PolicySettings
from rewriter.signals.events import texts
from rewriter.signals.query_classes import classes_in
from tests.conftest import MakeIndex
from tests.live.shelf import MAPPING, flat_settings, refused, scores, search, shoes


def test_facts_of_a_real_index_and_its_alias(opensearch: OpenSearch, index: MakeIndex) -> None:
    first = index(MAPPING, settings={"max_result_window": 500, "search.default_pipeline": "_none"})
    second = index({"brand": {"type": "text"}, "title": {"type": "text"}})
    alias = f"{first}-both"
    for name in (first, second):
        opensearch.indices.put_alias(index=name, name=alias)
    one, both = (
        facts_of(opensearch.indices.get_mapping(index=name), flat_settings(opensearch, name)) for name in (first, alias)
    )
    assert one.fields == {
        "title": "text", "title.raw": "keyword", "brand": "keyword", "colour": "keyword", "price": "integer",
        "offers": "nested", "offers.shop": "keyword",
    }  # fmt: skip
    assert (one.max_result_window, one.max_rescore_window, one.default_pipeline, one.replicas) == (500, 500, None, 0)
    assert both.fields == {"title": "text"}
    assert both.differing["brand"] == {"keyword": (first,), "text": (second,)}
    assert both.max_result_window == 500


@pytest.mark.parametrize("field", ["title", "unmapped", "offers.shop", "hidden"])
def test_a_term_on_a_dead_field_finds_nothing(opensearch: OpenSearch, products: str, field: str) -> None:
    facts = facts_of(opensearch.indices.get_mapping(index=products), flat_settings(opensearch, products))
    policy = PolicySettings.model_validate({"index": "*", "fields": {"f": {"of": field}}})
    assert [fault.where for fault in dead_fields(policy, facts)] == [field]
    value = {"title": shoes(2)["1"]["title"], "offers.shop": "a"}.get(field, "x")
    body = {"query": {"term": {field: value}}}
    if field == "hidden":
        assert "Cannot search on field [hidden]" in refused(opensearch, products, body)
    else:
        assert scores(search(opensearch, products, body)) == {}


@pytest.mark.parametrize("named", ["section", "section_alias"])
def test_a_normalizer_spells_a_hit_s_class_as_no_document_does(
    opensearch: OpenSearch, index: MakeIndex, named: str
) -> None:
    section = {"type": "keyword", "normalizer": "lowercase"}
    made = index(
        {"section": section, "section_alias": {"type": "alias", "path": "section"}, "plain": {"type": "keyword"}}
    )
    opensearch.index(index=made, id="1", body={"section": "Milk", "plain": "Milk"}, refresh=True)
    hit = opensearch.search(index=made, body={"docvalue_fields": [named, "plain"]})["hits"]["hits"][0]
    assert hit["fields"] == {named: ["milk"], "plain": ["Milk"]}
    facts = facts_of(opensearch.indices.get_mapping(index=made), flat_settings(opensearch, made))
    of_class = {name: PolicySettings(index=("*",), class_field=name) for name in (named, "plain")}
    (fault,) = changed_class(of_class[named], facts)
    assert "the normalizer lowercase" in str(fault)
    assert changed_class(of_class["plain"], facts) == []
    assert dead_fields(of_class[named], facts) == []  # a `term` of "Milk" finds it
    assert scores(search(opensearch, made, {"query": {"term": {named: "Milk"}}})) != {}


@pytest.mark.parametrize(
    ("mapping", "written", "shown"),
    [
        ({"type": "double"}, 5, [5.0]),
        ({"type": "scaled_float", "scaling_factor": 10}, "5", [5.0]),
        ({"type": "integer"}, 5, [5]),
        ({"type": "boolean"}, "true", [True]),
        ({"type": "keyword"}, "5", ["5"]),
    ],
)
def test_a_class_that_is_a_fraction_is_spelled_as_no_document_does(
    opensearch: OpenSearch, index: MakeIndex, mapping: dict[str, Any], written: Any, shown: list[Any]
) -> None:
    made = index({"section": mapping})
    opensearch.index(index=made, id="1", body={"section": written}, refresh=True)
    hits = opensearch.search(index=made, body={"docvalue_fields": ["section"]})["hits"]["hits"]
    assert hits[0]["fields"] == {"section": shown}
    is_readable = classes_in(hits, "section", [1.0]) == tuple(texts(written))
    facts = facts_of(opensearch.indices.get_mapping(index=made), flat_settings(opensearch, made))
    faults = changed_class(PolicySettings(index=("*",), class_field="section"), facts)
    assert is_readable == (not faults), faults


def test_the_class_of_a_flat_object_is_refused(opensearch: OpenSearch, index: MakeIndex) -> None:
    made = index({"labels": {"type": "flat_object"}})
    facts = facts_of(opensearch.indices.get_mapping(index=made), flat_settings(opensearch, made))
    (fault,) = changed_class(PolicySettings(index=("*",), class_field="labels.section"), facts)
    assert "flat_object" in str(fault)


TYPED = (
    "byte",
    "short",
    "integer",
    "long",
    "unsigned_long",
    "half_float",
    "float",
    "double",
    "scaled_float",
    "boolean",
)
TEXTS = (
    "7",
    "-7",
    "007",
    "7.5",
    "0",
    "1" * 20,
    "65504",
    "2147483647",
    "300000000000",
    "true",
    "x",
    "",
    "1e3",
    "nan",
    "1e400",
)


def test_what_fits_a_type_is_never_refused(opensearch: OpenSearch, index: MakeIndex) -> None:
    options: dict[str, dict[str, Any]] = {"scaled_float": {"scaling_factor": 100}}
    name = index({kind: {"type": kind, **options.get(kind, {})} for kind in TYPED}, documents={"1": {"integer": 7}})
    refused_too = 0
    for kind in TYPED:
        for text in TEXTS:
            for clause in ({"term": {kind: text}}, {"terms": {kind: [text]}}):
                try:
                    opensearch.search(index=name, body={"query": {"bool": {"filter": [clause]}}})
                except RequestError:
                    refused_too += 1
                    assert not fits(kind, text), (kind, text)
    assert refused_too > 2 * len(TYPED)
