"""Fallbacks through both shells: plans kept in the process, late answers, switches that change during a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rewriter import Reason, Settings, Subject
from rewriter.decide.assignment import arm
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness

ANN = Subject("ann", "s1")
SEARCH: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}
NEXT: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10, "from": 10}}
ROOMY: dict[str, Any] = {"signals_ms": 2000, "cutoff_ms": 5000}


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": ROOMY,
            "policies": {"shop": {"index": "products*", "item_repeat_share": 1.0}},
        }
        | sections
    )


def likes(item: str, base: str) -> FakeStore:
    store = FakeStore()
    store.write(base, Counters({("item", item): 6.0}, {"item": 6.0}, 1.8e9, 1.8e9, 5.0), None)
    return store


PROFILE, SESSION = Keys().profile("ann"), Keys().session("s1")


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> type[Harness]:
    made: type[Harness] = request.param
    return made


@pytest.fixture
def harness(kind: type[Harness]) -> Iterator[Harness]:
    with kind(settings(), likes("p15", PROFILE)) as opened:
        yield opened


def ids(response: Any) -> list[str]:
    return [hit["_id"] for hit in response["hits"]["hits"]]


# --- plans ------------------------------------------------------------------------------------------------------------


def test_the_list_goes_on_while_the_store_is_away(harness: Harness) -> None:
    assert harness.store is not None
    first, _ = harness.search(ANN, SEARCH)
    harness.until(lambda status: status.in_flight == 0)
    harness.store.state = "gone"
    second, report = harness.search(ANN, NEXT)
    assert report.reason is Reason.PERSONALIZED
    assert not set(ids(first)) & set(ids(second))


def test_no_plan_of_this_process_and_none_of_the_store(harness: Harness) -> None:
    assert harness.search(ANN, NEXT)[1].reason is Reason.NO_PLAN


def test_exploration_switched_off_counts_on_the_next_page(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness.search(ANN, SEARCH)[1].slots
    harness.until(lambda status: status.in_flight == 0)
    monkeypatch.setenv("REWRITER_SWITCH_EXPLORATION", "off")
    harness.until(lambda status: "exploration" in status.switches)
    _, report = harness.search(ANN, NEXT)
    assert report.reason is Reason.PERSONALIZED
    assert not report.slots


def test_a_lower_cap_counts_on_the_next_page(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.search(ANN, SEARCH)
    harness.until(lambda status: status.in_flight == 0)
    monkeypatch.setenv("REWRITER_SWITCH_SHOP__MAX_BOOST", "1.1")
    harness.until(lambda status: "shop.max_boost" in status.switches)
    _, report = harness.search(ANN, NEXT)
    assert report.factor_limit_used == 1.1
    assert all(boost.weight <= 0.1 + 1e-9 for boost in report.boosts)


# --- two stores, late answers ------------------------------------------------------------------------------------------


def test_a_dead_session_store_leaves_the_profile(kind: type[Harness]) -> None:
    with kind(settings(), likes("p12", SESSION), likes("p15", PROFILE)) as harness:
        assert harness.store is not None
        assert harness.search(ANN, SEARCH)[1].source == "blend"
        harness.store.state = "gone"
        assert harness.search(ANN, SEARCH)[1].source == "profile"


def test_late_answers_of_both_stores_are_what_the_next_search_has(kind: type[Harness]) -> None:
    stale = settings(signals={"on_late": "stale"}, budget=ROOMY | {"signals_ms": 20})
    with kind(stale, likes("p12", SESSION), likes("p15", PROFILE)) as harness:
        stores = (harness.store, harness._profile_store)
        for store in stores:
            assert store is not None
            store.state = "hung"
        assert harness.search(ANN, SEARCH)[1].reason is Reason.SIGNALS_LATE
        for store in stores:
            assert store is not None
            store.released.set()
        harness.until(lambda status: status.in_flight == 0)
        for store in stores:
            assert store is not None
            store.released.clear()
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.source) == (Reason.PERSONALIZED, "stale")
        assert {boost.value for boost in report.boosts} == {"p12", "p15"}


@pytest.mark.parametrize("shell", ["threads", "tasks"])
def test_a_store_that_hangs_does_not_hang_the_health_page(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"rewriter.shell.{shell}.runtime.STATUS_S", 0.05)
    with HARNESSES[shell == "tasks"](settings(), likes("p15", PROFILE)) as harness:
        assert harness.status().store == "ok"
        assert harness.store is not None
        harness.store.state = "hung"
        assert harness.status().store == "no answer in 1 s"
        assert "store: no answer in 1 s" in harness.status().problems


def test_who_switched_off_is_named(kind: type[Harness], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWRITER_SWITCH_SHOP__PERSONALIZATION", "off")
    with kind(settings(), likes("p15", PROFILE)) as harness:
        _, report = harness.search(ANN, SEARCH)
        assert (report.reason, report.detail) == (Reason.SWITCHED_OFF, "by environment")


# --- arms -------------------------------------------------------------------------------------------------------------


def test_exposure_is_recorded_alike_in_both_arms(kind: type[Harness]) -> None:
    halves = settings(experiment={"holdout": 0.5, "salt": "spring"})
    with kind(halves, likes("p15", PROFILE)) as harness:
        assert harness.store is not None
        harness.store.state = "gone"  # whatever comes of a search, it was in its arm
        units = {}
        for number in range(40):
            _, report = harness.search(Subject(f"user-{number}", "s"), SEARCH)
            expected = arm(f"user-{number}", rollout=1.0, holdout=0.5, salt="spring")
            assert report.exposure is not None
            assert report.exposure.arm == expected
            assert (report.reason is Reason.HOLDOUT) == (expected == "holdout")
            units[report.exposure.unit] = number
        assert len(units) == 40
        assert not any("user" in unit for unit in units)
        counted = harness.status().arms
        assert sum(counted["searches"].values()) == 40
        assert counted["units_changed"] == 39


@pytest.mark.parametrize("subject", [None, Subject(consent=False), Subject(segments=("runners",))])
def test_nobody_is_in_no_arm(harness: Harness, subject: Subject | None) -> None:
    assert harness.search(subject, SEARCH)[1].exposure is None


def test_what_is_not_rolled_out_yet_is_not_in_the_experiment(kind: type[Harness]) -> None:
    with kind(settings(experiment={"rollout": 0.0}), likes("p15", PROFILE)) as harness:
        assert harness.search(ANN, SEARCH)[1].exposure is None
        assert harness.status().arms["searches"] == {"not_rolled_out": 1}


# --- the background ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["rw:segments", "rw:partitions", "rw:switches", "rw:heartbeat"])
def test_whatever_the_store_says_the_background_goes_on(harness: Harness, key: str) -> None:
    assert harness.store is not None
    for text in (
        "[[[",
        "not a number",
        '{"at": NaN}',
        "{" * 5_000,
        "[" * 5_000 + "]" * 5_000,
        '{"at": 1, "lag": 1, "lags": 5}',
    ):
        harness.store.write_text(key, text)
        rounds = harness.status().rounds
        harness.until(lambda status, before=rounds: status.rounds > before + 1 or bool(status.problems))  # type: ignore[misc]
    harness.store.write_text(key, "")
    harness.store.write_text("rw:switches", "personalization off")
    harness.until(lambda status: "personalization" in status.switches)
    assert harness.search(ANN, SEARCH)[1].reason is Reason.SWITCHED_OFF


def test_what_the_store_loses_is_not_switched_on(harness: Harness) -> None:
    assert harness.store is not None
    harness.store.write_text("rw:switches", "personalization off")
    harness.until(lambda status: "personalization" in status.switches)
    harness.store.run([("UNLINK", "rw:switches")])
    rounds = harness.status().rounds
    harness.until(lambda status: status.rounds > rounds + 1)
    assert harness.search(ANN, SEARCH)[1].reason is Reason.SWITCHED_OFF


def test_each_process_that_searches_says_how_it_stands(harness: Harness) -> None:
    assert not harness.status().fleet
    harness.search(ANN, SEARCH)
    harness.until(lambda status: bool(status.fleet))
    ((_, said),) = harness.status().fleet.items()
    assert said["breaker"]["state"] == "closed"
    assert said["arms"] == {"treatment": 1}
    assert said["reasons"] == {"personalized": 1}
    assert harness.status().reasons == {"personalized": 1}
    assert said["store_breakers"]["store"]["state"] == "closed"
