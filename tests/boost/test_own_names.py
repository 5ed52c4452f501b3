"""No name of ours reaches a caller, at any depth of inner hits; the caller's own names stay."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rewriter.boost.body import without_own_names

NAMES = st.sampled_from(["rewriter:0", "rewriter:17", "rewriter:words", "theirs", "rewriter:", "rewriter:x"])
NAMED = st.lists(NAMES, max_size=3, unique=True) | st.dictionaries(NAMES, st.floats(0, 9), max_size=3)


def holding(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    part = st.fixed_dictionaries(
        {"hits": st.fixed_dictionaries({"total": st.just(1), "hits": st.lists(inner, max_size=2)})}
    )
    odd: st.SearchStrategy[Any] = st.sampled_from([None, [], {}, {"hits": None}, {"hits": {"hits": None}}])
    return st.fixed_dictionaries(
        {"_id": st.just("1")},
        optional={
            "matched_queries": NAMED,
            "inner_hits": st.dictionaries(st.sampled_from("ab"), part | odd, max_size=2),
        },
    )


HITS = st.recursive(
    st.fixed_dictionaries({"_id": st.just("1")}, optional={"matched_queries": NAMED}), holding, max_leaves=12
)


@given(HITS)
def test_our_names_are_taken_off_at_every_depth(hit: dict[str, Any]) -> None:
    before = copy.deepcopy(hit)
    found = without_own_names(hit)
    assert hit == before
    assert not {"rewriter:0", "rewriter:17", "rewriter:words"} & set(json.dumps(found).split('"'))
    assert without_own_names(found) == found
    assert json.dumps(found).count('"theirs"') == json.dumps(hit).count('"theirs"')
    assert json.dumps(found).count('"_id"') == json.dumps(hit).count('"_id"')
