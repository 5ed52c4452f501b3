"""The envelope of boosts; a sent body is a new one, and the caller's is never modified."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.boost.body import bounded_body, envelope, optional_leg, own_names, without_own_names
from rewriter.boost.functions import Boost
from rewriter.report import Strategy

MATCH = {"match": {"title": "shoe"}}
NIKE = Boost({"term": {"brand": "nike"}}, 0.2)
NEW = Boost(None, 0.1, {"exp": {"listed": {"scale": "30d"}}})
ENVELOPE = {
    "functions": [
        {"weight": 1},
        {"filter": {"bool": {"filter": [{"term": {"brand": "nike"}}], "_name": "rewriter:0"}}, "weight": 0.2},
        {"exp": {"listed": {"scale": "30d"}}, "weight": 0.1},
    ],
    "score_mode": "sum",
    "boost_mode": "multiply",
    "max_boost": 1.5,
}


def test_the_envelope_bounds_the_factor_from_1_to_max_boost() -> None:
    assert envelope((NIKE, NEW), 1.5) == ENVELOPE


def test_a_gate_stands_for_all_hits_in_a_rescore_and_in_each_filter_of_a_wrap() -> None:
    gate = {"match": {"title": {"query": "red shoe", "operator": "and"}}}
    rescored = bounded_body({"query": MATCH}, (NIKE, NEW), 1.5, "rescore", 200, gate)
    inner = rescored["rescore"][0]["query"]["rescore_query"]["function_score"]
    assert inner == {
        "query": {"constant_score": {"filter": {"bool": {"filter": [gate], "_name": "rewriter:words"}}}},
        **ENVELOPE,
    }
    wrapped = bounded_body({"query": MATCH}, (NIKE, NEW), 1.5, "wrap", 200, gate)["query"]["function_score"]
    assert wrapped["query"] == MATCH
    assert wrapped["functions"] == [
        {"weight": 1},
        {"filter": {"bool": {"filter": [NIKE.filter, gate], "_name": "rewriter:0"}}, "weight": 0.2},
        {**(NEW.decay or {}), "filter": {"bool": {"filter": [gate], "_name": "rewriter:1"}}, "weight": 0.1},
    ]


def test_without_boosts_the_factor_is_one() -> None:
    assert envelope((), 1.5)["functions"] == [{"weight": 1}]


@pytest.mark.parametrize("weight", [-0.001, nan, inf, -inf])
def test_nothing_leaves_with_a_weight_that_no_clamp_left(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of boost 1 must be finite and at least 0"):
        envelope((NIKE, Boost(None, weight)), 1.5)


@pytest.mark.parametrize("max_boost", [0.999, 0.0, -1.0, nan, inf])
def test_nothing_leaves_without_a_sound_limit(max_boost: float) -> None:
    with pytest.raises(ValueError, match="max_boost must be finite and at least 1"):
        envelope((NIKE,), max_boost)


@given(st.lists(st.floats(0.0, 9.0), max_size=20), st.floats(1.0, 10.0), st.data())
def test_the_factor_of_any_hit_lies_between_one_and_the_limit(
    weights: list[float], max_boost: float, data: st.DataObject
) -> None:
    """The server's arithmetic: the functions that a hit matches are summed, the sum is capped."""
    found = envelope([Boost({"match_all": {}}, weight) for weight in weights], max_boost)
    bare, *functions = found["functions"]
    matched = [function["weight"] for function in functions if data.draw(st.booleans())]
    assert (found["score_mode"], found["boost_mode"]) == ("sum", "multiply")
    assert 1.0 <= min(found["max_boost"], bare["weight"] + sum(matched)) <= max_boost
    assert not {"boost", "min_score"} & found.keys()


def test_rescore_multiplies_the_top_of_the_window() -> None:
    assert bounded_body({"query": MATCH, "size": 10}, (NIKE, NEW), 1.5, "rescore", 200) == {
        "query": MATCH,
        "size": 10,
        "rescore": [
            {
                "window_size": 200,
                "query": {
                    "rescore_query": {"function_score": {"query": {"match_all": {}}, **ENVELOPE}},
                    "score_mode": "multiply",
                },
            }
        ],
    }


def test_wrap_puts_the_query_inside_the_function_score() -> None:
    found = bounded_body({"query": MATCH, "collapse": {"field": "brand"}}, (NIKE, NEW), 1.5, "wrap", 200)
    assert found == {"query": {"function_score": {"query": MATCH, **ENVELOPE}}, "collapse": {"field": "brand"}}


THEIRS = {"window_size": 50, "query": {"rescore_query": MATCH}}


@pytest.mark.parametrize(
    ("own", "before"), [(THEIRS, [THEIRS]), ([THEIRS, THEIRS], [THEIRS, THEIRS]), ([], []), ({}, [])]
)
def test_our_rescore_comes_after_theirs(own: Any, before: list[Any]) -> None:
    found = bounded_body({"query": MATCH, "rescore": own}, (NIKE,), 1.5, "rescore", 50)
    assert found["rescore"][:-1] == before
    assert found["rescore"][-1]["query"]["score_mode"] == "multiply"


BODY = {
    "query": {"bool": {"must": [MATCH], "filter": [{"term": {"shop": 1}}]}},
    "from": 0,
    "size": 10,
    "aggs": {"brands": {"terms": {"field": "brand"}}},
    "aggregations": {"b": {"terms": {"field": "brand"}}},
    "suggest": {"s": {"text": "sho", "term": {"field": "title"}}},
    "track_total_hits": True,
    "ext": {"ubi": {"query_id": "q"}},
    "rescore": [THEIRS],
    "highlight": {"fields": {"title": {}}},
    "_source": ["title"],
    "post_filter": {"term": {"a": 1}},
}


def test_an_optional_leg_asks_for_hits_alone() -> None:
    leg = optional_leg(BODY, 10, 20)
    kept = {key: BODY[key] for key in ("query", "rescore", "highlight", "_source", "post_filter", "track_total_hits")}
    assert leg == kept | {"from": 10, "size": 20}


@pytest.mark.parametrize("strategy", ["rescore", "wrap"])
def test_the_caller_s_body_stays_as_it_was(strategy: Strategy) -> None:
    before = copy.deepcopy(BODY)
    bounded_body(optional_leg(BODY, 0, 10), (NIKE, NEW), 1.5, strategy, 200)
    bounded_body(BODY, (NIKE,), 1.5, strategy, 200)
    assert before == BODY


@pytest.mark.parametrize(
    ("matched", "ours", "left"),
    [
        (None, (), None),
        ([], (), []),
        (["theirs"], (), ["theirs"]),
        (["rewriter:0"], (0,), None),
        (["rewriter:10", "theirs", "rewriter:2"], (2, 10), ["theirs"]),
        ({"rewriter:1": 0.0, "theirs": 1.5}, (1,), {"theirs": 1.5}),
        ({"rewriter:1": 0.0}, (1,), None),
        (["rewriter:1", "rewriter:words", "theirs"], (1,), ["theirs"]),
        (
            ["rewriter:", "rewriter:x", "rewriter:-1", "rewriter:²"],
            (),
            ["rewriter:", "rewriter:x", "rewriter:-1", "rewriter:²"],
        ),
    ],
)
def test_our_names_come_off_a_hit_and_theirs_stay(matched: Any, ours: tuple[int, ...], left: Any) -> None:
    hit: Mapping[str, Any] = {"_id": "1"} | ({} if matched is None else {"matched_queries": matched})
    before = copy.deepcopy(hit)
    assert own_names(hit) == ours
    assert without_own_names(hit) == {"_id": "1"} | ({} if left is None else {"matched_queries": left})
    assert hit == before


@pytest.mark.parametrize(
    ("matched", "acted"), [(["rewriter:1"], ()), (["rewriter:1", "rewriter:words"], (1,)), ([], ())]
)
def test_no_boost_acted_where_the_gate_of_a_rescore_did_not_match(matched: list[str], acted: tuple[int, ...]) -> None:
    """The server names a function's filter also where the rescore query around it does not match."""
    assert own_names({"_id": "1", "matched_queries": matched}, gated=True) == acted
