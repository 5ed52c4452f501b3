"""Index facts: parsing of `_mapping` and `_settings`, and the dead fields of a policy."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.index_facts import MAX_GUARDED, IndexFacts, TermRule, alias_paths, dead_fields, facts_of, fits, term_rules
from rewriter.settings import PolicySettings


def policy(**changes: Any) -> PolicySettings:
    return PolicySettings.model_validate({"index": "a", **changes})


def mapping(**indices: dict[str, Any]) -> dict[str, Any]:
    return {name: {"mappings": {"properties": properties}} for name, properties in indices.items()}


def settings(**indices: dict[str, str]) -> dict[str, Any]:
    return {name: {"settings": flat} for name, flat in indices.items()}


def test_the_mapping_of_an_index_gives_its_fields() -> None:
    properties = {
        "brand": {"type": "keyword"},
        "title": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
        "maker": {"properties": {"name": {"type": "keyword"}, "since": {"type": "date"}}},
        "offers": {"type": "nested", "properties": {"shop": {"type": "keyword"}}},
        "make": {"type": "alias", "path": "maker.name"},
        "hidden": {"type": "keyword", "index": False, "doc_values": False},
        "slow": {"type": "keyword", "index": False},
    }
    assert facts_of(mapping(products=properties), settings(products={})) == IndexFacts(
        fields={
            "brand": "keyword",
            "title": "text",
            "title.raw": "keyword",
            "maker.name": "keyword",
            "maker.since": "date",
            "offers": "nested",
            "offers.shop": "keyword",
            "make": "keyword",
            "slow": "keyword",
        },
        differing={"hidden": {"unsearchable": ("products",)}},
        analyzers={"title": "None None"},
    )


def test_settings_of_one_index() -> None:
    flat = {
        "index.max_result_window": "500",
        "index.search.default_pipeline": "rerank",
        "index.number_of_replicas": "2",
    }
    facts = facts_of(mapping(products={}), settings(products=flat))
    assert facts == IndexFacts({}, 500, 500, "rerank", 2)


@pytest.mark.parametrize(
    ("flat", "window"),
    [
        ({}, 10_000),
        ({"index.max_result_window": "100"}, 100),
        ({"index.max_rescore_window": "70"}, 70),
        ({"index.max_result_window": "100", "index.max_rescore_window": "300"}, 300),
    ],
)
def test_the_rescore_window_follows_the_result_window(flat: dict[str, str], window: int) -> None:
    assert facts_of(mapping(a={}), settings(a=flat)).max_rescore_window == window


def test_the_most_docvalue_fields_are_those_that_every_index_allows() -> None:
    flat = {"index.max_docvalue_fields_search": "3"}
    assert facts_of(mapping(a={}), settings(a={})).max_docvalue_fields == 100
    assert facts_of(mapping(a={}, b={}), settings(a=flat, b={})).max_docvalue_fields == 3


def test_behind_an_alias_counts_what_holds_for_every_index() -> None:
    facts = facts_of(
        mapping(
            a={"brand": {"type": "keyword"}, "old": {"type": "keyword"}, "maker": {"type": "keyword"}},
            b={"brand": {"type": "keyword"}, "maker": {"type": "text"}},
        ),
        settings(
            a={"index.max_result_window": "500", "index.number_of_replicas": "0"},
            b={"index.search.default_pipeline": "rerank", "index.number_of_replicas": "1"},
        ),
    )
    differing = {"old": {"keyword": ("a",)}, "maker": {"keyword": ("a",), "text": ("b",)}}
    assert facts == IndexFacts({"brand": "keyword"}, 500, 500, "rerank", 1, differing)


def test_mappings_may_leave_out_an_index_without_the_fields() -> None:
    facts = facts_of(mapping(a={"brand": {"type": "keyword"}}), settings(a={}, b={}))
    assert (facts.fields, facts.differing) == ({}, {"brand": {"keyword": ("a",)}})


def test_what_aliases_stand_for_is_named() -> None:
    assert alias_paths(mapping(a={"make": {"type": "alias", "path": "maker.name"}, "x": {"type": "keyword"}})) == {
        "maker.name"
    }


def test_no_pipeline_by_name_is_no_pipeline() -> None:
    flat = {"index.search.default_pipeline": "_none"}
    assert facts_of(mapping(a={}), settings(a=flat)).default_pipeline is None


def test_a_pattern_that_matches_nothing_has_the_defaults() -> None:
    assert facts_of({}, {}) == IndexFacts()


FACTS = IndexFacts(
    fields={
        "brand": "text", "brand.keyword": "keyword", "maker": "text", "colour": "keyword", "size": "integer",
        "offers": "nested", "offers.shop": "keyword", "flat": "flat_object", "listed": "date",
    }
)  # fmt: skip


@pytest.mark.parametrize("name", ["colour", "size", "flat.key"])
def test_fields_that_a_term_finds(name: str) -> None:
    assert dead_fields(policy(fields={"f": {"of": name}}), FACTS) == []


UNMAPPED = "is not mapped, or cannot be searched, in any index (map it as a keyword)"
ANALYZED = "is a text: a `term` matches no whole value"
NESTED = "is inside the nested objects of offers, where a `term` matches nothing (copy it to a field of the document)"
REFUSED = "is a date: the server can refuse a `term` on it"
UNDATED = "is not mapped in every index (the server would refuse a search with a decay function on it)"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"fields": {"brand": {}}}, f"brand: {ANALYZED} (use brand.keyword)"),
        ({"fields": {"f": {"of": "maker"}}}, f"maker: {ANALYZED} (map a keyword beside it)"),
        ({"fields": {"taste": {}}}, f"taste: {UNMAPPED}"),
        ({"item_field": "sku"}, f"sku: {UNMAPPED}"),
        ({"fields": {"s": {"of": ["colour", "offers.shop"]}}}, f"offers.shop: {NESTED}"),
        ({"date_field": "born"}, f"born: {UNDATED}"),
        ({"fields": {"listed": {}}}, f"listed: {REFUSED} (map a keyword beside it)"),
        ({"item_field": None}, None),
    ],
)
def test_dead_fields_are_named_with_what_to_do(changes: dict[str, Any], text: str | None) -> None:
    assert [str(fault) for fault in dead_fields(policy(**changes), FACTS)] == ([text] if text else [])


def test_all_dead_fields_are_named_at_once() -> None:
    wrong = policy(item_field="sku", date_field="listed", fields={"f": {"of": ["brand", "maker"]}})
    assert [fault.where for fault in dead_fields(wrong, FACTS)] == ["brand", "maker", "sku"]


def behind_both(one: str | None, other: str | None, third: str | None = None) -> IndexFacts:
    """Facts of an alias of the indices a, b and c, each of which maps `sku` so, or not at all."""
    kinds = {"a": one, "b": other, "c": third}
    mapped = {name: {"sku": {"type": kind}} if kind else {} for name, kind in kinds.items() if name != "c" or third}
    return facts_of(mapping(**mapped), settings(**{name: {} for name in mapped}))


@pytest.mark.parametrize(
    ("kinds", "value", "indices"),
    [
        (("keyword", "keyword"), "17", None),
        (("keyword", "keyword"), "nike", None),
        (("keyword", None), "nike", None),
        (("keyword", "text"), "nike", None),
        (("keyword", "long"), "17", None),
        (("keyword", "long"), "nike", ("a",)),
        (("long", "keyword"), "nike", ("b",)),
        (("keyword", "long", "byte"), "17", None),
        (("keyword", "long", "byte"), "1700", ("a", "b")),
        (("keyword", "date"), "2026-01-01", ("a",)),
        (("keyword", "ip"), "nike", ("a",)),
        (("keyword", "a_type_of_tomorrow"), "nike", ("a",)),
        (("long", "date"), "17", ("a",)),
        (("long", "date"), "nike", ()),
        (("long", "integer"), "nike", ()),
        (("boolean", "keyword"), "true", None),
        (("boolean", "keyword"), "yes", ("b",)),
    ],
)
def test_a_term_goes_where_its_value_is_taken(
    kinds: tuple[str | None, ...], value: str, indices: tuple[str, ...] | None
) -> None:
    rule = term_rules(policy(item_field="sku"), behind_both(*kinds)).get("sku")
    assert (rule.indices(value) if rule else None) == indices


@pytest.mark.parametrize(
    ("kinds", "dead"), [(("date", "ip"), True), (("date", "keyword"), False), (("text", None), True)]
)
def test_a_field_is_dead_where_no_index_finds_a_whole_value(kinds: tuple[str | None, ...], dead: bool) -> None:
    faults = [fault.where for fault in dead_fields(policy(item_field="sku"), behind_both(*kinds))]
    assert faults == (["sku"] if dead else [])


def test_a_guard_is_bounded() -> None:
    many = tuple(f"i{number}" for number in range(MAX_GUARDED + 1))
    assert TermRule((("keyword", many),), refusing=True).indices("nike") == ()
    assert TermRule((("keyword", many[1:]),), refusing=True).indices("nike") == tuple(sorted(many[1:]))


@pytest.mark.parametrize(
    ("kind", "fitting", "refused"),
    [
        (
            "integer",
            ["7", "-7", "007", "7.5", "2147483647"],
            ["", "x", "2147483648", "1e3", "0x7", "1_000", " 7", "٧", "nan"],
        ),
        ("byte", ["127", "-128"], ["128", "-129"]),
        ("unsigned_long", ["0"], ["-1", "99999999999999999999"]),
        ("half_float", ["65504", "0.1"], ["65505", "inf"]),
        ("double", ["1" * 20], ["1" * 21, "1e400"]),
        ("boolean", ["true", "false"], ["True", "1", "maybe", ""]),
    ],
)
def test_values_that_fit_a_type(kind: str, fitting: list[str], refused: list[str]) -> None:
    assert [value for value in fitting if not fits(kind, value)] == []
    assert [value for value in refused if fits(kind, value)] == []


def test_what_reads_a_text_in_all_indices() -> None:
    """Sub-fields and aliases count; a field that one index maps otherwise has no analyzer that all of them share."""
    title = {
        "type": "text",
        "fields": {
            "stem": {"type": "text", "analyzer": "english", "search_analyzer": "standard"},
            "raw": {"type": "keyword"},
        },
    }
    one = {"title": title, "name": {"type": "alias", "path": "title.stem"}, "note": {"type": "text"}}
    two = {"title": title, "name": {"type": "text"}, "note": {"type": "keyword"}}
    facts = facts_of(mapping(a=one, b=two), settings(a={}, b={}))
    assert facts.analyzers == {
        "title": "None None | None None",
        "title.stem": "english standard | english standard",
        "name": "english standard | None None",
    }
