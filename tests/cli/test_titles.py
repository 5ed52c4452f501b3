"""The field that names a hit: usual names first, then what the search looks into."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.cli.preview.page import Fields, text_at, titled
from rewriter.cli.preview.terminal import ages, factor_text, weight_text
from rewriter.cli.titles import USUAL, likely_titles


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"match": {"produkt.bezeichnung": "x"}}, ["produkt.bezeichnung", "produkt"]),
        ({"match": {"titel.deutsch": {"query": "x", "boost": 2}}}, ["titel.deutsch", "titel"]),
        ({"multi_match": {"query": "x", "fields": ["nom^3", "marque", "a.*"]}}, ["nom", "marque"]),
        ({"query_string": {"query": "x", "default_field": "nom"}}, ["nom"]),
        ({"simple_query_string": {"query": "x"}}, []),
        ({"multi_match": {"query": "x", "fields": ["marque", "doc.title"]}}, ["doc.title", "marque", "doc"]),
        (
            {"function_score": {"query": {"bool": {"must": [{"match": {"nom": "x"}}], "filter": {"term": {"lang": "fr"}},
             "must_not": {"match": {"interdit": "x"}}, "should": {"match_phrase": {"resume": "x"}}}}}},
            ["nom", "resume"],
        ),
        ({"dis_max": {"queries": [{"match": {"b": "x"}}, {"match": {"a": "x"}}]}}, ["b", "a"]),
        ({"match_all": {}}, []),
        ("broken", []),
        ({"match": "broken"}, []),
        (None, []),
    ],
)  # fmt: skip
def test_what_the_search_looks_into_follows_the_usual_names(query: Any, fields: list[str]) -> None:
    assert list(likely_titles({"query": query})) == [*USUAL, *fields]


def test_a_deep_body_ends() -> None:
    query: dict[str, Any] = {"match": {"deep": "x"}}
    for _ in range(5_000):
        query = {"bool": {"must": [query]}}
    assert likely_titles({"query": query}) == USUAL
    assert likely_titles(None) == USUAL


def test_a_hit_is_named_by_the_text_that_it_has() -> None:
    body = {"query": {"match": {"werk.titel.deutsch": "faust"}}}
    hit = {"_id": "1", "_source": {"werk": {"titel": "Faust"}}}
    fields = titled([hit], Fields(), body)
    assert (fields.title, text_at(hit, fields.title)) == ("werk.titel", "Faust")
    assert titled([hit], Fields("werk.autor"), body).title == "werk.autor"
    assert titled([{"_id": "1"}], Fields(), body).title == ""


@pytest.mark.parametrize(
    ("factor", "weight", "shown"),
    [
        (1.25, 0.25, "×1.25 +0.25"),
        (1.004, 0.0042, "×1.004 +0.0042"),
        (1.0000002, 0.0, "×1.00 +0.00"),
        (0.5, 0.01, "×0.50 +0.01"),
    ],
)
def test_small_boosts_are_not_shown_as_none(factor: float, weight: float, shown: str) -> None:
    assert f"{factor_text(factor)} {weight_text(weight)}" == shown


def test_ages_that_are_compared_have_one_unit() -> None:
    assert ages(612.0, 1.0) == ["612 days", "1 day"]
    assert ages(803.5, 612.0) == ["2.2 years", "1.7 years"]
