"""The promises P1, P3, P4 and P5 on a real server: three shards, two indices with shared ids, hundreds of draws."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest

from rewriter import AsyncRewriter, Reason, Report, Rewriter
from rewriter.client.registry import around
from rewriter.client.seam import Search
from rewriter.explore.merge import hit_key
from rewriter.explore.slots import block_size, slot_positions
from tests.fakes import waited
from tests.live.draws import DOCUMENTS, SEED, TEMPLATES, Shop, body, counters
from tests.live.engine import Intercepted, async_search_client, intercept, search_client

DRAWS = int(os.environ.get("PROMISE_DRAWS", "400"))
"""Fewer for a smoke run on another version."""
LISTS = DRAWS // 10
TOLERANCE = 1e-6
Hit = Mapping[str, Any]


@pytest.fixture(scope="module")
def shop(drawn_shop: Shop) -> Shop:
    assert {one.templates for one in drawn_shop.settings.policies.values()} == set(TEMPLATES)
    return drawn_shop


class Recorded(Intercepted):
    """The client of the optional legs, and what it was last answered: the personalized leg's hits."""

    personal: Sequence[Hit] = ()

    def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        answer = self.seam.search(search, timeout_s, is_leg=is_leg)
        if search.body["from"] == 0:
            self.personal = answer["hits"]["hits"]
        return answer


@pytest.fixture(scope="module")
def legs(shop: Shop) -> Iterator[Recorded]:
    with closing(search_client(shop.url)) as client:
        yield Recorded(around(client, is_async=False).cloned(8))


@pytest.fixture(scope="module")
def rewriter(shop: Shop, legs: Recorded) -> Iterator[Rewriter]:
    with Rewriter(shop.client, settings=shop.settings) as opened:
        intercept(opened, legs)
        assert waited(
            lambda: opened.status().population_values > 0 and len(opened.status().indices) == len(shop.aliases)
        )
        yield opened


def without_time(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "took"}


def beside_hits(answer: Mapping[str, Any]) -> dict[str, Any]:
    """All that is the baseline's alone."""
    found = without_time(answer)
    return found | {"hits": {key: value for key, value in answer["hits"].items() if key not in ("hits", "max_score")}}


def key(hit: Hit) -> tuple[str, str]:
    return hit["_index"], hit["_id"]


def base_scores(shop: Shop, arguments: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The plain score of every match: the caller's query alone, without a page's end and without groups."""
    kept = ("query", "rescore", "min_score", "post_filter")  # what is collected decides what a rescore sees
    scoring = {name: arguments["body"][name] for name in kept if name in arguments["body"]}
    every = {**arguments, "body": scoring | {"size": 2 * DOCUMENTS, "_source": False}}
    return {key(hit): hit["_score"] for hit in shop.client.search(**every)["hits"]["hits"]}


def collapsed(arguments: Mapping[str, Any]) -> str | None:
    return (arguments["body"].get("collapse") or {}).get("field")


def names(hit: Hit) -> set[str]:
    return set(hit.get("matched_queries", ()))


def held(shop: Shop, legs: Recorded, arguments: Mapping[str, Any], plain: Any, answer: Any, report: Report) -> set[str]:
    """Hold one personalized page to the promises; returns what was seen of interest."""
    hits, scores = answer["hits"]["hits"], base_scores(shop, arguments)
    limit, size = shop.settings.policies[arguments["index"]], arguments["body"]["size"]
    one = hit_key(collapsed(arguments))

    # P4: the match set is the team's own.
    assert beside_hits(answer) == beside_hits(plain)
    assert len(hits) == len(plain["hits"]["hits"])
    assert len({one(hit) for hit in hits}) == len(hits)
    assert answer["hits"]["max_score"] in (None, max(hit["_score"] for hit in hits))
    assert not any(name.startswith("rewriter:") and name != "rewriter:x" for hit in hits for name in names(hit))

    # P3: bounded.
    ratios = [hit["_score"] / scores[key(hit)] for hit in hits]
    assert min(ratios) >= 1.0 - TOLERANCE
    assert max(ratios) <= limit.max_boost * (1.0 + TOLERANCE)
    assert all(0.0 < boost.weight <= limit.max_boost - 1.0 for boost in report.boosts)

    # P5: exploration is where it was promised, and nothing that the personal page would show.
    places = {slot.position for slot in report.slots}
    promised = set(slot_positions(0, len(hits), block_size(limit.exploration_share)))
    personal = [one(hit) for hit in legs.personal[:size]]
    assert places <= promised
    assert len(places) == len(report.slots)
    assert all(hits[slot.position]["_id"] == slot.id and 0.0 < slot.propensity <= 1.0 for slot in report.slots)
    assert not {one(hits[at]) for at in places} & set(personal)
    rest = [one(hit) for at, hit in enumerate(hits) if at not in places]
    assert rest == personal[: len(rest)]
    if collapsed(arguments) is None and len(scores) >= size + limit.exploration_pool and not report.errors:
        assert places == promised or limit.templates in ("greedy", "odd")  # those filter their pools

    return {
        *(("moved",) if [key(hit) for hit in hits] != [key(hit) for hit in plain["hits"]["hits"]] else ()),
        *(("at the limit",) if max(ratios) > limit.max_boost * (1.0 - 1e-4) and limit.max_boost > 1.01 else ()),
        *(("explored",) if places else ()),
        *(("grouped",) if collapsed(arguments) else ()),
        *(("theirs",) if any("theirs" in names(hit) for hit in hits) else ()),
        report.strategy or "",
    }


def none_in_flight(rewriter: Rewriter) -> bool:
    return rewriter._runtime is None or rewriter._runtime.in_flight.count == 0


def test_hundreds_of_draws(shop: Shop, rewriter: Rewriter, legs: Recorded) -> None:
    reasons: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for number in range(DRAWS):
        arguments = {"index": shop.chance.choice(shop.aliases), "body": body(shop.chance)}
        plain = shop.client.search(**arguments)
        answer, report = rewriter.search_details(**arguments, subject=shop.person())
        reasons[report.reason] += 1
        if report.reason is Reason.PERSONALIZED:
            try:
                seen.update(held(shop, legs, arguments, plain, answer, report))
            except AssertionError as broken:
                broken.add_note(f"draw {number} of seed {SEED}: {arguments}, {report}")
                raise
        else:
            assert without_time(answer) == without_time(plain)
        assert waited(lambda: none_in_flight(rewriter))  # else a late leg is recorded as the next search's
    assert not set(reasons) & {"search_rejected", "template_failed", "search_failed", "quarantined"}, reasons
    assert reasons["personalized"] >= 0.75 * DRAWS, reasons
    assert all(
        seen[what] >= DRAWS // 40
        for what in ("moved", "at the limit", "explored", "grouped", "theirs", "rescore", "wrap")
    ), seen


def test_six_pages_show_no_hit_twice_while_counters_change(shop: Shop, rewriter: Rewriter) -> None:
    personalized: Counter[int] = Counter()
    for number in range(LISTS):
        index, person, size = shop.chance.choice(shop.aliases), shop.person(), shop.chance.randint(3, 8)
        drawn = body(shop.chance, size=size)
        one = hit_key((drawn.get("collapse") or {}).get("field"))
        shown: list[Any] = []
        reasons = []
        for page in range(6):
            arguments = {"index": index, "body": drawn | {"from": page * size}}
            plain = shop.client.search(**arguments)
            answer, report = rewriter.search_details(**arguments, subject=person)
            reasons.append(report.reason)
            if page == 0 and report.reason is not Reason.PERSONALIZED:
                break
            assert len(answer["hits"]["hits"]) == len(plain["hits"]["hits"])
            shown += [one(hit) for hit in answer["hits"]["hits"]]
            assert waited(lambda: rewriter.status().in_flight == 0)
            for base in (shop.keys.profile(person.user_id or ""), shop.keys.session(person.session_id or "")):
                shop.store.write(base, counters(shop.chance), 600)
        if len(reasons) == 6:
            # Pages past the end have no hits to personalize.
            assert set(reasons) <= {Reason.PERSONALIZED, Reason.NO_HITS}, (number, reasons, drawn)
            assert len(set(shown)) == len(shown), (number, drawn)
            personalized[reasons.count(Reason.PERSONALIZED)] += 1
    assert personalized[6] >= LISTS // 2, personalized


async def test_the_async_rewriter_gives_the_same_pages(
    shop: Shop, rewriter: Rewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewriter.shell.job.randbits", lambda _: 7)
    async with (
        async_search_client(shop.url) as client,
        AsyncRewriter(client, settings=shop.settings) as other,
    ):
        until_s = time.monotonic() + 30.0
        while len((await other.status()).indices) < len(shop.aliases):
            assert time.monotonic() < until_s
            await client.ping()
        chance = random.Random(SEED)
        for _ in range(40):
            alias = chance.choice(shop.aliases)
            arguments = {"index": alias, "body": body(chance)}
            if shop.settings.policies[alias].templates in ("greedy", "odd"):
                continue  # their pools are drawn by chance
            person = shop.person()
            answer, report = rewriter.search_details(**arguments, subject=person)
            other_answer, other_report = await other.search_details(**arguments, subject=person)
            assert report.reason is other_report.reason
            assert [key(hit) for hit in answer["hits"]["hits"]] == [key(hit) for hit in other_answer["hits"]["hits"]]
            assert report.slots == other_report.slots
            assert beside_hits(answer) == beside_hits(other_answer)
