"""Whose exploration hits are shown to whom: everyone who sends the same search, or fewer, as the policy sets it."""

from __future__ import annotations

from threading import Timer
from typing import Any

import pytest

from rewriter import Reason, Settings, Subject
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.reason_cases import LIKED, MATCH, SEARCH

ANN, ANN_AGAIN, BOB = Subject("ann", "s1"), Subject("ann", "s2"), Subject("bob", "s3")
STAFF, MORE_STAFF = Subject("ann", "s1", ("staff",)), Subject("bob", "s3", ("staff",))
HEADERS = [{"headers": {"Authorization": who}} for who in ("ann", "bob")]
BYTES = [{"headers": {b"Authorization": who}} for who in (b"ann", b"bob")]


def harness(kind: type[Harness], shared_by: str, **more: Any) -> Harness:
    store = FakeStore()
    for user in ("ann", "bob"):
        store.write(Keys().profile(user), LIKED, None)
    given: dict[str, Any] = {"experiment": {"holdout": 0}, "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000}, **more}
    given["policies"] = {"shop": {"index": "products*", "item_repeat_share": 1.0, "exploration_shared_by": shared_by}}
    return kind(Settings.model_validate(given), store)


@pytest.mark.parametrize("kind", HARNESSES)
@pytest.mark.parametrize(
    ("shared_by", "first", "second", "searches"),
    [
        ("everyone", (ANN, {}), (BOB, {}), 1),
        ("everyone", (ANN, HEADERS[0]), (BOB, HEADERS[1]), 2),
        ("everyone", (ANN, HEADERS[0]), (BOB, HEADERS[0]), 1),
        ("everyone", (ANN, BYTES[0]), (BOB, BYTES[1]), 2),
        ("everyone", (ANN, HEADERS[0]), (BOB, BYTES[0]), 1),
        ("everyone", (ANN, {"headers": {"x-b3-traceid": "1"}}), (BOB, {"headers": {"x-b3-traceid": "2"}}), 1),
        ("everyone", (ANN, {"routing": "a"}), (BOB, {"routing": "b"}), 2),
        ("segments", (STAFF, {}), (MORE_STAFF, {}), 1),
        ("segments", (STAFF, {}), (BOB, {}), 2),
        ("subject", (ANN, {}), (ANN, {}), 1),
        ("subject", (ANN, {}), (BOB, {}), 2),
        ("subject", (ANN, {}), (ANN_AGAIN, {}), 2),
        ("subject", (STAFF, {}), (ANN, {}), 2),
    ],
)
def test_who_shares_a_pool(kind: type[Harness], shared_by: str, first: Any, second: Any, searches: int) -> None:
    with harness(kind, shared_by) as one:
        for subject, arguments in (first, second):
            _, report = one.search(subject, {**SEARCH, **arguments})
            assert report.reason is Reason.PERSONALIZED
            assert len(report.slots) == 1
            one.until(lambda status: status.in_flight == 0)
        assert len(one.engine.asked["explored"]) == searches


@pytest.mark.parametrize("kind", HARNESSES)
def test_searches_that_differ_in_what_str_leaves_out_share_nothing(kind: type[Harness]) -> None:
    numpy = pytest.importorskip("numpy")
    edge = [*range(3)], [*range(2_997, 3_000)]
    with harness(kind, "everyone") as one:
        for start in (100, 1_200, 100):
            allowed = numpy.array([*edge[0], *range(start, start + 1_000), *edge[1]])
            query = {"bool": {"must": [MATCH], "filter": [{"terms": {"sku": allowed}}]}}
            assert one.search(ANN, {"index": "products", "body": {"query": query, "size": 10}})[1].slots
            one.until(lambda status: status.in_flight == 0)
        sent = [asked["body"]["query"]["bool"]["filter"][0]["terms"]["sku"] for asked in one.engine.asked["explored"]]
    assert [skus[3] for skus in sent] == [100, 1_200]
    assert all(isinstance(skus, list) for skus in sent)


@pytest.mark.parametrize("kind", HARNESSES)
@pytest.mark.parametrize("renewed", [{"headers": {"Authorization": "renewed"}}, {"headers": {"sentry-trace": "2"}}])
def test_a_list_goes_on_with_renewed_credentials_and_another_trace(kind: type[Harness], renewed: Any) -> None:
    with harness(kind, "everyone") as one:
        first, _ = one.search(ANN, {**SEARCH, "headers": {"Authorization": "first", "sentry-trace": "1"}})
        one.until(lambda status: status.in_flight == 0)
        body = {**SEARCH["body"], "from": 10}
        second, report = one.search(ANN, {**SEARCH, "body": body, **renewed})
    assert report.reason is Reason.PERSONALIZED
    ids = [hit["_id"] for page in (first, second) for hit in page["hits"]["hits"]]
    assert len(set(ids)) == len(ids) == 20


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_body_changed_after_the_call_keeps_its_list(kind: type[Harness]) -> None:
    with harness(kind, "everyone") as one:
        body: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "size": 10}
        assert one.search(ANN, {"index": "products", "body": body})[1].slots
        body["query"]["match"]["title"] = "boot"  # the caller's next search
        one.until(lambda status: status.in_flight == 0)
        first, _ = one.search(ANN, {"index": "products", "body": {**body, "from": 10}})
        assert first["hits"]["hits"]
        _, other = one.search(ANN, {"index": "products", "body": {**body, "from": 10}})
        _, report = one.search(ANN, {**SEARCH, "body": {**SEARCH["body"], "from": 10}})
    assert other.reason is Reason.NO_PLAN
    assert report.reason is Reason.PERSONALIZED


def test_a_late_leg_is_sent_as_the_search_was_at_the_time_of_the_call() -> None:
    """Its store answers only after another thread of the caller's has changed the body."""
    with harness(HARNESSES[0], "everyone", budget={"signals_ms": 10_000, "cutoff_ms": 10_000}) as one:
        store = one.store
        assert store is not None
        store.state = "hung"
        body: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "size": 10}

        def change() -> None:
            body["query"]["match"]["title"] = "nothing"
            store.released.set()

        Timer(0.1, change).start()
        one.search(ANN, {"index": "products", "body": body})
        (leg,) = one.engine.asked["personal"]
    assert leg["body"]["query"] == {"match": {"title": "shoe"}}
