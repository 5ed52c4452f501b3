"""Page after page through both shells: going back shows the same, and a page that falls back to the baseline repeats no hit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from opensearchpy.exceptions import ConnectionTimeout, RequestError, TransportError

from rewriter import AsyncRewriter, Reason, Report, Settings, Subject
from rewriter.decide.leg_sizes import ENOUGH
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import (
    HARNESSES,
    Act,
    AsyncClient,
    AsyncFakeStore,
    FakeEngine,
    FakeStore,
    Harness,
    SyncHarness,
    is_read,
    knowing,
)
from tests.reason_cases import ANN, MATCH, NOW_S, raises

# Ann likes what stands far down, so that her first page shows what the baseline shows later.
LIKED = Counters({("item", f"p{n}"): 9.0 for n in (11, 12, 13, 25, 26, 33)}, {"item": 54.0}, NOW_S, NOW_S, events=3.0)
PAGES = 4


@pytest.fixture(params=[(kind, mode) for mode in ("parallel", "rewrite") for kind in HARNESSES])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    with opened(request.param[0], request.param[1]) as made:
        yield made


def mode_of(harness: Harness) -> str:
    return harness.core.settings.policies["shop"].mode


def opened(kind: type[Harness], mode: str = "parallel", *, own_store: FakeStore | None = None, **more: Any) -> Harness:
    store = own_store or FakeStore()
    store.write(Keys().profile("ann"), LIKED, None)
    given = {"experiment": {"holdout": 0}, "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000}, **more}
    policy = {"index": "products*", "item_repeat_share": 1.0, "item_scale": 3.0, "max_boost": 2.0}
    given["policies"] = {"shop": {**policy, "mode": mode, "hedge_ms": 4_000, "parallel_share": 0, "named_share": 1}}
    return kind(Settings.model_validate(given), store)


def page(harness: Harness, number: int, size: int = 10, query: Any = MATCH) -> tuple[list[str], Report]:
    arguments = {"index": "products", "body": {"query": query, "size": size, "from": number * size}}
    answer, report = harness.search(ANN, arguments)
    harness.until(lambda status: status.in_flight == status.rewritten_in_flight == status.plans_waiting == 0)
    return [hit["_id"] for hit in answer["hits"]["hits"]], report


def forget_the_rest(harness: Harness) -> None:
    """Another process: what this one remembers is gone, the store's plans are there."""
    harness.core.plans._kept._kept.clear()
    harness.core.pools._kept._kept.clear()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_going_back_shows_the_same_pages(harness: Harness, elsewhere: bool) -> None:
    first = {number: page(harness, number)[0] for number in (0, 1, 2)}
    for number in (1, 0, 2, 0, 1):
        if elsewhere:
            forget_the_rest(harness)
        ids, report = page(harness, number)
        assert report.reason is Reason.PERSONALIZED
        assert ids == first[number]
    assert len({one for ids in first.values() for one in ids}) == 30


def test_a_first_page_asked_for_again_is_weighed_anew(harness: Harness) -> None:
    assert harness.store is not None
    before, _ = page(harness, 0)
    harness.store.write(
        Keys().profile("ann"), Counters({("item", "p39"): 9.0}, {"item": 9.0}, NOW_S, NOW_S, events=3.0), None
    )
    after, report = page(harness, 0)
    assert report.reason is Reason.PERSONALIZED
    assert [boost.value for boost in report.boosts] == ["p39"]
    assert before != after
    second, _ = page(harness, 1)
    assert not set(after) & set(second)


def test_a_plan_that_is_written_while_the_next_page_reads_the_store(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read then holds the plan of an earlier list of the same search."""
    monkeypatch.setattr("rewriter.shell.plans.LINGER_S", 0.3)
    assert harness.store is not None
    page(harness, 0)
    harness.store.write(
        Keys().profile("ann"), Counters({("item", "p39"): 9.0}, {"item": 9.0}, NOW_S, NOW_S, events=3.0), None
    )
    shown = []
    for number in (0, 1):
        arguments = {"index": "products", "body": {"query": MATCH, "size": 10, "from": 10 * number}}
        answer, report = harness.search(ANN, arguments)
        assert report.reason is Reason.PERSONALIZED
        assert [boost.value for boost in report.boosts] == ["p39"]
        shown += [hit["_id"] for hit in answer["hits"]["hits"]]
        harness.store.arrives = lambda: harness.core.plans.waiting == 0
    assert len(set(shown)) == len(shown) == 20


def test_a_plan_that_could_not_be_written_is_newer_than_the_store_s(harness: Harness) -> None:
    assert harness.store is not None
    shown = page(harness, 0)[0]
    harness.store.saves = False
    harness.engine.on["personal"] = late
    second, report = page(harness, 1)
    assert report.reason is Reason.SEARCH_LATE
    del harness.engine.on["personal"]
    for ids in (second, page(harness, 2)[0], page(harness, 3)[0]):
        shown += ids
    assert len(set(shown)) == len(shown) >= 30
    assert harness.status().plans_dropped >= 1


@pytest.mark.parametrize("why", ["refused by the store", "over the bound"])
@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
def test_a_plan_that_could_not_be_written_is_older_than_another_process_s(mode: str, why: str) -> None:
    """The list's first page was served anew meanwhile; what the first process has kept is of the list before."""
    store = FakeStore()
    bound = {"plans_max_bytes": 0} if why == "over the bound" else {}
    with (
        opened(SyncHarness, mode, own_store=store, store=bound) as one,
        opened(SyncHarness, mode, own_store=store) as other,
    ):
        store.saves = why != "refused by the store"
        page(one, 0)
        store.saves = True
        liked = Counters({("item", f"p{n}"): 9.0 for n in (36, 37, 38)}, {"item": 27.0}, NOW_S, NOW_S, events=3.0)
        store.write(Keys().profile("ann"), liked, None)
        first, _ = page(other, 0)
        second, report = page(one, 1)
        assert {boost.value for boost in report.boosts} == {"p36", "p37", "p38"}
        third, _ = page(other, 2) if not bound else page(one, 2)
        assert len({*first, *second, *third}) == 30


def late(_: dict[str, Any]) -> Any:
    raise ConnectionTimeout("TIMEOUT", "x", {})


def foreign(answer: dict[str, Any]) -> Any:
    hits = [{**hit, "_score": hit["_score"] * 9.0} for hit in answer["hits"]["hits"]]
    return {**answer, "hits": {**answer["hits"], "hits": hits}}


FAULTS: dict[str, tuple[Act, Reason]] = {
    "late": (late, Reason.SEARCH_LATE),
    "failed": (raises(TransportError(503, "busy", {})), Reason.SEARCH_FAILED),
    "rejected": (raises(RequestError(400, "x", {"error": "x"})), Reason.SEARCH_REJECTED),
    "differs": (foreign, Reason.ANSWERS_DIFFER),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("broken", [(1,), (2,), (1, 2), (2, 3), (1, 3), (1, 2, 3)], ids=str)
def test_a_list_that_falls_back_in_its_middle_repeats_no_hit(
    harness: Harness, fault: str, broken: tuple[int, ...]
) -> None:
    act, expected = FAULTS[fault]
    if fault == "differs" and mode_of(harness) == "rewrite":
        broken = ()  # where no baseline was sent, there is nothing to differ from
    shown: dict[int, list[str]] = {}
    for number in range(PAGES):
        if number in broken:
            harness.engine.on["personal"] = act
        shown[number], report = page(harness, number)
        harness.engine.on.pop("personal", None)
        assert report.reason is (expected if number in broken else Reason.PERSONALIZED) or (
            report.reason is Reason.QUARANTINED and fault == "rejected"
        )
        if expected is not Reason.PERSONALIZED:
            assert (report.variant == "baseline") is (number in broken)
    ids = [one for page_ids in shown.values() for one in page_ids]
    assert len(set(ids)) == len(ids)
    assert len(ids) >= 30
    # Going back, each page shows nothing that stands on another one.
    for number in (0, 1):
        again, _ = page(harness, number)
        others = [one for other, page_ids in shown.items() if other != number for one in page_ids]
        assert not set(again) & set(others)
        shown[number] = again


def test_a_first_page_that_falls_back_after_an_earlier_list(harness: Harness) -> None:
    """The plan of the earlier list is still there when the second page comes."""
    page(harness, 0)
    page(harness, 1)
    harness.engine.on["personal"] = late
    first, report = page(harness, 0)
    assert report.reason is Reason.SEARCH_LATE
    assert first == [f"p{n}" for n in range(10)]
    del harness.engine.on["personal"]
    second, report = page(harness, 1)
    assert report.reason is Reason.PERSONALIZED
    assert not set(first) & set(second)


def test_a_page_behind_an_open_breaker_repeats_no_hit(harness: Harness) -> None:
    first, _ = page(harness, 0)
    harness.engine.on["personal"] = raises(TransportError(503, "busy", {}))
    for number in range(10):
        other = {"index": "products", "body": {"query": {"match": {"title": f"other {number}"}}, "size": 10}}
        harness.search(ANN, other)
    second, report = page(harness, 1)
    assert report.reason is Reason.BREAKER_OPEN
    assert not set(first) & set(second)
    assert "left out" in report.detail
    assert len(second) == 10 - int(report.detail.split("; ")[-1].split()[0])


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_page_whose_hits_are_too_large_repeats_no_hit(kind: type[Harness]) -> None:
    with opened(kind) as harness:
        first, _ = page(harness, 0)
        (shape,) = harness.core.leg_sizes["shop"]._per_hit
        for _ in range(ENOUGH):
            harness.core.leg_sizes["shop"].note(shape, 1, 2**20)
        second, report = page(harness, 1)
        assert report.reason is Reason.UNSUPPORTED
        assert not set(first) & set(second)
        assert "left out" in report.detail


def test_what_was_wished_for_is_the_plain_page(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = page(harness, 0)
    body = {"query": MATCH, "size": 10, "from": 10}
    answer, report = harness.search(Subject("ann", "s1", consent=False), {"index": "products", "body": body})
    assert report.reason is Reason.NO_CONSENT
    assert answer is harness.engine.sent[-1]
    assert set(first) & {hit["_id"] for hit in answer["hits"]["hits"]}


def test_a_list_without_a_next_page_leaves_no_plan(harness: Harness) -> None:
    assert harness.store is not None
    page(harness, 0, size=40)
    assert not [key for key in harness.store._kept if ":plan:" in key]
    page(harness, 0, size=39)
    assert len([key for key in harness.store._kept if ":plan:" in key]) == 1


@pytest.mark.parametrize("kind", HARNESSES)
def test_plans_beyond_the_bound_are_kept_in_the_process_and_counted(kind: type[Harness]) -> None:
    with opened(kind, store={"plans_max_bytes": 0}) as harness:
        assert harness.store is not None
        first, _ = page(harness, 0)
        assert not [key for key in harness.store._kept if ":plan:" in key]
        assert harness.status().plans_dropped == 1
        second, report = page(harness, 1)
        assert report.reason is Reason.PERSONALIZED
        assert not set(first) & set(second)


def test_a_list_goes_on_whose_plan_had_no_room_among_those_that_wait(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while the store takes no writes, for a second of a fail-over: `CLIENT PAUSE … WRITE`."""
    monkeypatch.setattr("rewriter.explore.plan_memory.MAX_WAITING", 0)
    first, _ = page(harness, 0)
    second, report = page(harness, 1)
    third, _ = page(harness, 2)
    assert report.reason is Reason.PERSONALIZED
    assert len({*first, *second, *third}) == 30
    assert harness.status().plans_dropped == 3


def decimals(answer: dict[str, Any]) -> Any:
    hits = [{**hit, "_score": Decimal(str(hit["_score"]))} for hit in answer["hits"]["hits"]]
    return {**answer, "hits": {**answer["hits"], "max_score": hits[0]["_score"], "hits": hits}}


def test_a_client_that_reads_numbers_as_decimals(harness: Harness) -> None:
    """Such as one whose serializer is simplejson's."""
    harness.engine.on |= {"baseline": decimals, "personal": decimals, "explored": decimals}
    answer, report = harness.search(ANN, {"index": "products", "body": {"query": MATCH, "size": 10}})
    assert report.reason is Reason.PERSONALIZED
    assert len(report.slots) == 1
    assert isinstance(answer["hits"]["max_score"], Decimal)
    assert answer["hits"]["max_score"] == max(hit["_score"] for hit in answer["hits"]["hits"])
    assert {move.factor for move in report.moves} == ({1.0, 2.0} if mode_of(harness) == "parallel" else {2.0})


@pytest.mark.parametrize("sizes", [(12, 7, 7), (5, 10, 10), (7, 7, 7), (9, 4, 13)])
def test_pages_of_several_sizes_after_the_pool_is_gone(harness: Harness, sizes: tuple[int, ...]) -> None:
    """A list is one whatever the size of its pages; its drawn hits are in a pool of an earlier page's, which is gone by now."""
    for size in sizes:
        page(harness, 0, size)
        page(harness, 1, size)
    harness.core.pools._kept._kept.clear()
    harness.engine.on["explored"] = raises(TransportError(503, "busy", {}))
    shown: list[str] = []
    for number in range(2):
        ids, report = page(harness, number, 7)
        assert report.reason is Reason.PERSONALIZED
        assert len(ids) == 7
        shown += ids
    assert len(set(shown)) == len(shown)


TENS = [(0, 10), (10, 10), (20, 10), (30, 10)]
LAYOUTS = {
    "smaller pages, then back to one": (TENS, [(0, 7), (7, 7), (14, 7), (21, 7), (14, 5)]),
    "a larger page over two": (TENS, [(0, 7), (7, 7), (14, 7), (21, 7), (14, 10), (24, 10), (14, 10)]),
    "smaller pages to the end": ([(0, 12), (12, 12), (24, 12)], [(n, 5) for n in range(0, 40, 5)]),
    "two pages back": (TENS, [(0, 5), (5, 5), (10, 5), (15, 5), (5, 5), (15, 5)]),
    "one page again": (TENS[:3], [(0, 7), (7, 7), (14, 7), (7, 7), (14, 7)]),
}


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_list_that_is_looked_at_again_in_other_pages_hides_no_hit(kind: type[Harness]) -> None:
    """No page is empty or short while the list goes on, whatever of it was shown before and wherever the pool was lost."""
    with opened(kind, "rewrite") as harness:
        for layout in LAYOUTS:
            for pool_goes_before in range(4):
                looked_at_again(harness, Subject(f"{layout} {pool_goes_before}", "s1"), layout, pool_goes_before)


def looked_at_again(harness: Harness, who: Subject, layout: str, pool_goes_before: int) -> None:
    assert harness.store is not None
    assert who.user_id is not None
    harness.store.write(Keys().profile(who.user_id), LIKED, None)
    before, after = LAYOUTS[layout]
    for from_, size in before:
        window(harness, who, from_, size)
    shown: dict[int, str] = {}
    for number, (from_, size) in enumerate(after):
        if number == pool_goes_before:
            harness.core.pools._kept._kept.clear()
        ids, report = window(harness, who, from_, size)
        assert report.reason in (Reason.PERSONALIZED, Reason.ANSWERS_DIFFER)
        # Without a pool, the caller's own page has nothing that stands for the hits which it leaves out.
        assert len(ids) == min(size, 40 - from_) or report.reason is Reason.ANSWERS_DIFFER, (who, from_, report)
        shown |= dict(zip(range(from_, from_ + size), ids, strict=False))
        assert len(set(shown.values())) == len(shown), (who, from_, report)


def window(harness: Harness, who: Subject, from_: int, size: int) -> tuple[list[str], Report]:
    body = {"query": MATCH, "size": size, "from": from_}
    answer, report = harness.search(who, {"index": "products", "body": body})
    harness.until(lambda status: status.in_flight == status.rewritten_in_flight == 0)
    return [hit["_id"] for hit in answer["hits"]["hits"]], report


@pytest.mark.parametrize(
    ("mode", "processes", "ahead"),
    [("parallel", 1, (1, 2)), ("parallel", 2, (1, 2)), ("rewrite", 1, (1, 3)), ("rewrite", 2, (1, 2))],
)
def test_pages_asked_for_at_the_same_time_are_all_remembered(
    mode: str, processes: int, ahead: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them reads the plan of the first page alone, and the plan that is written last lacks the others."""
    monkeypatch.setattr("rewriter.shell.plans.LINGER_S", 0.02 if processes == 2 else 0.06)
    store = FakeStore()
    with opened(SyncHarness, mode, own_store=store) as one, opened(SyncHarness, mode, own_store=store) as other:
        pages = {0: page(one, 0)[0]}
        reads = 0

        def both_have_read() -> bool:
            nonlocal reads
            return reads >= 2

        answered = store.answered

        def counted(wanted: Any, **more: Any) -> Any:
            nonlocal reads
            found = answered(wanted, **more)
            reads += is_read(wanted) and "plan" in str(wanted)
            return found

        store.answered = counted  # type: ignore[method-assign]
        store.arrives = both_have_read
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(page, (one, other)[turn % processes], number) for turn, number in enumerate(ahead)]
            pages |= {number: found.result()[0] for number, found in zip(ahead, asked, strict=True)}
        for harness in (one, other):
            forget_the_rest(harness)
        (left,) = {0, 1, 2, 3} - pages.keys()
        rest, report = page(other, left)
        assert report.reason is Reason.PERSONALIZED
        assert not set(rest) & {hit for ids in pages.values() for hit in ids}
        again, why = page(one, left)
        assert again == rest, (pages, rest, report, why)


async def test_pages_asked_for_at_the_same_time_on_one_loop() -> None:
    store = FakeStore()
    store.write(Keys().profile("ann"), LIKED, None)
    policy = {"index": "products*", "item_repeat_share": 1.0, "item_scale": 3.0, "max_boost": 2.0}
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000},
            "policies": {"shop": policy},
        }
    )
    engine = FakeEngine()
    client = AsyncRewriter(
        AsyncClient(engine, "baseline"), AsyncFakeStore(store), settings, leg_client=AsyncClient(engine)
    )
    async with await knowing(client, "products") as rewriter:

        async def window(number: int) -> list[str]:
            arguments = {"index": "products", "body": {"query": MATCH, "size": 10, "from": number * 10}}
            answer, report = await rewriter.search_details(subject=ANN, **arguments)
            assert report.reason is Reason.PERSONALIZED
            return [hit["_id"] for hit in answer["hits"]["hits"]]

        first = await window(0)
        ahead = await asyncio.gather(window(1), window(2))
        rest = await window(3)
        assert not set(rest) & {*first, *ahead[0], *ahead[1]}


@pytest.mark.parametrize(("from_", "size"), [(39, 5), (35, 10), (30, 10), (38, 2)])
def test_a_last_page_that_is_jumped_to_ends_where_the_list_does(harness: Harness, from_: int, size: int) -> None:
    """Once a page was the baseline's, later ones go by what was shown: after a jump more is left than the list has."""
    page(harness, 0)
    harness.engine.on["personal"] = raises(ConnectionTimeout("TIMEOUT", "late", Exception()))
    page(harness, 1)
    harness.engine.on.clear()
    ids, report = window(harness, ANN, from_, size)
    assert report.reason is Reason.PERSONALIZED
    assert len(ids) == 40 - from_


ORDERS = ((0, 1, 3, 2, 2), (0, 2, 1, 1, 2), (0, 3, 1, 2, 1, 2), (0, 1, 3, 1, 2, 3, 2))


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_page_that_was_jumped_over_is_whole_whenever_it_is_asked_for(kind: type[Harness]) -> None:
    with opened(kind, "rewrite") as harness:
        assert harness.store is not None
        for order in ORDERS:
            who = Subject(str(order), "s1")
            harness.store.write(Keys().profile(str(order)), LIKED, None)
            shown: dict[int, list[str]] = {}
            for number in order:
                ids, report = window(harness, who, number * 10, 10)
                assert report.reason is Reason.PERSONALIZED
                assert len(ids) == 10
                assert shown.setdefault(number, ids) == ids
            assert len({hit for ids in shown.values() for hit in ids}) == 10 * len(shown)


@pytest.mark.parametrize("size", [7, 8, 20])
def test_a_short_list_is_whole_and_its_pages_are_as_long_as_the_baseline_s(harness: Harness, size: int) -> None:
    """Hits that slots have shown lie ahead in the list, and no other ones may be left to fill its last pages."""
    for count in range(2 * size - 4, 2 * size + 1):
        harness.engine.count = count
        shown: list[str] = []
        for number in range(-(-count // size)):
            query = {"match": {"title": f"shoe of {count}"}}
            ids, report = page(harness, number, size, query)
            assert report.reason is Reason.PERSONALIZED, (count, number, report)
            assert len(ids) == min(size, count - number * size), (count, number, report)
            shown += ids
        assert len(set(shown)) == count
