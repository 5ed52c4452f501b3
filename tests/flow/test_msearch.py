"""Batches: each search is decided, personalized and reported on its own, and none costs another, nor the caller, anything."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest
from opensearchpy.exceptions import NotFoundError, RequestError

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.client.batch import HEAD_KEYS
from rewriter.flow.batch import MAX_SEARCHES, together
from rewriter.flow.steps import Explored, Launch, Personal, SearchLeg, SearchLegs
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.arguments import SEAM
from tests.fakes import HARNESSES, FakeStore, Harness

ANN = Subject("ann", "s1")
SHOE: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "size": 10}
HEAD = {"index": "products"}


def settings(**budget: Any) -> Settings:
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000, **budget},
            "policies": {"shop": {"index": "products*", "exploration_share": 0.15, "item_repeat_share": 1.0}},
        }
    )


def store() -> FakeStore:
    """Ann likes p7."""
    found = FakeStore()
    found.write(Keys().profile("ann"), Counters({("item", "p7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    return found


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    with request.param(settings(), store()) as opened:
        yield opened


def batch(*bodies: Any) -> dict[str, Any]:
    return {"body": [line for body in bodies for line in (dict(HEAD), copy.deepcopy(body))]}


def first_of(answer: Any) -> list[Any]:
    return [one["hits"]["hits"][0]["_id"] if one.get("hits", {}).get("hits") else None for one in answer["responses"]]


def reasons(reports: Any) -> list[Reason]:
    return [report.reason for report in reports]


def idle(harness: Harness) -> None:
    harness.until(lambda status: status.in_flight == 0)
    assert harness.status().breaker["permits"] == 0


def test_each_search_has_its_own_answer_and_report_in_its_place(harness: Harness) -> None:
    arguments = batch(
        SHOE, {**SHOE, "sort": ["price"]}, {**SHOE, "size": 5}, {**SHOE, "query": {"match": {"t": "nothing"}}}, "text"
    )
    before = copy.deepcopy(arguments)
    answer, reports = harness.msearch(ANN, arguments)
    assert arguments == before
    assert reasons(reports) == [
        Reason.PERSONALIZED,
        Reason.SORTED,
        Reason.PERSONALIZED,
        Reason.NO_HITS,
        Reason.UNSUPPORTED,
    ]
    assert first_of(answer)[:4] == ["p7", "p0", "p7", None]
    assert [len(one["hits"]["hits"]) for one in answer["responses"]][:3] == [10, 10, 5]
    assert [one["status"] for one in answer["responses"]] == [200] * 5
    assert all(report.slots for report in reports if report.reason is Reason.PERSONALIZED and report is reports[0])
    idle(harness)


def test_signals_are_read_once_and_all_legs_are_one_request(harness: Harness) -> None:
    assert harness.store is not None
    harness.msearch(ANN, batch(*[SHOE] * 5))
    assert harness.store.signal_reads == 1
    assert harness.engine.batches == {"baseline": 1, "legs": 1}
    assert len(harness.engine.asked["baseline"]) == 5


def test_a_leg_that_does_not_parse_costs_no_neighbor_its_page(harness: Harness) -> None:
    def unparsable(found: Any) -> Any:
        if harness.engine.asked["personal"][-1]["body"]["query"] == {"match": {"title": "odd"}}:
            raise RequestError(
                400, "parsing_exception", {"error": {"type": "parsing_exception", "reason": "x"}, "status": 400}
            )
        return found

    harness.engine.on["personal"] = unparsable
    answer, reports = harness.msearch(
        ANN, batch(SHOE, {**SHOE, "query": {"match": {"title": "odd"}}}, {**SHOE, "size": 4})
    )
    assert reasons(reports) == [Reason.PERSONALIZED, Reason.SEARCH_REJECTED, Reason.PERSONALIZED]
    assert first_of(answer) == ["p7", "p0", "p7"]
    idle(harness)


def test_a_leg_that_fails_alone_costs_no_neighbor_its_page(harness: Harness) -> None:
    def failing(found: Any) -> Any:
        return {"error": {"type": "i_o_exception"}, "status": 503} if len(found["hits"]["hits"]) == 4 else found

    harness.engine.on["personal"] = failing
    answer, reports = harness.msearch(ANN, batch(SHOE, {**SHOE, "size": 4}))
    assert reasons(reports) == [Reason.PERSONALIZED, Reason.SEARCH_FAILED]
    assert first_of(answer) == ["p7", "p0"]


def test_the_caller_s_failure_is_the_caller_s(harness: Harness) -> None:
    error = NotFoundError(404, "no", {})

    def gone(_: Any) -> Any:
        raise error

    harness.engine.on["baseline"] = gone
    with pytest.raises(NotFoundError) as raised:
        harness.msearch(ANN, batch(SHOE, SHOE))
    assert raised.value is error
    idle(harness)


def test_one_search_of_the_caller_s_that_fails_stays_as_it_is(harness: Harness) -> None:
    def one_fails(found: Any) -> Any:
        return (
            {"error": {"type": "index_not_found_exception"}, "status": 404}
            if len(found["hits"]["hits"]) == 4
            else found
        )

    harness.engine.on["baseline"] = one_fails
    answer, reports = harness.msearch(ANN, batch({**SHOE, "size": 4}, SHOE))
    assert answer["responses"][0] == {"error": {"type": "index_not_found_exception"}, "status": 404}
    assert reasons(reports) == [Reason.BASELINE_PARTIAL, Reason.PERSONALIZED]
    assert reports[0].detail == "the caller's own search failed: index_not_found_exception"
    idle(harness)


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({"body": '{"index": "products"}\n{}\n'}, "the body is not a list of heads and searches in turn"),
        ({"body": [HEAD]}, "the body is not a list of heads and searches in turn"),
        ({"body": [HEAD, SHOE], "headers": 5}, "`headers` must be a dict"),
    ],
)
def test_what_cannot_be_read_is_passed_through_with_a_reason(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], detail: str
) -> None:
    own = {"took": 1, "responses": [{"hits": {"hits": []}, "status": 200}]}

    def answers(*_: Any, **__: Any) -> Any:
        return own

    async def awaits(*_: Any, **__: Any) -> Any:
        return own

    raw = harness.rewriter._client.raw
    monkeypatch.setattr(type(raw), "msearch", answers if isinstance(harness.rewriter, Rewriter) else awaits)
    answer, reports = harness.msearch(ANN, arguments)
    assert answer is own
    assert [(report.reason, report.detail) for report in reports] == [(Reason.UNSUPPORTED, detail)]


def test_an_answer_without_responses_is_served_with_a_reason_for_each_search(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(*_: Any, **__: Any) -> Any:
        return {"took": 1}

    async def awaits(*_: Any, **__: Any) -> Any:
        return {"took": 1}

    raw = harness.rewriter._client.raw
    monkeypatch.setattr(type(raw), "msearch", answers if isinstance(harness.rewriter, Rewriter) else awaits)
    answer, reports = harness.msearch(ANN, {**batch(SHOE, SHOE), "filter_path": "took"})
    assert answer == {"took": 1}
    assert [report.detail for report in reports] == ["the answer to the batch has no `responses`"] * 2
    idle(harness)


def test_searches_beyond_the_bound_are_passed_through_with_a_reason(harness: Harness) -> None:
    answer, reports = harness.msearch(ANN, batch(*[SHOE] * (MAX_SEARCHES + 2)))
    assert reasons(reports) == [Reason.PERSONALIZED] * MAX_SEARCHES + [Reason.UNSUPPORTED] * 2
    assert reports[-1].detail == f"beyond the first {MAX_SEARCHES} searches of a batch"
    assert first_of(answer)[-3:] == ["p7", "p0", "p0"]


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
def test_the_cut_off_counts_once_from_the_batch_s_own_answer(kind: type[Harness]) -> None:
    with kind(settings(cutoff_ms=200), store()) as harness:
        harness.engine.blocked.add("personal")
        began_s = time.monotonic()
        answer, reports = harness.msearch(ANN, batch(*[SHOE] * 8))
        took_s = time.monotonic() - began_s
        assert reasons(reports) == [Reason.SEARCH_LATE] * 8
        assert first_of(answer) == ["p0"] * 8
        assert took_s < 8 * 0.2
        assert harness.status().in_flight == 1, "one permit for the batch"


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
def test_at_the_cap_a_batch_is_the_baseline_and_says_so(kind: type[Harness]) -> None:
    with kind(settings(cutoff_ms=50, max_in_flight=1), store()) as harness:
        harness.engine.blocked.add("personal")
        harness.msearch(ANN, batch(SHOE))
        _, reports = harness.msearch(ANN, batch(SHOE, {**SHOE, "sort": ["price"]}))
        assert reasons(reports) == [Reason.BUSY, Reason.SORTED]


def test_pages_of_a_list_go_on_in_a_batch(harness: Harness) -> None:
    first, _ = harness.search(ANN, {"index": "products", "body": SHOE})
    harness.until(lambda status: status.in_flight == 0)
    other = {**SHOE, "query": {"match": {"title": "boot"}}}
    answer, reports = harness.msearch(ANN, batch({**SHOE, "from": 10}, other, {**other, "from": 10}))
    assert reasons(reports) == [Reason.PERSONALIZED, Reason.PERSONALIZED, Reason.NO_PLAN]
    shown = [hit["_id"] for page in (first, answer["responses"][0]) for hit in page["hits"]["hits"]]
    assert len(set(shown)) == 20


def test_nobody_known_and_a_closed_rewriter_are_the_caller_s_own(harness: Harness) -> None:
    answer, reports = harness.msearch(None, batch(SHOE, SHOE))
    assert reasons(reports) == [Reason.NO_SUBJECT] * 2
    assert [one["hits"]["hits"][0]["_id"] for one in answer["responses"]] == ["p0", "p0"]
    closing = harness.rewriter.close()
    if asyncio.iscoroutine(closing):
        harness.runner.run(closing)  # type: ignore[union-attr]
    answer, reports = harness.msearch(ANN, batch(SHOE))
    assert reasons(reports) == [Reason.SWITCHED_OFF]
    assert first_of(answer) == ["p0"]


def test_a_fault_of_ours_takes_no_answer_away(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ours")

    for where in (
        "rewriter.flow.batch._read",
        "rewriter.flow.answer.merged",
        "rewriter.client.opensearch.client.read_batch",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(where, fails)
            answer, reports = harness.msearch(ANN, batch(SHOE, SHOE))
            assert first_of(answer) == ["p0", "p0"]
            assert len(reports) == 2
        idle(harness)


def test_a_wrapped_client_s_batches_are_personalized(harness: Harness) -> None:
    found = harness.rewriter.wrap().msearch(**batch(SHOE), subject=ANN)
    answer = harness.runner.run(found) if asyncio.iscoroutine(found) else found  # type: ignore[union-attr]
    assert first_of(answer) == ["p7"]


# --- the lines of a batch ---------------------------------------------------------------------------------------------


def test_a_head_says_anew_what_the_url_says() -> None:
    lines = [{"routing": "a"}, SHOE, {"indices": ["x", "y"], "preference": "p", "request_cache": True}, SHOE, 5, SHOE]
    given = {
        "body": lines,
        "index": "shop",
        "search_type": "dfs_query_then_fetch",
        "max_concurrent_searches": 3,
        "request_timeout": 9,
    }
    read = SEAM.read_batch(given)
    assert isinstance(read, list)
    one, other, odd = read
    assert (one.index, one.params) == ("shop", {"search_type": "dfs_query_then_fetch", "routing": "a"})
    assert (other.index, other.params) == (["x", "y"], {"search_type": "dfs_query_then_fetch", "preference": "p"})
    assert odd.unread == "the head of the search is not a dict"
    assert "typed_keys" not in HEAD_KEYS


def test_a_batch_waits_for_no_search_for_classes() -> None:
    """They go out beside it, in one request; a leg that a page waits for goes out in the batch's own."""
    sent = [SearchLeg(cast("Any", name), 1.0, lambda *_: None) for name in ("milk", "soup", "shoe")]
    learned: list[Any] = []

    def asking(leg: SearchLeg) -> Generator[Any, Any, Explored]:
        learned.append((yield leg))
        return Explored()

    def unboosted(leg: SearchLeg) -> Generator[Any, Any, Personal]:
        yield Launch(asking(leg))
        return Personal(Reason.NO_SIGNALS, "")

    def boosted(leg: SearchLeg) -> Generator[Any, Any, Personal]:
        yield leg
        return Personal(Reason.PERSONALIZED, "")

    batched = together([unboosted(sent[0]), boosted(sent[2]), unboosted(sent[1])])
    beside = next(batched)
    assert isinstance(beside, Launch)
    assert batched.send(None) == SearchLegs((sent[2],))
    with pytest.raises(StopIteration) as ended:
        batched.send(["page"])
    found = [one.personal.reason for one in ended.value.value if one.personal]
    assert found == [Reason.NO_SIGNALS, Reason.PERSONALIZED, Reason.NO_SIGNALS]
    assert next(beside.part) == SearchLegs((sent[0], sent[1]))
    with pytest.raises(StopIteration):
        beside.part.send(["classes of milk", "classes of soup"])
    assert learned == ["classes of milk", "classes of soup"]
