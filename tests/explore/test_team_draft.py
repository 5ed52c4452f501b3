"""Interleaving: the draft is fair, repeats nothing, and is the same when it is shown again; people of it are in neither arm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter import Reason, Settings, Subject
from rewriter.decide.assignment import arm
from rewriter.explore.team_draft import BASELINE, NO_TEAM, PERSONALIZED, team_draft
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness

RANKING = st.lists(st.integers(0, 15), unique=True, max_size=12)


def hits(ids: list[int]) -> list[dict[str, Any]]:
    return [{"_id": str(one)} for one in ids]


def key_of(hit: Any) -> tuple[str, ...]:
    return (hit["_id"],)


@given(RANKING, RANKING, st.integers(1, 10), st.integers(0, 10**6))
def test_a_draft_is_of_both_rankings_and_repeats_nothing(
    mine: list[int], theirs: list[int], size: int, seed: int
) -> None:
    draft = team_draft(hits(mine), hits(theirs), key_of, size, seed)
    ids = [int(hit["_id"]) for hit in draft.hits]
    assert len(ids) == len(set(ids))
    assert set(mine) <= set(ids) <= set(mine) | set(theirs)
    assert len(ids) >= min(size, len(set(mine) | set(theirs)))
    for team, ranking in ((PERSONALIZED, mine), (BASELINE, theirs)):
        of_team = [ranking.index(one) for one in ids if draft.teams.get((str(one),)) == team]
        assert of_team == sorted(of_team), "each team chooses its best first"
    chosen = [draft.teams.get((str(one),), NO_TEAM) for one in ids[:size]]
    assert abs(chosen.count(PERSONALIZED) - chosen.count(BASELINE)) <= 1
    alike = 0
    while alike < min(len(mine), len(theirs), size) and mine[alike] == theirs[alike]:
        alike += 1
    assert chosen[:alike] == [NO_TEAM] * alike
    assert draft == team_draft(hits(mine), hits(theirs), key_of, size, seed)


def test_both_teams_are_first_equally_often() -> None:
    """Reversed rankings: each position is the personalized team's in half of the drafts, within four standard errors."""
    mine, theirs = list(range(10)), list(range(9, -1, -1))
    drafts = [team_draft(hits(mine), hits(theirs), key_of, 10, seed) for seed in range(2_000)]
    for at in range(8):
        teams = [draft.teams[key_of(draft.hits[at])] for draft in drafts]
        assert abs(teams.count(PERSONALIZED) - 1_000) < 4 * (2_000 * 0.25) ** 0.5


def test_rankings_that_are_alike_have_no_teams() -> None:
    draft = team_draft(hits([1, 2, 3]), hits([1, 2, 3]), key_of, 3, 7)
    assert set(draft.teams.values()) == {NO_TEAM}


def test_who_is_interleaved_leaves_the_arms_in_their_ratio() -> None:
    arms = [arm(f"u{n}", rollout=1.0, holdout=0.2, salt="s", interleaved=0.3) for n in range(20_000)]
    assert arms.count("interleaved") / 20_000 == pytest.approx(0.3, abs=0.015)
    assert arms.count("holdout") / (20_000 - arms.count("interleaved")) == pytest.approx(0.2, abs=0.015)
    before = [arm(f"u{n}", rollout=1.0, holdout=0.2, salt="s") for n in range(20_000)]
    assert all(now in ("interleaved", was) for now, was in zip(arms, before, strict=True)), "nobody changes arms by it"


SETTINGS = Settings.model_validate(
    {
        "experiment": {"holdout": 0.5, "interleaved": 1.0},
        "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
        "policies": {"shop": {"index": "products*", "max_boost": 3.0, "item_repeat_share": 1.0}},
    }
)
ANN = Subject("ann", "s1")


def liking() -> FakeStore:
    """A store in which ann likes what the baseline ranks 16th to 20th: some of it comes up to the first page."""
    found = FakeStore()
    liked: dict[tuple[str, ...], float] = {("item", f"p{n}"): 60.0 for n in range(15, 20)}
    found.write(Keys().profile("ann"), Counters(liked, {"item": 300.0}, 1.8e9), None)
    return found


def search(harness: Harness, from_: int = 0, size: int = 10, brand: str = "") -> tuple[list[str], Any]:
    query: dict[str, Any] = {"match": {"title": "shoe"}}
    if brand:
        query = {"bool": {"must": [query], "filter": [{"term": {"brand": brand}}]}}
    body = {"query": query, "size": size, "from": from_}
    response, report = harness.search(ANN, {"index": "products", "body": body})
    return [hit["_id"] for hit in response["hits"]["hits"]], report


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_list_is_drafted_and_goes_on_without_repeating_a_hit(kind: type[Harness]) -> None:
    with kind(SETTINGS, liking()) as harness:
        first, report = search(harness)
        assert (report.reason, report.exposure.arm) == (Reason.PERSONALIZED, "interleaved")
        teams = report.teams
        assert len(teams) == 10
        assert abs(teams.count("P") - teams.count("B")) <= 2
        assert teams.count("P") >= 2
        slots = {slot.position for slot in report.slots}
        assert slots
        assert all(teams[at] == "-" for at in slots)
        liked = {f"p{n}" for n in range(15, 20)}
        chosen = {first[at] for at in range(10) if teams[at] == "P"}
        assert chosen & liked, "the personalized ranking's own"
        harness.until(lambda status: status.in_flight == 0)
        second, later = search(harness, 10)
        third, _ = search(harness, 20)
        assert later.reason is Reason.PERSONALIZED, later
        assert later.teams == ""
        shown = first + second + third
        assert len(shown) == len(set(shown)) == 30


@pytest.mark.parametrize("kind", HARNESSES)
def test_another_filter_is_another_draft_and_the_same_one_the_same(kind: type[Harness]) -> None:
    with kind(SETTINGS, liking()) as harness:
        drafts = {}
        for brand in ("", *"abcdefg"):
            drafts[brand] = search(harness, brand=brand)
            harness.until(lambda status: status.in_flight == 0)
            search(harness, 10, brand=brand)
            harness.until(lambda status: status.in_flight == 0)
            ids, report = search(harness, brand=brand)
            assert (ids, report.teams) == (drafts[brand][0], drafts[brand][1].teams), "whoever goes back sees it again"
        assert all({"P", "B"} <= set(report.teams) for _, report in drafts.values())
        assert len({report.teams for _, report in drafts.values()}) > 1


@pytest.mark.parametrize("kind", HARNESSES)
def test_without_signals_the_list_is_the_caller_s_own_and_has_no_teams(kind: type[Harness]) -> None:
    with kind(SETTINGS, FakeStore()) as harness:
        found, report = search(harness)
        assert (report.reason, report.teams) == (Reason.NO_SIGNALS, "")
        assert found == [f"p{n}" for n in range(10)]
