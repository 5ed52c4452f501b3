"""Functions that a template may list, and the clamp: every boost's weight lies in [0, max_boost − 1]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rewriter.boost.functions import MAX_FUNCTIONS, Boost, Refused, describe, read_functions
from rewriter.boost.schema import boosts_schema
from rewriter.signals.affinities import TOKEN, Affinity, clause

NIKE = {"term": {"brand": "nike"}}
GAUSS = {"listed": {"origin": "now", "scale": "30d"}}


def affinity(number: int, *values: str, kind: str = "attribute", fields: tuple[str, ...] = ("brand",)) -> Affinity:
    return Affinity(kind, "brand", fields, values, 0.5, 0.3, "profile", number, clause(kind, fields, values, number))


LIKED = (affinity(0, "nike"), affinity(1, "puma", "asics"))


def boosts(*functions: Any, max_boost: float = 1.5, random: bool = False) -> tuple[Boost, ...]:
    return read_functions(list(functions), max_boost, LIKED, random=random)


# --- the clamp --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "max_boost", "clamped"),
    [(0.2, 1.5, 0.2), (0.5, 1.5, 0.5), (0.7, 1.5, 0.5), (1e308, 1.5, 0.5), (1, 1.5, 0.5), (10**30, 2.0, 1.0)],
)
@pytest.mark.parametrize("filter_", [NIKE, {TOKEN: 0}], ids=["own clause", "affinity"])
def test_a_weight_is_clamped_once(filter_: dict[str, Any], weight: float, max_boost: float, clamped: float) -> None:
    (boost,) = boosts({"filter": filter_, "weight": weight}, max_boost=max_boost)
    assert boost.weight == clamped


@pytest.mark.parametrize("function", [{"filter": {TOKEN: 0}, "weight": 0.0}, {"filter": NIKE, "weight": 0}])
def test_a_boost_of_nothing_is_left_out(function: dict[str, Any]) -> None:
    assert boosts(function) == ()


@pytest.mark.parametrize("weight", [-0.1, -inf, inf, nan, None, True, "1", [1], {}])
@pytest.mark.parametrize("filter_", [NIKE, {TOKEN: 0}], ids=["own clause", "affinity"])
def test_a_weight_that_is_no_finite_number_is_refused(filter_: dict[str, Any], weight: Any) -> None:
    with pytest.raises(Refused, match="function 0: `weight` must be"):
        boosts({"filter": filter_, "weight": weight})


@pytest.mark.parametrize("digits", [400, 4_000])
def test_an_integer_beyond_all_floats_is_refused(digits: int) -> None:
    with pytest.raises(Refused, match="function 0: `weight` must be finite"):
        boosts({"filter": NIKE, "weight": 10**digits})


@pytest.mark.parametrize(
    ("clause", "fault"),
    [
        ({"terms": {"brand": {"index": "people", "id": "1", "path": "x"}}}, "a look-up reads another index"),
        ({"terms": {"boost": 2, "brand": {"index": "people"}}}, "a look-up reads another index"),
        ({"terms_set": {"brand": {"terms": ["a"], "minimum_should_match_script": {"source": "1"}}}}, "a script is not"),
        ({"nested": {"path": "n", "query": NIKE, "inner_hits": {}}}, "`nested` has no `inner_hits`"),
        ({"constant_score": {"filter": NIKE, "script": "1"}}, "`constant_score` has no `script`"),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_clause_at_any_depth_reads_another_index_or_runs_a_script(clause: Any, fault: str, depth: int) -> None:
    for wrapped in range(depth):
        clause = {"bool": {"should": [NIKE, clause]}} if wrapped % 2 else {"nested": {"path": "n", "query": clause}}
    with pytest.raises(Refused, match=fault):
        boosts({"filter": clause, "weight": 0.1})


@pytest.mark.parametrize(
    "clause",
    [
        {"term": {"brand": {"value": "nike", "_name": "us"}}},
        {"term": {"brand": "nike", "_name": "us"}},
        {"terms": {"brand": ["nike"], "_name": "us"}},
        {"range": {"price": {"gte": 1, "_name": "us"}}},
        {"match_all": {"_name": "us"}},
        {"exists": {"field": "brand", "_name": ""}},
        {"geo_distance": {"distance": "1km", "place": {"lat": 1, "lon": 1}, "_name": None}},
        {"bool": {"filter": NIKE, "_name": "us"}},
        {"nested": {"path": "n", "query": NIKE, "_name": "us"}},
        {"constant_score": {"filter": {"bool": {"must": [{"ids": {"values": ["1"], "_name": "us"}}]}}}},
    ],
)
def test_no_clause_names_itself_in_the_callers_hits(clause: Any) -> None:
    assert Draft202012Validator(boosts_schema()).is_valid([{"filter": clause, "weight": 0.1}])
    (boost,) = boosts({"filter": clause, "weight": 0.1})
    assert boost.filter is not None
    assert "_name" not in json.dumps(boost.filter)
    assert set(boost.filter) == set(clause)


@pytest.mark.parametrize(
    "clause",
    [
        {"terms": {"brand": ["nike"], "boost": 2}},
        {"terms_set": {"brand": {"terms": ["a"], "minimum_should_match_field": "n"}}},
        {"nested": {"path": "n", "query": NIKE, "score_mode": "max", "ignore_unmapped": True}},
        {"constant_score": {"filter": NIKE, "boost": 2}},
    ],
)
def test_the_parameters_of_a_clause_that_read_nothing_else_are_allowed(clause: Any) -> None:
    assert boosts({"filter": clause, "weight": 0.1})[0].filter == clause


@pytest.mark.parametrize("token", ["x", -1, 2, 10**9, True, None, [0], 0.5])
def test_a_token_in_the_parameters_of_a_query_stands_for_an_affinity_or_is_refused(token: Any) -> None:
    with pytest.raises(Refused, match="stands for no affinity"):
        boosts({"filter": {"term": {"brand": {TOKEN: token}}}, "weight": 0.1})


def test_a_refusal_passes_a_context_manager_as_it_is() -> None:
    """Python sets the traceback of an exception that leaves a generator's `with` block."""

    @contextmanager
    def block() -> Iterator[None]:
        yield

    with pytest.raises(Refused, match="one; two"), block():
        raise Refused(("one", "two"))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ANY_FUNCTION = st.dictionaries(
    st.sampled_from(["filter", "weight", "gauss", "exp", "script_score", "random_score", "boost"]),
    ANY_JSON | st.just(NIKE) | st.just({TOKEN: 0}) | st.floats(0, 2),
    max_size=3,
)


@given(st.lists(ANY_FUNCTION, max_size=4), st.floats(1.0001, 10.0))
def test_whatever_is_listed_is_refused_or_bounded(listed: list[dict[str, Any]], max_boost: float) -> None:
    found: tuple[Boost, ...] = ()
    with suppress(Refused):
        found = read_functions(listed, max_boost, LIKED)
    assert all(0.0 < boost.weight <= max_boost - 1.0 for boost in found)
    assert all(set(boost.decay or {}) <= {"gauss", "exp", "linear"} for boost in found)


# --- what may be listed -----------------------------------------------------------------------------------------------


def test_an_affinity_s_clause_stands_for_it() -> None:
    (boost,) = boosts({"filter": {TOKEN: 1}, "weight": 0.2})
    assert boost == Boost({"terms": {"brand": ["puma", "asics"]}}, 0.2, None, "brand", "puma, asics", "profile")


def test_an_affinity_s_clause_may_stand_inside_another() -> None:
    nested = {"bool": {"filter": [{TOKEN: 0}, {"bool": {"must_not": {TOKEN: 1}}}]}}
    (boost,) = boosts({"filter": nested, "weight": 0.2})
    assert boost.filter == {"bool": {"filter": [NIKE, {"bool": {"must_not": {"terms": {"brand": ["puma", "asics"]}}}}]}}


@pytest.mark.parametrize(
    ("function", "decay", "named"),
    [
        ({"gauss": GAUSS, "weight": 0.1}, {"gauss": GAUSS}, ("", "", "template")),
        ({"exp": GAUSS, "filter": NIKE, "weight": 0.1}, {"exp": GAUSS}, ("", "", "template")),
        ({"linear": GAUSS, "filter": {TOKEN: 0}, "weight": 0.1}, {"linear": GAUSS}, ("brand", "nike", "profile")),
    ],
)
def test_decay_functions_may_be_listed(
    function: dict[str, Any], decay: dict[str, Any], named: tuple[str, str, str]
) -> None:
    """With an affinity's own clause as the filter, the boost is reported as the affinity's."""
    (boost,) = boosts(function)
    assert (boost.decay, (boost.field, boost.value, boost.source)) == (decay, named)
    assert boost.filter == (NIKE if "filter" in function else None)


def test_random_score_is_for_exploration_alone() -> None:
    function = {"random_score": {"seed": 1, "field": "_seq_no"}, "weight": 0.1}
    with pytest.raises(Refused, match="'random_score' not allowed here"):
        boosts(function)
    (boost,) = boosts(function, random=True)
    assert boost.decay == {"random_score": {"seed": 1, "field": "_seq_no"}}


SCRIPT = {"script": {"script": "true"}}


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (5, "an object is wanted, not int"),
        ("x", "an object is wanted, not a text"),
        ({"weight": 0.2}, "a bare weight would boost every hit alike"),
        ({"filter": NIKE}, "`weight` must be a number"),
        ({"filter": NIKE, "weight": 0.1, "boost": 5}, "'boost' not allowed here"),
        ({"script_score": {"script": "1"}, "weight": 0.1}, "'script_score' not allowed here"),
        ({"field_value_factor": {"field": "n"}, "weight": 0.1}, "'field_value_factor' not allowed here"),
        ({"gauss": GAUSS, "exp": GAUSS, "weight": 0.1}, "one of gauss, exp, not both"),
        ({"gauss": "listed", "weight": 0.1}, "`gauss` must be an object"),
        ({"filter": None, "weight": 0.1}, "`filter`: one query clause is wanted"),
        ({"filter": [], "weight": 0.1}, "`filter`: one query clause is wanted"),
        ({"filter": NIKE | {"exists": {"field": "a"}}, "weight": 0.1}, "`filter`: one query clause is wanted"),
        ({"filter": {"term": "nike"}, "weight": 0.1}, "`filter`: `term` must be an object"),
        ({"filter": SCRIPT, "weight": 0.1}, "the query `script` is not allowed in a boost"),
        ({"filter": {"bool": {"filter": [SCRIPT]}}, "weight": 0.1}, "the query `script` is not allowed in a boost"),
        ({"filter": {"bool": {"must": SCRIPT}}, "weight": 0.1}, "the query `script` is not allowed in a boost"),
        ({"filter": {"constant_score": {"filter": SCRIPT}}, "weight": 0.1}, "the query `script` is not allowed"),
        ({"filter": {"nested": {"path": "o", "query": SCRIPT}}, "weight": 0.1}, "the query `script` is not allowed"),
        ({"filter": {"has_child": {"query": NIKE}}, "weight": 0.1}, "the query `has_child` is not allowed"),
        ({"filter": {"function_score": {"boost": 5}}, "weight": 0.1}, "the query `function_score` is not allowed"),
        ({"filter": {"bool": {"min_score": 1}}, "weight": 0.1}, "`bool` has no `min_score`"),
        ({"filter": {TOKEN: 2}, "weight": 0.1}, "stands for no affinity"),
        ({"filter": {TOKEN: -1}, "weight": 0.1}, "stands for no affinity"),
        ({"filter": {TOKEN: True}, "weight": 0.1}, "stands for no affinity"),
        ({"filter": {TOKEN: "0"}, "weight": 0.1}, "stands for no affinity"),
    ],
)
def test_anything_else_is_refused(function: Any, fault: str) -> None:
    with pytest.raises(Refused) as refused:
        boosts({"filter": NIKE, "weight": 0.1}, function)
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith("function 1: ")
    assert fault in refused.value.faults[0]


def test_a_clause_may_be_nested_eight_deep() -> None:
    clause_: dict[str, Any] = NIKE
    for _ in range(8):
        clause_ = {"bool": {"filter": [clause_]}}
    assert boosts({"filter": clause_, "weight": 0.1})
    with pytest.raises(Refused, match="nested deeper than 8"):
        boosts({"filter": {"bool": {"filter": [clause_]}}, "weight": 0.1})


def test_every_fault_is_named() -> None:
    with pytest.raises(Refused) as refused:
        boosts({"weight": -1}, {"filter": NIKE, "weight": 0.1}, 7)
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["function 0", "function 0", "function 2"]


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        ({}, "a list of functions is wanted, not an object"),
        (None, "a list of functions is wanted, not null"),
        ([{}] * (MAX_FUNCTIONS + 1), "129 functions; 128 at most"),
    ],
)
def test_what_is_no_list_of_functions_is_refused(listed: Any, fault: str) -> None:
    with pytest.raises(Refused, match=fault):
        read_functions(listed, 1.5, LIKED)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (affinity(0, "nike"), "nike"),
        (affinity(0, "a", "b", "c"), "a, b, c"),
        (affinity(0, "a", "b", "c", "d", "e"), "a, b, c and 2 more"),
        (affinity(0, "shoe", "nike", kind="combination", fields=("type", "brand")), "shoe · nike"),
    ],
)
def test_an_affinity_in_words(one: Affinity, words: str) -> None:
    assert describe(one) == words


def test_no_fault_shows_a_subject_s_value() -> None:
    secret = "nobody may read this"
    listed = [{"filter": {"term": {"brand": secret}, "x": secret}, "weight": secret, "gauss": secret}]
    with pytest.raises(Refused) as refused:
        boosts(*listed)
    assert secret not in str(refused.value)
    assert secret in json.dumps(listed)
