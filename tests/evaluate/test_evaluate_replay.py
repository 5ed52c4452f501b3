"""Signals as of a search: what the library counts of the events before it, and nothing of those after."""

from __future__ import annotations

import random
from collections import Counter

import duckdb
import pytest

from rewriter.evaluate.counted_past import CountedPast
from rewriter.signals.backfill.neighbours import find_neighbours, listed_neighbours
from rewriter.signals.backfill.sums import insert
from rewriter.signals.class_counters import counted_by_class
from rewriter.signals.counters import Observation, counted
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.neighbours import Near, counted_near, near_class
from rewriter.signals.repeats import AGAIN, USES
from rewriter.signals.uses import Use, judged_counters, observed_uses
from tests.pasts import EventRow, counted_past, weights_now

DOCUMENTS = [
    {"_id": f"p{n}", "brand": f"b{n % 5}", "kind": ["milk", "tea", "pan"][n % 3], "size": f"s{n % 4}"}
    for n in range(30)
]
START_S = 1_780_000_000.0
DAY_S = 86_400.0


def rows_of(seed: int, count: int, weights: tuple[float, ...] = (1.0, 8.0)) -> list[EventRow]:
    chance = random.Random(seed)
    return [
        (
            START_S + chance.randrange(40) * DAY_S / 4 + chance.randrange(7_200), f"u{chance.randrange(6)}",
            chance.randrange(len(DOCUMENTS)), chance.choice(weights), chance.choice(["s1", "s2", None]),
        )
        for _ in range(count)
    ]  # fmt: skip


def lives(past: CountedPast) -> dict[str, float]:
    return {"": past.half_lives.default_s, **past.half_lives.by_field_s}


@pytest.mark.parametrize("seed", range(8))
def test_a_replay_holds_what_the_library_counts_of_the_events_before(seed: int) -> None:
    rows = rows_of(seed, 300)
    past = counted_past(rows, DOCUMENTS)
    replay = past.replay(past.past.number_of("u1"))
    for at_s in (START_S + 2 * DAY_S, START_S + 5.3 * DAY_S, START_S + 30 * DAY_S):
        replay.advance(at_s)
        found = replay.signals(1_000, ("milk", "tea", "none"), past.past.sessions["s1"])
        mine = [row for row in rows if row[1] == "u1" and row[0] < at_s]
        seen = [Observation(past.coded.values(row[2]), row[3], row[0]) for row in mine]
        shared = [
            Observation(tuple(v for v in one.values if v[0] != "kind_size"), one.weight, one.at_s) for one in seen
        ]
        expected = counted(shared, past.half_lives, at_s)
        first = replay.signals(1_000).profile  # a first search: items of all classes are among the counters
        assert first is not None
        assert weights_now(first, lives(past), at_s) == weights_now(expected, lives(past), at_s)
        apart = [Observation(tuple(v for v in one.values if v[0] != ITEM), one.weight, one.at_s) for one in shared]
        expected = counted(apart, past.half_lives, at_s)
        assert found.profile is not None
        assert weights_now(found.profile, lives(past), at_s) == weights_now(expected, lives(past), at_s)
        assert found.profile.totals == pytest.approx(expected.totals)
        assert (found.profile.events, found.profile.last_event_s) == (expected.events, expected.last_event_s)
        classes = counted_by_class(seen, past.half_lives, at_s, ITEM, {"kind_size"})
        assert found.classes.keys() == {"milk", "tea"} & classes.keys()
        for name, own in found.classes.items():
            assert weights_now(own, lives(past), at_s) == weights_now(classes[name], lives(past), at_s)
            assert own.total == pytest.approx(classes[name].total)
        in_session = [row for row in mine if row[4] == "s1"]
        assert (found.session.events if found.session else 0) == len(in_session)


def test_an_event_at_the_second_of_the_search_is_its_outcome_and_no_signal() -> None:
    past = counted_past([(START_S, "u1", 3, 1.0, None), (START_S + 60.0, "u1", 4, 1.0, None)], DOCUMENTS)
    replay = past.replay(past.past.number_of("u1"))
    replay.advance(START_S)
    assert replay.signals(10).profile is None
    replay.advance(START_S + 60.0)
    profile = replay.signals(10).profile
    assert profile is not None
    assert profile.events == 1
    with pytest.raises(ValueError, match="cannot go back"):
        replay.advance(START_S)


@pytest.mark.parametrize("seed", range(4))
def test_what_negative_actions_take_away_never_falls_below_zero(seed: int) -> None:
    """The order decides: a dislike before the purchase takes nothing from it."""
    past = counted_past(rows_of(seed, 200, (1.0, 8.0, -4.0)), DOCUMENTS)
    replay = past.replay(past.past.number_of("u2"))
    replay.advance(START_S + 99 * DAY_S)
    profile = replay.signals(1_000).profile
    assert profile is not None
    assert min(profile.weights.values()) >= 0.0
    rows = [(START_S, "u1", 0, -8.0, None), (START_S + 1.0, "u1", 0, 8.0, None)]
    counted_one = counted_past(rows, DOCUMENTS).replay(0)
    counted_one.advance(START_S + 2.0)
    own = counted_one.signals(10).profile
    assert own is not None
    assert own.weights["item", "p0", "milk"] == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_population_is_everybody_s_before_a_time(seed: int) -> None:
    rows = rows_of(seed, 400)
    past = counted_past(rows, DOCUMENTS)
    at_s = START_S + 6.1 * DAY_S
    found = past.population(at_s)
    before = [row for row in sorted(rows, key=lambda row: row[0]) if row[0] < at_s]
    seen = [Observation(tuple(v for v in past.coded.values(row[2]) if v[0] != ITEM), row[3], row[0]) for row in before]
    expected = counted(seen, past.half_lives, at_s)
    uses = observed_uses(
        Use(row[1], visit, str(DOCUMENTS[row[2]]["_id"]), str(DOCUMENTS[row[2]]["kind"]), row[0], row[3])
        for row, visit in zip(before, visits(before), strict=True)
    )
    used = judged_counters(counted(uses, past.half_lives, at_s))
    assert found.weights == pytest.approx(dict(expected.weights) | dict(used.weights))
    assert found.totals == pytest.approx(dict(expected.totals) | dict(used.totals))
    assert found.totals[USES] > found.totals.get(AGAIN, 0.0)
    assert found.class_totals["kind_size", "milk"] == pytest.approx(
        sum(weight for value, weight in expected.weights.items() if value[:2] == ("kind_size", "milk"))
    )


def neighbours_before(past: CountedPast, rows: list[EventRow], at_s: float) -> dict[str, Near]:
    """The neighbours that `rewriter backfill` would find in the rows before a time."""
    used: dict[tuple[str, str, str], float] = {}
    for row in rows:
        if row[0] < at_s:
            document = DOCUMENTS[row[2]]
            key = row[1], str(document["kind"]), str(document["_id"])
            used[key] = used.get(key, 0.0) + row[3] * 2.0 ** ((row[0] - at_s) / past.half_lives.of(ITEM))
    db = duckdb.connect()
    kinds = {"person": "VARCHAR", "class": "VARCHAR", "item": "VARCHAR", "worth": "DOUBLE"}
    insert(db, "used", kinds, [(*key, worth) for key, worth in used.items()])
    find_neighbours(db, "used")
    return dict(listed_neighbours(db))


@pytest.mark.parametrize("weights", [(1.0, 8.0), (1.0, 8.0, -0.5)], ids=["at once", "event by event"])
def test_neighbours_are_those_of_a_backfill_before_the_window(weights: tuple[float, ...]) -> None:
    rows = rows_of(5, 400, weights)
    past = counted_past(rows, DOCUMENTS)
    window_s, at_s = START_S + 6.0 * DAY_S, START_S + 8.0 * DAY_S
    near = past.near(window_s)
    expected = neighbours_before(past, rows, window_s)
    codes = {value[1]: at for at, value in enumerate(past.table.values) if value[0] == ITEM}
    assert {name: near.of(code) for name, code in codes.items() if near.of(code)} == expected
    assert expected != neighbours_before(past, rows, at_s)
    replay = past.replay(past.past.number_of("u1"), near)
    replay.advance(at_s)
    found = replay.signals(1_000, ("milk", near_class("milk"), "tea", near_class("pan"))).classes
    seen = [
        Observation(past.coded.values(row[2]), row[3], row[0])
        for row in sorted(rows, key=lambda row: row[0])
        if row[1] == "u1" and row[0] < at_s
    ]
    classes = counted_by_class(seen, past.half_lives, at_s, ITEM, {"kind_size"})
    wanted = dict(counted_near(classes, expected, ITEM))
    assert {"milk", near_class("milk"), "tea"} <= found.keys() <= {"milk", near_class("milk"), "tea", near_class("pan")}
    got = weights_now(found[near_class("milk")], lives(past), at_s)
    assert set(got) <= {f"neighbour|{other}" for others in expected.values() for other, _ in others}
    if min(weights) > 0.0:
        assert got == pytest.approx(weights_now(wanted[near_class("milk")], lives(past), at_s), abs=1e-8)


def test_no_later_event_changes_the_neighbours_of_a_window() -> None:
    """The placebo of leaks: what happens from the window's beginning on is the outcome."""
    rows = rows_of(6, 400)
    window_s = START_S + 5.0 * DAY_S
    early = [row for row in rows if row[0] < window_s]
    both = [counted_past(some, DOCUMENTS) for some in (rows, early)]
    codes = [{value[1]: at for at, value in enumerate(one.table.values) if value[0] == ITEM} for one in both]
    found = [
        {name: past.near(window_s).of(code) for name, code in own.items() if past.near(window_s).of(code)}
        for past, own in zip(both, codes, strict=True)
    ]
    assert found[0] == found[1] != {}


@pytest.mark.parametrize("weights", [(1.0, 8.0), (1.0, 8.0, -2.0)], ids=["at once", "event by event"])
def test_segments_hold_the_events_that_name_them_before_a_time(weights: tuple[float, ...]) -> None:
    rows = rows_of(7, 300, weights)
    past = counted_past(rows, DOCUMENTS, lambda row: ["even", "all"] if int(row[0]) % 2 == 0 else ["all"])
    at_s = START_S + 6.0 * DAY_S
    found = past.segments(("even", "nobody"), at_s)
    assert found.keys() == {"even"}
    mine = sorted(row for row in rows if row[0] < at_s and int(row[0]) % 2 == 0)
    assert (found["even"].events, found["even"].last_event_s) == (len(mine), mine[-1][0])
    assert {value[0] for value in found["even"].weights} == {"item", "brand", "kind_size"}, "nothing is kept by class"
    if min(weights) > 0.0:
        expected = counted(
            [Observation(past.coded.values(row[2]), row[3], row[0]) for row in mine], past.half_lives, at_s
        )
        assert weights_now(found["even"], lives(past), at_s) == weights_now(expected, lives(past), at_s)
    assert past.segments(("even",), START_S - 1.0) == {}


def visits(rows: list[EventRow]) -> list[str]:
    """The visit of each event: of its session until a day without events, else of its person until half an hour without."""
    last: dict[tuple[str, str | None], float] = {}
    number: Counter[tuple[str, str | None]] = Counter()
    found = []
    for row in rows:
        silences = [((row[1], None), 1_800.0), *([((row[1], row[4]), DAY_S)] if row[4] else [])]
        for of, silence_s in silences:
            number[of] += row[0] - last.get(of, float("-inf")) > silence_s
            last[of] = row[0]
        found.append(f"{silences[-1][0]} {number[silences[-1][0]]}")
    return found


def test_nobody_s_past_is_empty() -> None:
    past = counted_past([], [])
    assert past.replay(None).signals(10).profile is None
    assert past.population(START_S).totals == {}
