"""A search that is sent once: what is sent, what a second search is sent for, and what is remembered of it. Through both shells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from opensearchpy.exceptions import ConnectionTimeout, NotFoundError, RequestError, TransportError

from rewriter import AsyncRewriter, Reason, Report, Rewriter, Settings, Subject
from rewriter.decide.hedging import KNOWN, MAX_TOKENS
from rewriter.explore.merge import candidates_of
from rewriter.explore.shown import HASH_BYTES
from rewriter.expression import Expression
from rewriter.index_facts import IndexFacts
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import (
    HARNESSES,
    AsyncClient,
    AsyncFakeStore,
    Client,
    FakeEngine,
    FakeStore,
    Harness,
    SyncHarness,
    awaited,
    knowing,
    known,
    waited,
)
from tests.reason_cases import ANN, MATCH, NOW_S, ONE_IS_BUSY, ONE_REJECTS, SEARCH, gives, raises, scored

LIKED = Counters({("item", "p7"): 6.0}, {"item": 6.0}, NOW_S, NOW_S, events=3.0)
REJECTED = RequestError(400, "parsing_exception", {"error": "x"})
BUSY = TransportError(503, "busy", {})


def settings(*, budget: Mapping[str, Any] | None = None, **policy: Any) -> Settings:
    mode = {"index": "products*", "item_repeat_share": 1.0, "mode": "rewrite", "parallel_share": 0, "hedge_ms": 4_000}
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000, **(budget or {})},
            "policies": {"shop": {**mode, **policy}},
        }
    )


def store() -> FakeStore:
    found = FakeStore()
    found.write(Keys().profile("ann"), LIKED, None)
    return found


Open = Callable[..., Harness]


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def opens(request: pytest.FixtureRequest) -> Iterator[Open]:
    made: list[Harness] = []

    def opens(**given: Any) -> Harness:
        made.append(request.param(settings(**given), store()))
        return made[-1]

    yield opens
    for one in made:
        one.__exit__(None, None, None)


def at_once(harness: Harness, **changes: Any) -> tuple[Any, Report]:
    return harness.search(ANN, {"index": "products", **changes, "body": {"query": MATCH, **changes.get("body", {})}})


def searched(harness: Harness, **changes: Any) -> tuple[Any, Report]:
    """Search, and wait until nothing of it is left."""
    found = at_once(harness, **changes)
    harness.until(lambda status: status.in_flight == status.rewritten_in_flight == status.plans_waiting == 0)
    return found


def sent(harness: Harness) -> tuple[int, int, int]:
    baseline, personal, explored = (len(asked) for asked in harness.engine.asked.values())
    return baseline, personal, explored


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_one_search_is_sent_with_everything_that_the_caller_asks_for(opens: Open) -> None:
    harness = opens()
    body = {
        "aggs": {"b": {"terms": {"field": "brand"}}},
        "suggest": {"s": {"text": "x", "term": {"field": "title"}}},
        "size": 8,
    }
    _, report = searched(
        harness, body=body, routing="eu", request_cache=False, cancel_after_time_interval="3s", opaque_id="7", request_timeout=3
    )  # fmt: skip
    assert (report.reason, report.mode, sent(harness)) == (Reason.PERSONALIZED, "rewrite", (0, 1, 1))
    (asked,) = harness.engine.asked["personal"]
    rescored = asked["body"].pop("rescore")
    assert asked["body"] == {"query": MATCH, **body, "from": 0}
    assert len(rescored) == 1
    assert asked["params"] == {"routing": "eu", "request_cache": "false", "cancel_after_time_interval": "3s"}
    assert asked["headers"] == {"x-opaque-id": "7"}
    assert 0.0 < asked["request_timeout"] <= 3.0
    assert report.timings_ms.keys() >= {"signals", "render", "rewritten", "merge"}
    assert "baseline" not in report.timings_ms


def test_a_page_begins_at_its_personalized_rank_and_asks_no_deeper_than_its_caller(opens: Open) -> None:
    harness = opens()
    for at in (0, 10, 20):
        assert searched(harness, body={"size": 10, "from": at})[1].mode == "rewrite"
    asked = [(one["body"]["from"], one["body"]["size"]) for one in harness.engine.asked["personal"]]
    assert [from_ + size for from_, size in asked] == [10, 20, 30]
    (first, second, third) = (from_ for from_, _ in asked)
    assert (first, second) == (0, 9)
    assert third in (18, 19)  # the hit of the first page's slot may stand on the second one's ranks


@pytest.mark.parametrize("size", [4, 7, 10, 24])
def test_no_hit_is_lost_between_pages_and_none_shows_twice(opens: Open, size: int) -> None:
    harness, ids = opens(), []
    for at in range(0, 40, size):
        answer, report = searched(harness, body={"size": size, "from": at})
        assert report.reason is Reason.PERSONALIZED
        ids += [hit["_id"] for hit in answer["hits"]["hits"]]
    assert sorted(ids, key=lambda one: int(one[1:])) == [f"p{n}" for n in range(len(ids))]
    assert len(ids) == 40


def test_a_page_after_a_jump_goes_parallel(opens: Open) -> None:
    harness = opens()
    searched(harness)
    _, report = searched(harness, body={"from": 20})
    assert (report.reason, report.mode) == (Reason.PERSONALIZED, "parallel")
    assert "its plan does not show where the page begins" in report.detail


def test_a_drawn_hit_whose_pool_is_gone_has_its_page_go_parallel(opens: Open) -> None:
    harness = opens()
    first, _ = searched(harness)
    searched(harness, body={"from": 10})
    harness.core.pools._kept.clear()
    harness.engine.on["explored"] = raises(BUSY)
    again, report = searched(harness)
    assert (report.reason, report.mode) == (Reason.PERSONALIZED, "parallel")
    assert len(again["hits"]["hits"]) == len(first["hits"]["hits"])


def test_max_score_is_the_list_s_on_every_page(opens: Open) -> None:
    harness = opens()
    harness.engine.on["personal"] = lambda answer: {**answer, "hits": {**answer["hits"], "max_score": 139.5}}
    assert [searched(harness, body={"from": at})[0]["hits"]["max_score"] for at in (0, 10)] == [139.5, 139.5]


def test_names_of_ours_are_in_no_part_of_the_answer(opens: Open) -> None:
    harness = opens()
    named = {"_index": "products", "_id": "p1", "_score": 1.0, "matched_queries": ["rewriter:0", "own"]}
    inner = {"hits": {"hits": [dict(named)]}}

    def with_names(answer: dict[str, Any]) -> Any:
        hits = [{**hit, "inner_hits": {"i": inner}} for hit in answer["hits"]["hits"]]
        return {**answer, "hits": {**answer["hits"], "hits": hits}}

    harness.engine.on["personal"] = with_names
    answer, report = searched(harness)
    assert report.mode == "rewrite"
    assert "rewriter:" not in repr(answer)


# --- which searches go parallel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "changes", "why"),
    [
        ({"parallel_share": 1}, {}, "one of the share that is measured"),
        ({}, {"body": {"aggs": {"t": {"top_hits": {}}}}}, "`top_hits` is not known"),
        ({}, {"body": {"ext": {"ubi": {}}}}, "the hits before exploration"),
        ({}, {"request_cache": True}, "an entry for each subject"),
        ({"flat": "baseline"}, {}, "only the caller's own scores"),
        ({"hedge_ms": None}, {}, "too few searches"),
    ],
)
def test_what_cannot_be_sent_once_goes_parallel(
    opens: Open, policy: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    harness = opens(**policy)
    _, report = searched(harness, **changes)
    assert report.mode == "parallel"
    if report.reason is Reason.PERSONALIZED:
        assert why in report.detail
    assert sent(harness)[:2] == (1, 1)


def test_a_policy_is_parallel_until_enough_searches_are_known(opens: Open) -> None:
    harness = opens(hedge_ms=None)
    modes = [searched(harness)[1].mode for _ in range(KNOWN + 2)]
    assert modes == ["parallel"] * KNOWN + ["rewrite"] * 2
    hedging = harness.status().policies["shop"]["hedging"]
    assert hedging["delay_ms"] > 0.0
    assert hedging["searches"] == 2


def test_with_a_pool_flat_scores_are_known_and_without_one_the_search_goes_parallel(opens: Open) -> None:
    harness = opens(flat="baseline")
    assert searched(harness)[1].mode == "parallel"
    assert searched(harness)[1].mode == "rewrite"
    for leg in ("baseline", "personal", "explored"):
        harness.engine.on[leg] = lambda answer: scored(*[1.0] * 40)(
            {**answer, "hits": {**answer["hits"], "max_score": 1.0}}
        )
    body = {"query": {"match": {"title": "flat"}}}
    _, first = searched(harness, body=body)
    assert (first.reason, first.mode) == (Reason.FLAT_SCORES, "parallel")
    searched(harness, body=body)
    pool = candidates_of([{"_id": "p11", "_score": 1.0}], None, None)
    harness.core.pools.put(_only_key(harness), pool, time.monotonic(), 1.0)
    _, second = searched(harness)
    assert (second.reason, second.mode) == (Reason.FLAT_SCORES, "plain")


def _only_key(harness: Harness) -> str:
    return next(iter(harness.core.pools._kept._kept))


# --- what a second search is sent for ---------------------------------------------------------------------------------


def test_an_own_error_after_a_failure_is_the_caller_s_and_counts_for_nothing(opens: Open) -> None:
    harness = opens()
    error = NotFoundError(404, "index_not_found_exception", {"error": "no such index"})
    harness.engine.on |= {"personal": raises(BUSY), "baseline": raises(error)}
    with pytest.raises(NotFoundError) as raised:
        searched(harness)
    assert raised.value is error
    assert harness.status().breaker["calls"] == 0
    assert sent(harness)[:2] == (1, 1)


def test_a_search_that_fails_by_itself_goes_plain_for_a_while_and_blames_no_template(opens: Open) -> None:
    harness = opens()
    harness.engine.on |= {"personal": raises(REJECTED), "baseline": raises(REJECTED)}
    for _ in range(10):
        with pytest.raises(RequestError):
            searched(harness)
    assert sent(harness)[:2] == (10, 1)
    assert harness.status().quarantined == ()
    harness.engine.on.clear()
    _, report = searched(harness)
    assert (report.reason, report.mode) == (Reason.REJECTED_BEFORE, "plain")
    assert searched(harness, body={"query": {"match": {"title": "other"}}})[1].mode == "rewrite"


def test_a_score_of_0_has_the_same_search_go_plain_for_a_while(opens: Open) -> None:
    harness = opens()
    harness.engine.on["personal"] = scored(3.0, 0.0)
    reports = [searched(harness)[1] for _ in range(2)]
    assert [(one.reason, one.mode) for one in reports] == [
        (Reason.NO_RELEVANCE, "rewrite"),
        (Reason.NO_RELEVANCE, "plain"),
    ]
    assert sent(harness)[:2] == (2, 1)


def test_indices_whose_shard_refuses_boosts_go_parallel_until_their_facts_change(opens: Open) -> None:
    harness = opens()
    harness.engine.on["personal"] = gives(_shards=ONE_REJECTS)
    answer, report = searched(harness)
    assert (report.reason, report.mode) == (Reason.SEARCH_REJECTED, "rewrite")
    assert answer is harness.engine.sent[-1]
    harness.engine.on.clear()
    assert searched(harness)[1].mode == "parallel"
    assert searched(harness, index="products")[1].mode == "parallel"

    def once_facts_have_changed() -> str:
        facts = harness.core.snapshot.facts
        harness.core.swap(facts={**facts, "products": replace(facts["products"], max_result_window=9_000)})
        return searched(harness)[1].mode

    # A background round may write the facts of before between the swap and the search.
    assert "rewrite" in (once_facts_have_changed() for _ in range(5))


def test_failures_draw_on_the_budget_of_hedges_and_then_the_policy_goes_plain(opens: Open) -> None:
    harness = opens()
    harness.engine.on["personal"] = raises(TransportError(429, "busy", {}))
    with_breaker_closed = Settings.model_validate(
        {"breaker": {"failures_in_a_row": 10_000, "burst_error_rate": 1.0}}
    ).breaker
    harness.core.breakers["shop"]._settings = with_breaker_closed
    reports = [searched(harness)[1] for _ in range(14)]
    assert {one.reason for one in reports[:10]} == {Reason.SEARCH_FAILED}
    assert (reports[-1].reason, reports[-1].mode) == (Reason.SEARCH_LATE, "plain")
    assert "it sends none for a while" in reports[-1].detail
    assert any("more rewritten searches failed" in one for one in harness.status().problems)


LOST = {"total": 3, "successful": 2, "failed": 1, "failures": [{"reason": {"type": "node_not_connected_exception"}}]}
SCRIPT = {"script_fields": {"age": {"script": "doc['born'].value"}}}
WITH_LIMIT = {"body": {"timeout": "5ms"}}
GIVEN_UP = raises(ConnectionTimeout("", "", ""))

OWN_FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "its own `timeout` is too short": (WITH_LIMIT, {"personal": gives(timed_out=True), "baseline": gives(timed_out=True)}),
    "its own `timeout` is too short with boosts": (WITH_LIMIT, {"personal": gives(timed_out=True)}),
    "beside `request_timeout`, `timeout` is the server's": (
        {"timeout": "5ms", "request_timeout": 3}, {"personal": gives(timed_out=True)},
    ),
    "the client gives up at once": (
        {"request_timeout": 0.01}, {"personal": GIVEN_UP, "baseline": GIVEN_UP},
    ),
    "its client's own name of that": (
        {"timeout": 0.01}, {"personal": GIVEN_UP, "baseline": GIVEN_UP},
    ),
    "no client sends it": ({"headers": {"x-a": "\n"}}, {"personal": raises(ValueError()), "baseline": raises(ValueError())}),
    "a script of it fails on a hit of the personalized page": ({"body": SCRIPT}, {"personal": gives(_shards=ONE_REJECTS)}),
    "a script of it fails on hits of both pages": (
        {"body": SCRIPT}, {"personal": gives(_shards=ONE_REJECTS), "baseline": gives(_shards=ONE_REJECTS)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN_FAULTS)
def test_what_one_caller_s_searches_bring_upon_themselves_stops_no_rewriting_of_the_others(
    opens: Open, name: str
) -> None:
    harness = opens()
    hedging = harness.core.hedging["shop"]
    for _ in range(KNOWN):
        hedging.took(0.2, time.monotonic())
    changes, acts = OWN_FAULTS[name]
    for number in range(25):
        harness.engine.on = dict(acts)
        body = {"query": {"match": {"title": f"words {number}"}}, **changes.get("body", {})}
        with suppress(ConnectionTimeout, ValueError):
            searched(harness, **{**changes, "body": body})
        if number % 3 == 0:
            harness.engine.on = {}
            _, report = searched(harness, body={"query": {"match": {"title": f"other {number}"}}})
            assert (report.reason, report.mode) == (Reason.PERSONALIZED, "rewrite")
    assert hedging.status(time.monotonic()).pauses == 0
    assert harness.status().breaker["state"] == "closed"


REFUSED_ALONE: dict[str, dict[str, Any]] = {
    "a parameter of one request": {"cancel_after_time_interval": "soon"},
    "the same in `params`": {"params": {"cancel_after_time_interval": "-1"}},
    "a time limit of the server's": {"timeout": "soon", "request_timeout": 3},
    "a header that a gateway refuses": {"headers": {"x-tenant": "nobody"}},
    "a header in bytes": {"headers": {b"X-Tenant": b"nobody"}},
    "an id that is too long": {"opaque_id": "7" * 5_000},
}


@pytest.mark.parametrize("name", REFUSED_ALONE)
def test_one_caller_s_parameters_that_are_refused_cost_nobody_else_a_page(opens: Open, name: str) -> None:
    harness, refused = opens(), raises(REJECTED)
    for _ in range(2):
        harness.engine.on = {"personal": refused, "baseline": refused}
        with suppress(RequestError):
            searched(harness, **REFUSED_ALONE[name])
        harness.engine.on = {}
        assert searched(harness)[1].mode == "rewrite"
    # The same search again goes plain: it costs one round trip.
    assert searched(harness, **REFUSED_ALONE[name])[1].reason is Reason.REJECTED_BEFORE


@pytest.mark.parametrize("kind", ["index_not_found_exception", "index_closed_exception", "security_exception"])
def test_searches_of_an_index_that_comes_back_are_rewritten_at_once(opens: Open, kind: str) -> None:
    harness = opens()
    gone = raises(NotFoundError(404, kind, {"error": {"root_cause": [{"type": kind, "reason": "x"}]}, "status": 404}))
    harness.engine.on = {"personal": gone, "baseline": gone}
    for _ in range(3):
        with pytest.raises(NotFoundError):
            searched(harness)
    harness.engine.on = {}
    assert searched(harness)[1].mode == "rewrite"


@pytest.mark.parametrize("error", [{"type": "parsing_exception"}, "parsing_exception"])
def test_an_error_that_the_client_ignores_is_no_evidence_against_a_template(opens: Open, error: Any) -> None:
    harness = opens()
    harness.engine.on = {"personal": raises(REJECTED), "baseline": lambda _: {"error": error, "status": 400}}
    for number, kind in enumerate(("match", "query_string", "match_phrase") * 8):
        subject, body = Subject(f"ann{number}", f"s{number}"), {"query": {kind: {"title": f"(( {number}"}}}
        harness.store.write(Keys().profile(f"ann{number}"), LIKED, None)  # type: ignore[union-attr]
        response, report = harness.search(subject, {"index": "products", "body": body, "ignore": 400})
        assert (response["status"], report.reason) == (400, Reason.SEARCH_REJECTED)
    harness.engine.on = {}
    assert harness.status().quarantined == ()
    assert searched(harness)[1].mode == "rewrite"


def test_an_index_that_has_lost_a_shard_goes_parallel_and_stops_no_rewriting_of_others(opens: Open) -> None:
    harness = opens()
    harness.core.searched.note(Expression(("products-a",)), time.monotonic())
    harness.until(lambda _: "products-a" in harness.core.snapshot.facts)
    harness.engine.on = {"personal": gives(_shards=LOST), "baseline": gives(_shards=LOST)}
    modes = [searched(harness, index="products-a")[1].mode for _ in range(25)]
    assert modes == ["rewrite", *["parallel"] * 24]
    harness.engine.on = {}
    assert searched(harness)[1].mode == "rewrite"
    assert searched(harness, index="products-a")[1].mode == "parallel"


def test_shards_that_have_no_room_draw_on_the_budget(opens: Open) -> None:
    harness = opens()
    harness.engine.on["personal"] = gives(_shards=ONE_IS_BUSY)
    before = harness.core.hedging["shop"].status(time.monotonic()).tokens
    assert searched(harness)[1].reason is Reason.SEARCH_FAILED
    assert harness.core.hedging["shop"].status(time.monotonic()).tokens < before - 0.9
    harness.engine.on.clear()
    assert searched(harness)[1].mode == "rewrite"


def test_where_every_search_fails_with_boosts_and_without_the_policy_goes_plain(opens: Open) -> None:
    harness = opens()
    harness.engine.on = {"personal": raises(ValueError()), "baseline": raises(ValueError())}
    for number in range(int(MAX_TOKENS) + 1):
        with pytest.raises(ValueError):  # noqa: PT011  any error of the caller's own search
            searched(harness, body={"query": {"match": {"title": f"words {number}"}}})
    assert sent(harness)[:2] == (int(MAX_TOKENS) + 1, int(MAX_TOKENS))


@pytest.mark.parametrize("limit", [True, "3s", float("nan"), float("inf"), -1, 0.0, [3], object()])
def test_a_time_limit_that_the_client_may_refuse_reaches_it_first(opens: Open, limit: Any) -> None:
    harness = opens()
    _, report = searched(harness, request_timeout=limit)
    if limit == 0.0:  # which opensearch-py ignores
        assert report.mode == "rewrite"
    else:
        assert (report.mode, sent(harness)[0]) == ("parallel", 1)


def test_beyond_their_cap_searches_are_plain_and_optional_legs_have_theirs(opens: Open) -> None:
    harness = opens(budget={"max_rewritten": 1})
    assert harness.status().max_rewritten == 1
    bulkhead = harness.rewriter._runtime.rewritten  # type: ignore[union-attr]
    assert bulkhead.try_acquire()
    _, report = harness.search(ANN, SEARCH)
    assert (report.reason, report.detail) == (Reason.BUSY, "1 rewritten search in flight")
    bulkhead.give_back()
    assert searched(harness)[1].reason is Reason.PERSONALIZED


@pytest.mark.parametrize("mode", ["rewrite", "parallel"])
@pytest.mark.parametrize("name", ["rewriter:99", "rewriter:" + "9" * 5_000, "rewriter:", "rewriter:x"])
def test_a_caller_s_name_that_looks_like_one_of_ours_costs_no_report(opens: Open, name: str, mode: str) -> None:
    def named(found: dict[str, Any]) -> dict[str, Any]:
        hits = [{**one, "matched_queries": [*one.get("matched_queries", []), name]} for one in found["hits"]["hits"]]
        return {**found, "hits": {**found["hits"], "hits": hits}}

    harness = opens(named_share=1.0, mode=mode)
    harness.engine.on = dict.fromkeys(("personal", "baseline", "explored"), named)
    _, report = searched(harness)
    assert report.reason is Reason.PERSONALIZED
    assert all(at < len(report.boosts) for move in report.moves for at in move.boosts)
    assert report.page_facts is not None


def test_a_fault_of_ours_costs_no_search(opens: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    harness = opens()
    for name in ("_in_time", "_finish", "_served"):
        with monkeypatch.context() as patched:
            patched.setattr(f"rewriter.flow.rewrite.{name}", broken)
            before = sent(harness)[0]
            answer, report = searched(harness)
        assert (report.reason, report.detail) == (Reason.SEARCH_FAILED, "internal: ZeroDivisionError")
        assert answer is harness.engine.sent[-1]
        assert sent(harness)[0] == before + 1


# --- hedges -----------------------------------------------------------------------------------------------------------


def test_a_late_search_is_hedged_and_counts_as_slow(opens: Open) -> None:
    harness = opens(hedge_ms=60, exploration_share=0)
    harness.engine.blocked.add("personal")
    started_s = time.monotonic()
    answer, report = harness.search(ANN, SEARCH)
    assert time.monotonic() - started_s >= 0.06
    assert (report.reason, report.hedged, report.mode) == (Reason.SEARCH_LATE, True, "rewrite")
    assert answer is harness.engine.sent[-1]
    harness.engine.released.set()
    harness.until(lambda status: status.rewritten_in_flight == 0)
    status = harness.status()
    assert (status.breaker["calls"], status.breaker["slow"], status.breaker["failures"]) == (1, 1, 0)
    assert status.policies["shop"]["hedging"]["hedges"] == 1


def test_without_a_budget_a_late_search_is_waited_for(opens: Open) -> None:
    harness = opens(hedge_ms=30, hedge_share=0, exploration_share=0)
    harness.core.hedging["shop"]._tokens = 0.0

    def slowly(answer: dict[str, Any]) -> Any:
        time.sleep(0.1)  # this is the slow server; it holds the event loop too
        return answer

    harness.engine.on["personal"] = slowly
    if isinstance(harness, SyncHarness):
        _, report = searched(harness)
        assert (report.reason, report.hedged) == (Reason.PERSONALIZED, False)
        assert sent(harness)[0] == 0
        assert harness.status().breaker["slow"] == 1
        assert harness.status().policies["shop"]["hedging"]["refused"] == 1


class Racing:
    """The caller's client; `wait` is what becomes of its searches."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.cancelled = False
        self.error: Exception | None = None

    def answer(self, arguments: dict[str, Any]) -> Any:
        if self.error is not None:
            raise self.error
        return self.engine.answer("baseline", arguments)


class RacingSync(Racing):
    def search(self, **arguments: Any) -> Any:
        self.engine.released.set()  # the rewritten answer comes while this one is under way
        time.sleep(0.2)  # this is the search
        return self.answer(arguments)


class RacingAsync(Racing):
    releases = True

    async def search(self, **arguments: Any) -> Any:
        if self.releases:
            self.engine.released.set()
        try:
            await asyncio.sleep(10.0 if self.error is None else 0.2)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.answer(arguments)


@pytest.mark.parametrize("error", [None, BUSY], ids=["own is well", "own fails"])
def test_a_rewritten_answer_that_is_there_first_is_served_whole_sync(error: Exception | None) -> None:
    engine = FakeEngine()
    client = RacingSync(engine)
    client.error = error
    with Rewriter(client, store(), settings(hedge_ms=40), leg_client=Client(engine)) as rewriter:
        known(rewriter, "products")
        engine.blocked.add("personal")
        _, report = rewriter.search_details(**SEARCH, subject=ANN)
        assert (report.reason, report.hedged) == (Reason.PERSONALIZED, True)
        assert rewriter.status().breaker["slow"] == 1


@pytest.mark.parametrize("error", [None, BUSY], ids=["own is slow", "own fails"])
async def test_the_first_answer_is_served_and_the_other_search_is_ended_async(error: Exception | None) -> None:
    engine = FakeEngine()
    client = RacingAsync(engine)
    client.error = error
    async with AsyncRewriter(
        client, AsyncFakeStore(store()), settings(hedge_ms=40), leg_client=AsyncClient(engine)
    ) as rewriter:
        await knowing(rewriter, "products")
        engine.blocked.add("personal")
        _, report = await rewriter.search_details(**SEARCH, subject=ANN)
        assert (report.reason, report.hedged) == (Reason.PERSONALIZED, True)
        if error is None:
            await awaited(lambda: client.cancelled)
        assert (await rewriter.status()).rewritten_in_flight == 0


async def test_close_does_not_end_the_caller_s_own_search() -> None:
    engine = FakeEngine()
    rewriter = AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store()), settings(hedge_ms=10), leg_client=AsyncClient(engine)
    )
    await knowing(rewriter, "products")
    engine.blocked = {"personal", "baseline"}
    searching = asyncio.ensure_future(rewriter.search_details(**SEARCH, subject=ANN))
    here = rewriter._runtime
    assert here is not None
    await awaited(lambda: here.core.hedging["shop"].status(time.monotonic()).hedges == 1)
    await asyncio.sleep(0.01)  # the caller's own search is then under way
    await rewriter.close()
    engine.released.set()
    answer, report = await searching
    assert answer is engine.sent[-1]
    assert report.variant == "baseline"


async def test_a_cancelled_search_ends_both_of_its_searches_and_gives_everything_back() -> None:
    engine = FakeEngine()
    client = RacingAsync(engine)
    async with AsyncRewriter(
        client, AsyncFakeStore(store()), settings(hedge_ms=40), leg_client=AsyncClient(engine)
    ) as rewriter:
        here = (await knowing(rewriter, "products"))._runtime
        assert here is not None
        engine.blocked.add("personal")
        client.releases = False
        for wait_s in (0.01, 0.1):
            task = asyncio.ensure_future(rewriter.search(**SEARCH, subject=ANN))
            await asyncio.sleep(wait_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await awaited(lambda: here.rewritten.count == 0)
        assert here.core.breakers["shop"].status(time.monotonic()).permits == 0


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_a_stale_pool_serves_and_is_fetched_anew_beside_the_search(opens: Open) -> None:
    harness = opens(exploration_fresh_s=0, exploration_stale_s=600)
    first, second = (searched(harness)[1] for _ in range(2))
    assert [len(one.slots) for one in (first, second)] == [1, 1]
    assert sent(harness) == (0, 2, 2)
    harness.engine.blocked.add("explored")
    harness.core.pools._claimed.clear()
    _, third = at_once(harness)
    assert len(third.slots) == 1  # it waits for no pool
    _, fourth = at_once(harness)
    assert len(fourth.slots) == 1
    harness.engine.released.set()
    harness.until(lambda status: status.in_flight == 0)
    assert sent(harness) == (0, 4, 3)  # one search fetches it, not everybody
    assert harness.status().exploration_pools == {"missing": 1, "stale": 3}


def test_a_page_need_not_wait_for_a_pool_that_nobody_has_fetched(opens: Open) -> None:
    harness = opens(exploration_wait=False)
    harness.engine.blocked.add("explored")
    _, first = at_once(harness)
    assert (first.reason, first.slots, first.errors) == (Reason.PERSONALIZED, (), ())
    harness.engine.released.set()
    harness.until(lambda status: status.in_flight == 0)
    assert len(searched(harness)[1].slots) == 1


def test_a_pool_is_fetched_with_the_headers_of_the_search_that_finds_it_missing(opens: Open) -> None:
    harness = opens()
    searched(harness, headers={"authorization": "one"})
    searched(harness, headers={"authorization": "two"})
    assert [one["headers"] for one in harness.engine.asked["explored"]] == [
        {"authorization": "one"},
        {"authorization": "two"},
    ]


# --- by which client --------------------------------------------------------------------------------------------------


def test_a_setting_sends_rewritten_searches_by_the_caller_s_client(opens: Open) -> None:
    harness = opens(rewritten_by="caller")
    _, report = searched(harness)
    assert (report.reason, report.mode) == (Reason.PERSONALIZED, "rewrite")
    assert sent(harness) == (1, 0, 1)
    assert "rescore" in harness.engine.asked["baseline"][0]["body"]


def test_a_closed_rewriter_sends_the_caller_s_own() -> None:
    with SyncHarness(settings(), store()) as harness:
        harness.rewriter.close()
        _, report = at_once(harness)
        assert (report.reason, sent(harness)) == (Reason.SWITCHED_OFF, (1, 0, 0))


def test_the_first_search_of_an_event_loop_is_the_caller_s_own() -> None:
    engine = FakeEngine()
    rewriter = AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store()), settings(), leg_client=AsyncClient(engine)
    )
    core = rewriter._runtimes.core
    core.swap(facts={"products": IndexFacts()})  # as if another loop had read them

    async def main() -> list[Report]:
        reports = [(await rewriter.search_details(**SEARCH, subject=ANN))[1]]
        await awaited(lambda: rewriter._runtime is not None)
        reports.append((await rewriter.search_details(**SEARCH, subject=ANN))[1])
        await rewriter.close()
        return reports

    first, second = asyncio.run(main())
    assert first.reason is Reason.BUSY
    assert second.reason is Reason.PERSONALIZED


def test_a_sync_search_that_nobody_waits_for_is_not_sent_any_more() -> None:
    """The signals come when the caller's own search was sent long ago."""
    given = settings(budget={"signals_ms": 50})
    with SyncHarness(given, (slow := store())) as harness:
        slow.state = "hung"
        _, report = at_once(harness)
        assert report.reason is Reason.SIGNALS_LATE
        slow.released.set()
        assert waited(lambda: harness.status().rewritten_in_flight == 0)
        assert sent(harness) == (1, 0, 0)


def test_plans_hold_ranks_in_few_bytes(opens: Open) -> None:
    harness = opens()
    for at in (0, 10, 20, 30):
        searched(harness, body={"from": at})
    (plan,) = (kept[2] for kept in harness.core.plans._kept._kept.values())
    assert len(plan) < 500 + 40 * HASH_BYTES
