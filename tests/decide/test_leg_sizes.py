"""Large hits: legs request fewer of them, and none if a page would take too long to read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rewriter import Reason, Subject
from rewriter.client.limits import LIMITS
from rewriter.decide.leg_sizes import ENOUGH, EXPLORATION_BYTES, LATEST, PROBE_S, LegSizes, hit_shape
from rewriter.plural import count_of
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.likes import SETTINGS, store

ANN = Subject("ann", "s1")
MIB = 2**20


@pytest.mark.parametrize(
    ("per_hit", "hits", "refused"),
    [
        (1_000, 10, False),
        (21_000, 10, False),
        (104_000, 10, False),
        (106_000, 10, True),
        (21_000, 60, True),
        (5e6, 1, True),
    ],
)
def test_a_leg_is_not_sent_where_its_answer_is_larger_than_the_bound(per_hit: float, hits: int, refused: bool) -> None:
    sizes = LegSizes()
    for _ in range(ENOUGH):
        sizes.note("a", 10, int(per_hit * 10))
    why = sizes.too_large("a", hits, MIB, 100.0)
    assert bool(why) is refused
    assert not refused or ("max_leg_bytes" in why and count_of(hits, "hit") in why)
    assert sizes.refused(101.0) == why
    assert sizes.too_large("b", hits, MIB, 100.0) == ""  # of another shape, nothing is known


def test_one_leg_in_a_while_shows_whether_hits_are_still_as_large() -> None:
    sizes = LegSizes()
    for _ in range(ENOUGH):
        sizes.note("a", 10, 4 * MIB)
    sent = [at_s for at_s in range(200) if not sizes.too_large("a", 10, MIB, float(at_s))]
    assert sent == [PROBE_S * n for n in range(1, 7)]
    sizes.note("a", 10, 4 * MIB)
    assert sizes.too_large("a", 10, MIB, 200.0)
    sizes.note("a", 10, 1_000)
    assert all(not sizes.too_large("a", 10, MIB, 200.0 + n) for n in range(10))


@pytest.mark.parametrize("before", [0, 2, LATEST])
@pytest.mark.parametrize("large", [1, 2])
def test_one_search_that_finds_large_documents_sends_no_other_alone(before: int, large: int) -> None:
    sizes = LegSizes()
    for _ in range(before):
        sizes.note("a", 10, 10_000)
    for _ in range(20):
        for _ in range(large):  # its personalized leg, and its exploration
            sizes.note("a", 10, 40 * MIB)
        for _ in range(2 * large):
            assert sizes.too_large("a", 10, MIB, 100.0) == ""
            sizes.note("a", 10, 10_000)


@pytest.mark.parametrize(
    ("per_hit", "least", "expected"),
    [
        (100, 5, 20),
        (EXPLORATION_BYTES // 20, 5, 20),
        (EXPLORATION_BYTES // 8, 5, 8),
        (10**6, 5, 5),
        (10**6, 32, 20),
        (0, 5, 20),
    ],
)
def test_a_pool_asks_for_as_many_hits_as_its_bytes_hold(per_hit: int, least: int, expected: int) -> None:
    sizes = LegSizes()
    sizes.note("a", 10, per_hit * 10)
    assert sizes.pool("a", 20, least) == expected


def test_what_is_remembered_is_bounded() -> None:
    sizes = LegSizes()
    for n in range(10_000):
        sizes.note(f"shape {n}", 10, MIB)
    assert len(sizes._per_hit) <= 256


@pytest.mark.parametrize(
    "other",
    [{"_source": ["title"]}, {"_source": False}, {"fields": ["brand"]}, {"highlight": {"fields": {"title": {}}}}],
)
def test_what_is_asked_of_a_hit_is_told_apart(other: dict[str, Any]) -> None:
    body = {"query": {"match": {"title": "shoe"}}}
    assert hit_shape(("i",), body) == hit_shape(("i",), {**body, "size": 3, "from": 7, "query": {"match_all": {}}})
    assert hit_shape(("i",), body) != hit_shape(("i",), {**body, **other})
    assert hit_shape(("i",), body) != hit_shape(("j",), body)


def test_hits_inside_hits_and_what_stands_after_many_names_are_told_apart() -> None:
    nested: dict[str, Any] = {"nested": {"path": "parts", "query": {"match_all": {}}}}
    within = {"nested": {**nested["nested"], "inner_hits": {"size": 100}}}
    many = tuple(f"an-index-with-a-long-name-{n}" for n in range(40))
    shapes = {
        hit_shape(many, {"query": {"bool": {"must": [query]}}, **more})
        for query in (nested, within)
        for more in ({}, {"_source": False})
    }
    assert len(shapes) == 4


def heavy(kilobytes: int) -> Any:
    def act(answer: dict[str, Any]) -> dict[str, Any]:
        for hit in answer["hits"]["hits"]:
            hit["_source"]["text"] = "x" * 1_000 * kilobytes
        if (limits := LIMITS.get()) is not None:  # as a clone's connection does
            limits.size = len(json.dumps(answer))
        return answer

    return act


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize("kilobytes", [1, 20, 45, 60, 150, 2_000])
def test_a_search_steps_aside_by_itself_and_says_so(kind: type[Harness], kilobytes: int) -> None:
    with kind(SETTINGS, store()) as harness:
        harness.engine.on = {leg: heavy(kilobytes) for leg in ("baseline", "personal", "explored")}
        reports = []
        for n in range(2 * ENOUGH):
            body = {"query": {"match": {"title": f"shoe {n}"}}, "size": 10}
            response, report = harness.search(ANN, {"index": "products", "body": body})
            assert len(response["hits"]["hits"]) == 10
            reports.append(report)
            harness.until(lambda status: status.in_flight == 0)
        assert reports[0].reason is Reason.PERSONALIZED
        asked = [one["body"]["size"] for one in harness.engine.asked["explored"]]
        if kilobytes > 52:
            searches = ENOUGH // 2  # each notes a personalized leg and one of exploration
            assert {report.reason for report in reports[searches:]} == {Reason.UNSUPPORTED}
            assert all("max_leg_bytes" in report.detail for report in reports[searches:])
            assert [len(harness.engine.asked[leg]) for leg in ("personal", "explored")] == [searches, searches]
            assert any("max_leg_bytes" in one for one in harness.status().problems)
            assert not harness.store or harness.status().breaker["failures"] == 0
        else:
            assert {report.reason for report in reports} == {Reason.PERSONALIZED}
            assert asked[0] in (20, asked[-1])  # the first, before the personalized leg has shown how large hits are
            assert asked[-1] == {1: 20, 20: 5, 45: 5}[kilobytes]
            assert all(report.slots for report in reports)
            assert harness.status().healthy


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
def test_a_search_for_less_of_the_same_hits_is_personalized_all_the_same(kind: type[Harness]) -> None:
    with kind(SETTINGS, store()) as harness:
        harness.engine.on = {leg: heavy(500) for leg in ("personal", "explored")}
        body: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "size": 10}
        for n in range(ENOUGH // 2):
            harness.search(ANN, {"index": "products", "body": {**body, "query": {"match": {"title": f"shoe {n}"}}}})
            harness.until(lambda status: status.in_flight == 0)
        _, report = harness.search(ANN, {"index": "products", "body": body})
        assert report.reason is Reason.UNSUPPORTED
        harness.engine.on.clear()
        _, report = harness.search(ANN, {"index": "products", "body": body | {"_source": ["brand"]}})
        assert report.reason is Reason.PERSONALIZED
        _, report = harness.search(ANN, {"index": "products", "body": body | {"size": 1}})
        assert report.reason is Reason.PERSONALIZED


def test_the_store_is_not_read_for_a_search_that_steps_aside() -> None:
    played = FakeStore()
    with HARNESSES[0](SETTINGS, played) as harness:
        for _ in range(ENOUGH):
            harness.core.leg_sizes["shop"].note(hit_shape(("products",), {"query": {}}), 10, 20 * MIB)
        reads = played.reads
        _, report = harness.search(
            ANN, {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}
        )
        assert report.reason is Reason.UNSUPPORTED
        assert played.reads == reads
