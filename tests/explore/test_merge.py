"""The page: the baseline's envelope, the personalized leg's order, exploration hits in the slots; no hit twice, on any page."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.explore.merge import Page, candidates_of, category, hit_key, merged_page, with_hits
from rewriter.explore.plan import Drawn
from rewriter.explore.scores import Hit
from rewriter.explore.shown import hit_hash


def hits(ids: str, **more: Any) -> list[Hit]:
    """One hit for each letter, best first."""
    return [{"_index": "i", "_id": letter, "_score": 100.0 - rank, **more} for rank, letter in enumerate(ids)]


def page(
    personalized: str | list[Hit],
    pool: str | list[Hit] = "",
    *,
    from_: int = 0,
    size: int = 10,
    block: int = 5,
    decided: tuple[Drawn, ...] = (),
    collapse_field: str | None = None,
    category_field: str | None = None,
    seed: int = 1,
    elsewhere: str | None = None,
) -> Page:
    return merged_page(
        personalized=hits(personalized) if isinstance(personalized, str) else personalized,
        pool=candidates_of(hits(pool) if isinstance(pool, str) else pool, collapse_field, category_field),
        decided=decided,
        from_=from_,
        size=size,
        block=block,
        seed=seed,
        collapse_field=collapse_field,
        category_field=category_field,
        shown_elsewhere=None if elsewhere is None else frozenset(hit_hash(("i", letter, "")) for letter in elsewhere),
    )


def ids(found: Page) -> str:
    return "".join(hit["_id"] for hit in found.hits)


def drawn(position: int, letter: str | None) -> Drawn:
    return Drawn(position, ("i", letter, "") if letter else None, 0.5 if letter else 0.0)


# --- one page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("personalized", "pool", "block", "expected"),
    [
        ("abcdefghij", "X", 10, "abcdefghiX"),
        ("abcdefghij", "X", 7, "abcdefXghi"),
        ("abcdefghij", "", 5, "abcdefghij"),
        ("abcdefghij", "X", 0, "abcdefghij"),
        ("abcdefghij", "abc", 5, "abcdefghij"),
        ("abcdefghij", "aXb", 5, "abcdXefghi"),
        ("abc", "X", 5, "abc"),
        ("abcd", "X", 5, "abcdX"),
        ("", "X", 5, ""),
    ],
    ids=[
        "the block's last position",
        "what stands after a slot moves down",
        "no pool, no slots",
        "exploration is off",
        "the pool is what the page shows anyway",
        "only what the page would not show is drawn",
        "a short list ends before its slot",
        "a short list reaches its slot",
        "nothing found",
    ],
)
def test_a_slot_is_the_last_position_of_its_block(personalized: str, pool: str, block: int, expected: str) -> None:
    assert ids(page(personalized, pool, block=block)) == expected


def test_two_slots_in_ten_positions() -> None:
    found = page("abcdefghij", "XY")
    assert ids(found) in ("abcdXefghY", "abcdYefghX")
    assert [(at, slot.position) for at, slot in found.shown] == [(4, 4), (9, 9)]


def test_a_slot_is_decided_for_good_whether_something_was_drawn_or_not() -> None:
    found = page("abcdefghij", "X")
    assert found.slots == (Drawn(4, ("i", "X", ""), 1.0), Drawn(9, None))


def test_a_page_leaves_what_it_is_made_of_alone() -> None:
    personalized, pool = hits("abcdefghij", _source={"n": 1}), hits("X", _source={"n": 1})
    before = copy.deepcopy((personalized, pool))
    page(personalized, pool)
    assert (personalized, pool) == before


def test_what_the_page_lacks_in_categories_is_drawn_first() -> None:
    personalized = hits("abcdefghij", _source={"type": {"name": "shoe"}})
    pool = [*hits("X", _source={"type": {"name": "shoe"}}), *hits("Y", _source={"type": {"name": "hat"}})]
    found = [page(personalized, pool, block=10, category_field="type.name", seed=seed) for seed in range(300)]
    assert sum(ids(one).endswith("Y") for one in found) > 240


@pytest.mark.parametrize(
    ("source", "field", "expected"),
    [
        ({"type": "shoe"}, "type", "shoe"),
        ({"type": 7}, "type", "7"),
        ({"a": {"b": "shoe"}}, "a.b", "shoe"),
        ({"a": "shoe"}, "a.b", None),
        ({"type": "shoe"}, None, None),
        ({}, "type", None),
        (None, "type", None),
    ],
)
def test_a_hit_s_category(source: Any, field: str | None, expected: str | None) -> None:
    assert category({"_id": "a", "_source": source}, field) == expected


# --- the same hit -----------------------------------------------------------------------------------------------------


def test_the_same_id_in_two_indices_is_two_hits() -> None:
    found = page("abcdefghij", [{"_index": "other", "_id": "a", "_score": 1.0}])
    assert [hit["_index"] for hit in found.hits if hit["_id"] == "a"] == ["i", "other"]


def grouped(letter: str, group: str | None) -> Hit:
    return {"_index": "i", "_id": letter, "_score": 1.0} | ({"fields": {"brand": [group]}} if group else {})


def test_the_same_id_in_one_index_under_two_routings_is_two_hits() -> None:
    personalized = [hit for shop in ("berlin", "paris") for hit in hits("abcd", _routing=shop)]
    pool = [*hits("a", _routing="berlin"), *hits("a", _routing="rome")]
    found = page(personalized, pool, size=9, block=9)
    assert [(hit["_id"], hit["_routing"]) for hit in found.hits][-2:] == [("d", "paris"), ("a", "rome")]
    assert len(found.hits) == 9


def test_under_collapse_hits_of_one_group_are_one() -> None:
    """The groups' representatives differ between the legs; documents without the field are one group."""
    personalized = [grouped("a", "nike"), grouped("b", "puma"), grouped("c", None)]
    pool = [grouped("A", "nike"), grouped("C", None), grouped("X", "asics")]
    assert ids(page(personalized, pool, block=4, collapse_field="brand")) == "abcX"
    assert ids(page(personalized, pool[:2], block=4, collapse_field="brand")) == "abc"


def test_a_key_is_the_same_after_a_plan_was_saved_and_read() -> None:
    for hit in (grouped("a", "nike"), grouped("a", None)):
        assert all(isinstance(part, str) for key_of in map(hit_key, (None, "brand")) for part in key_of(hit))


# --- page after page --------------------------------------------------------------------------------------------------


def test_the_next_page_goes_on_where_the_first_one_ended() -> None:
    """X was drawn from rank 13; the second page leaves it out, and shows what it pushed down first."""
    second = page("abcdefghijklXmnopqrs", "YZ", from_=10, decided=(drawn(4, "X"), drawn(9, None)))
    assert ids(second)[:4] == "jklm"
    assert "X" not in ids(second)
    assert [slot.position for slot in second.slots] == [4, 9, 14, 19]


def test_an_earlier_page_s_slots_that_nobody_decided_stay_empty() -> None:
    second = page("abcdefghijklmnopqrst", "XY", from_=10)
    assert ids(second)[:4] == "klmn"
    assert second.slots[:2] == (drawn(4, None), drawn(9, None))


def test_a_page_asked_for_again_shows_the_same() -> None:
    first = page("abcdefghij", "VWXYZ")
    again = page("abcdefghij", "VWXYZ", decided=first.slots, seed=99)
    assert again.hits == first.hits


def test_a_page_asked_for_again_when_the_pool_has_lost_its_hit_shows_the_personal_one() -> None:
    again = page("abcdefghiX", "", decided=(drawn(4, "X"), drawn(9, None)))
    assert ids(again) == "abcdefghiX"
    assert again.shown == ()


@pytest.mark.parametrize(
    ("elsewhere", "expected"),
    [
        ("abcde", "xfghi"),
        ("abcxd", "efghi"),
        ("abcdeghijk", "xf"),
    ],  # the slot's hit was not shown; was; and others were
)
def test_what_an_earlier_page_drew_and_did_not_show_may_stand_on_a_later_one(elsewhere: str, expected: str) -> None:
    found = page("abcdexfghijk", from_=5, size=5, block=0, decided=(drawn(4, "x"),), elsewhere=elsewhere)
    assert ids(found) == expected


def test_exploration_switched_off_between_two_pages() -> None:
    second = page("abcdefghijklmnopqrst", "", from_=10, block=0, decided=(drawn(4, "X"), drawn(9, None)))
    assert ids(second) == "jklmnopqrs"
    assert second.slots == (drawn(4, "X"), drawn(9, None))


@given(
    total=st.integers(0, 60),
    size=st.integers(1, 12),
    block=st.integers(5, 10),
    pool_size=st.integers(0, 20),
    shuffled=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**53 - 1),
)
def test_six_pages_show_no_hit_twice_and_each_is_as_full_as_the_plain_one(
    total: int, size: int, block: int, pool_size: int, shuffled: Any, seed: int
) -> None:
    plain: list[Hit] = [{"_index": "i", "_id": str(n), "_score": 100.0 - n} for n in range(total)]
    personal = shuffled.sample(plain, total)
    decided: tuple[Drawn, ...] = ()
    seen: list[str] = []
    for number in range(6):
        from_, end = number * size, (number + 1) * size
        pool = plain[end : end + pool_size] if shuffled.random() < 0.8 else []
        found = page(personal[:end], pool, from_=from_, size=size, block=block, decided=decided, seed=seed)
        assert len(found.hits) == len(plain[from_:end])
        for at, slot in found.shown:
            assert slot.position == from_ + at
            assert slot.position % block == block - 1
            assert found.hits[at] not in personal[:end]
            assert 0.0 < slot.propensity <= 1.0
        seen += [hit["_id"] for hit in found.hits]
        decided = found.slots
    assert len(set(seen)) == len(seen)


# --- the envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("envelope", "max_score"),
    [({"max_score": 9.0}, 100.0), ({"max_score": None}, 100.0), ({}, None)],
)
def test_the_answer_is_the_baseline_s_with_the_page_s_hits(envelope: dict[str, Any], max_score: float | None) -> None:
    answer = {
        "took": 3,
        "hits": {"total": {"value": 42, "relation": "eq"}, "hits": hits("abc"), **envelope},
        "aggregations": {},
    }
    before = copy.deepcopy(answer)
    found = with_hits(answer, hits("xy"))
    assert [hit["_id"] for hit in found["hits"]["hits"]] == ["x", "y"]
    assert found["hits"].get("max_score") == max_score
    assert {key: found[key] for key in ("took", "aggregations")} == {"took": 3, "aggregations": {}}
    assert found["hits"]["total"] == {"value": 42, "relation": "eq"}
    assert answer == before
