"""What the repeat guard counts: by ingest and by backfill, once for each visit, and once whatever is sent again."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Lost

from rewriter.client.registry import around
from rewriter.settings import DEFAULT_ACTION_WEIGHTS, Settings
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.counters import SEPARATOR
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.population_builder import PopulationBuilder
from rewriter.signals.repeats import AGAIN, MARKS, USES, RepeatGuard
from rewriter.signals.uses import Use, judged, observed_uses
from tests.live.shop import PRODUCTS, Shop, an_event

HOUR_S = 3_600.0
WEIGHTS = DEFAULT_ACTION_WEIGHTS
NOW_S = time.time()


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    made = Shop(redis_url, prefix, max_counters=500)
    policies = {"shop": made.settings.policies["shop"].model_copy(update={"class_field": "type"})}
    made.settings = Settings.model_validate(made.settings.model_copy(update={"policies": policies}).model_dump())
    made.plan = CountingRules.of(made.settings)
    return made


def visits(count: int = 400, seed: int = 3) -> Iterator[tuple[str, int, str, str]]:
    """User, visit, item and action: five users who come back, and use types t0 and t1 again and the others never."""
    draw = random.Random(seed)
    fresh = {user: iter(draw.sample(sorted(PRODUCTS), 200)) for user in range(5)}
    for number in range(count):
        user = number % 5
        again = draw.choice(["p0", "p5", "p1", "p6"])
        item = again if draw.random() < 0.5 else next(fresh[user])
        yield f"u{user}", number // 25, item, draw.choice(["view", "view", "click", "purchase"])


def used(shop: Shop, which: Collection[str] = (USES, AGAIN)) -> dict[tuple[str, ...], float]:
    """The population's two fields, summed over its parts, as of no particular time: only ratios count."""
    found: dict[tuple[str, ...], float] = {}
    for part in range(4):
        base = shop.plan.keys.population(part)
        (members, landmark) = shop.store.run(
            [("ZRANGE", f"{base}:z", 0, -1, "WITHSCORES"), ("HGET", f"{base}:m", "landmark")]
        )
        pairs = members if members and isinstance(members[0], list) else zip(members[::2], members[1::2], strict=True)
        for raw, weight in pairs:
            value = tuple(raw.decode().split(SEPARATOR))
            if value[0] in which:
                grown = float(weight) * 2 ** ((float(landmark) - NOW_S) / 86_400.0)
                found[value] = found.get(value, 0.0) + grown
    return found


def expected(which: Collection[str] = (USES, AGAIN)) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    done = [
        Use(user, str(visit), item, PRODUCTS[item]["type"], at_s(number), WEIGHTS[action])
        for number, (user, visit, item, action) in enumerate(visits())
    ]
    for one in observed_uses(done):
        for value in (value for value in one.values if value[0] in which):
            found[value] = found.get(value, 0.0) + 2 ** ((one.at_s - NOW_S) / 86_400.0)
    return found


def at_s(number: int) -> float:
    """A visit of 25 events takes 25 s; between two lie two hours."""
    return NOW_S - 40 * HOUR_S + (number // 25) * 2 * HOUR_S + number % 25


def events() -> list[dict[str, Any]]:
    return [
        an_event(user, item, at_s(number), session_id=f"{user}-{visit}", event_id=f"e{number}", action_name=action)
        for number, (user, visit, item, action) in enumerate(visits())
    ]


def test_ingest_counts_uses_and_uses_again_by_class(shop: Shop) -> None:
    shop.settings = shop.settings.model_copy(
        update={"signals": shop.settings.signals.model_copy(update={"session_ttl_s": 60 * HOUR_S})}
    )
    shop.plan = CountingRules.of(shop.settings)
    shop.append(events())
    shop.drain(shop.worker())
    found = used(shop)
    assert found == pytest.approx(expected(), rel=1e-6)
    guard = guard_made(shop)
    shares = {name: share.share for name in ("t0", "t1", "t2", "t3") if (share := guard.of(name))}
    assert guard.catalogue is None or shares["t0"] > shares["t2"]


def guard_made(shop: Shop) -> RepeatGuard:
    """The guard that a search has: of the population as one value."""
    maker = PopulationBuilder(
        shop.store, shop.plan.keys, shop.plan.scopes["population"].half_lives, role="worker", token="t", max_counters=16,
        ttl_s=1_000, now_s=time.time, wait=lambda _: False,
    )  # fmt: skip
    maker.leads(maker.reader.look())
    maker.make(maker.reader.look())
    header = maker.reader.look().population
    assert header is not None
    packed = maker.reader.population(header)
    weights = {tuple(text.split(SEPARATOR)): weight for text, weight in packed.weights.items()}
    return RepeatGuard(weights, packed.totals)


def without_sessions() -> list[dict[str, Any]]:
    return [{name: part for name, part in one.items() if name != "session_id"} for one in events()]


def test_without_sessions_a_visit_ends_after_half_an_hour(shop: Shop) -> None:
    shop.append(without_sessions())
    shop.drain(shop.worker(store := Losing(shop, 4)))
    assert store.losses > 1
    assert used(shop) == pytest.approx(expected(), rel=1e-6)


def test_without_sessions_a_worker_that_starts_counts_from_the_next_visit_on(shop: Shop) -> None:
    """It does not know what was done in the visits that had begun."""
    found = without_sessions()
    for start in range(0, len(found), 40):
        shop.append(found[start : start + 40])
        shop.drain(shop.worker())
    uses = sum(weight for value, weight in used(shop).items() if value[0] == USES)
    every = sum(weight for value, weight in expected().items() if value[0] == USES)
    assert 0.3 < uses / every < 0.9


@pytest.mark.parametrize("with_class", [True, False])
@pytest.mark.parametrize("visits_apart", [True, False])
@pytest.mark.parametrize("order", [("view", "click", "purchase"), ("purchase", "click", "view")])
def test_one_wish_is_no_use_again(shop: Shop, with_class: bool, visits_apart: bool, order: tuple[str, ...]) -> None:
    """Otherwise a shop for films, where each is viewed, clicked and bought once, would pass for one of groceries. Looked at when it
    was bought, it is viewed again; but a class is judged by its purchases.
    """
    if not with_class:
        policies = {"shop": shop.settings.policies["shop"].model_copy(update={"class_field": None})}
        shop.settings = Settings.model_validate(shop.settings.model_copy(update={"policies": policies}).model_dump())
        shop.plan = CountingRules.of(shop.settings)
    wanted = [an_event("ann", "p9", NOW_S - 20 * HOUR_S, session_id="first")]
    for visit in range(3):
        for step, action in enumerate(order):
            at = NOW_S - (3 - visit) * 4 * HOUR_S + step * (HOUR_S if visits_apart else 1.0)
            session = f"v{visit}-{step}" if visits_apart else f"v{visit}"
            wanted.append(an_event("ann", f"p{visit}", at, session_id=session, action_name=action))
    shop.append(wanted)
    shop.drain(shop.worker())
    found = used(shop)
    levels = {value[2] for value in found if value[0] == AGAIN}
    assert levels == ({"1", "2"} if visits_apart and order[0] == "purchase" else set())
    assert not [value for value in judged(found) if value[0] == AGAIN]
    assert sum(worth for value, worth in judged(found).items() if value[0] == USES) == pytest.approx(3.0, rel=0.4)


class Losing:
    """A store whose connection is lost after the server did what it was asked to, in ever longer intervals: work goes on."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._store, self._left, self._next = shop.store, seed, seed + 1
        self.losses = 0

    def run(self, wanted: Any, *, atomic: bool = False) -> list[Any]:
        replies = self._store.run(wanted, atomic=atomic)
        self._left -= 1
        if self._left == 0:
            self.losses += 1
            self._left, self._next = self._next, self._next + 1
            raise Lost("lost")
        return replies


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_what_is_sent_again_is_counted_once(shop: Shop, seed: int) -> None:
    """Whichever reply is lost, between the population and the profiles too, nothing is counted twice or judged anew."""
    shop.settings = shop.settings.model_copy(
        update={
            "signals": shop.settings.signals.model_copy(update={"session_ttl_s": 60 * HOUR_S}),
            "ingest": shop.settings.ingest.model_copy(update={"batch": 40}),
        }
    )
    shop.plan = CountingRules.of(shop.settings)
    shop.append(events())
    shop.drain(shop.worker(store := Losing(shop, seed)))
    assert store.losses > 2
    assert used(shop) == pytest.approx(expected(), rel=1e-6)


def backfilled(shop: Shop, file: Path) -> None:
    """Count a history file as `rewriter backfill` does."""
    looked_up = Objects(
        around(shop.index, is_async=False),
        ["products"],
        shop.plan.attributes,
        max_objects=1_000,
        age_s=60,
        clock_s=time.monotonic,
    )
    history = History([str(file)], shop.plan, 4, None, {})
    history.add_up(looked_up, lambda *_: None)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(history, looked_up, "files", lambda _: None)


@pytest.mark.parametrize("named", [True, False])
def test_a_backfill_counts_what_ingest_does(shop: Shop, tmp_path: Path, named: bool) -> None:
    rows = [
        {"user_id": user, "object_id": item, "timestamp": stamp(at_s(number)), "action_name": action}
        | (PRODUCTS[item] if named else {})
        for number, (user, _, item, action) in enumerate(visits())
    ]
    file = tmp_path / "h.ndjson"
    file.write_text("\n".join(map(json.dumps, rows)))
    backfilled(shop, file)
    assert used(shop, MARKS) == pytest.approx(expected(MARKS), rel=1e-4)


@pytest.mark.parametrize("way", ["ingest", "backfill"])
def test_one_user_counts_for_a_small_part_of_a_class(shop: Shop, tmp_path: Path, way: str) -> None:
    """A program that buys one thing every ten seconds, in a session each, does not show that people come back to things."""
    done = [(f"u{n % 60}", f"u{n % 60}-{n // 60}", f"p{4 * (n // 60) + n % 4}") for n in range(300)]
    done += [("program", f"c{n}", "p0") for n in range(400)]
    times_s = [NOW_S - 5_000 + 10 * n for n in range(300)] + [NOW_S - 4_500 + 10 * n for n in range(400)]
    found = [
        an_event(user, item, at_s, session_id=session)
        for at_s, (user, session, item) in sorted(zip(times_s, done, strict=True))
    ]
    if way == "ingest":
        shop.append(found)
        shop.drain(shop.worker())
    else:
        file = tmp_path / "h.ndjson"
        rows = [one | {"object_id": one["event_attributes"]["object"]["object_id"]} for one in found]
        file.write_text("\n".join(map(json.dumps, rows)))
        backfilled(shop, file)
    assert used(shop)[AGAIN, PRODUCTS["p0"]["type"], "2"] == pytest.approx(50.0, abs=3.0)
    assert sum(weight for value, weight in used(shop).items() if value[0] == USES) == pytest.approx(290.0, abs=15.0)


TWICE: dict[str, list[tuple[str, float, str, str | None]]] = {
    "viewed, clicked and bought": [("a", 0, "view", None), ("a", 1, "click", None), ("a", 2, "purchase", None)],
    "bought, then looked at": [("a", 0, "purchase", None), ("a", 60, "view", None)],
    "loaded again and again": [("a", 10 * number, "view", None) for number in range(9)],
    "loaded again after hours": [("a", 0, "view", None), ("a", 3 * HOUR_S, "view", None)],
    "sent again": [("a", 0, "purchase", "e1"), ("a", 0, "purchase", "e1")],
    "put back": [("a", 0, "add_to_cart", None), ("b", 40 * HOUR_S, "remove_from_cart", None)],
}
"""Events on one item that are no use again: each with its session, seconds after the first, action and event_id."""


@pytest.mark.parametrize("way", ["ingest", "backfill"])
def test_events_that_come_twice_are_no_use_again(shop: Shop, tmp_path: Path, way: str) -> None:
    """A use in a later session is one, so that the test can fail."""
    shop.settings = shop.settings.model_copy(
        update={"signals": shop.settings.signals.model_copy(update={"session_ttl_s": 60 * HOUR_S})}
    )
    shop.plan = CountingRules.of(shop.settings)
    start_s, done, found = NOW_S - 50 * HOUR_S, list[Use](), list[dict[str, Any]]()
    for user, events in (
        (f"u{number}", [*one, ("c", 45 * HOUR_S, "view", None)]) for number, one in enumerate(TWICE.values())
    ):
        found.append(an_event(user, "p1", start_s - HOUR_S, session_id=f"{user}-first"))
        done.append(Use(user, "first", "p1", PRODUCTS["p1"]["type"], start_s - HOUR_S, WEIGHTS["click"]))
        for session, after_s, action, event_id in events:
            more = {"event_id": f"{user}-{event_id}"} if event_id else {}
            at = {"session_id": f"{user}-{session}", "action_name": action}
            found.append(an_event(user, "p0", start_s + after_s, **at, **more))
            if WEIGHTS[action] > 0.0:
                done.append(Use(user, session, "p0", PRODUCTS["p0"]["type"], start_s + after_s, WEIGHTS[action]))
    if way == "ingest":
        shop.append(found)
        shop.drain(shop.worker())
    else:
        file = tmp_path / "h.ndjson"
        rows = [one | {"object_id": one["event_attributes"]["object"]["object_id"]} for one in found]
        file.write_text("\n".join(map(json.dumps, rows)))
        backfilled(shop, file)
    expected: dict[tuple[str, ...], float] = {}
    for one in observed_uses(sorted(done, key=lambda one: one.at_s)):
        for value in one.values:
            if value[0] in (USES, AGAIN):
                expected[value] = expected.get(value, 0.0) + 2 ** ((one.at_s - NOW_S) / 86_400.0)
    assert used(shop) == pytest.approx(expected, rel=1e-3)
    assert {value[2] for value in used(shop) if value[0] == AGAIN} == {"1"}  # the last visit's views alone


def stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
