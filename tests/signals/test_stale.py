"""Last known signals: bounded, cached scope by scope, and only with `on_late = "stale"`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rewriter.settings import SignalSettings
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_items import EveryClass
from rewriter.signals.counters import Counters
from rewriter.signals.stale import LastKnown
from rewriter.signals.store import Signals, SignalsQuery

SESSION = Counters({("item", "a"): 1.0}, {"item": 1.0}, 0.0)
PROFILE = Counters({("item", "b"): 1.0}, {"item": 1.0}, 0.0)


def query(session: str | None = "s", profile: str | None = "p") -> SignalsQuery:
    return SignalsQuery(session, profile, None, ("item",), 64)


def last_known(**settings: Any) -> LastKnown:
    return LastKnown(SignalSettings.model_validate({"on_late": "stale", "stale_max_age_s": 60.0} | settings))


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (Signals(SESSION, PROFILE), Signals(SESSION, PROFILE)),
        (Signals(SESSION, PROFILE, plan=b"{}"), Signals(SESSION, PROFILE)),
        (Signals(None, PROFILE), Signals(None, PROFILE)),
        (Signals(None, None), None),
        (Signals(SESSION, None, failed=frozenset({"profile"})), Signals(SESSION, None)),
        (Signals(None, None, failed=frozenset({"session", "profile", "plan"})), None),
    ],
)
def test_what_a_read_found_is_remembered(found: Signals, known: Signals | None) -> None:
    memory = last_known()
    memory.put(query(), found, 0.0)
    assert memory.get(query(), 60.0) == known
    assert memory.get(query(), 60.1) is None


def test_a_scope_that_failed_keeps_what_was_known_of_it() -> None:
    memory = last_known()
    memory.put(query(), Signals(SESSION, PROFILE), 0.0)
    memory.put(query(), Signals(None, PROFILE, failed=frozenset({"session"})), 1.0)
    assert memory.get(query(), 1.0) == Signals(SESSION, PROFILE)


def test_a_scope_that_is_empty_now_is_no_longer_known() -> None:
    memory = last_known()
    memory.put(query(), Signals(SESSION, PROFILE), 0.0)
    memory.put(query(), Signals(None, PROFILE), 1.0)
    assert memory.get(query(), 1.0) == Signals(None, PROFILE)


def test_a_new_session_of_a_known_user_has_the_profile() -> None:
    memory = last_known()
    memory.put(query(), Signals(SESSION, PROFILE), 0.0)
    assert memory.get(query(session="another"), 0.0) == Signals(None, PROFILE)


def test_nobody_else_s_signals_are_given() -> None:
    memory = last_known()
    memory.put(query(), Signals(SESSION, PROFILE), 0.0)
    assert memory.get(query("another", "one"), 0.0) is None
    assert memory.get(query(None, None), 0.0) is None


def test_nothing_is_kept_where_it_would_not_be_used() -> None:
    memory = last_known(on_late="skip")
    memory.put(query(), Signals(SESSION, PROFILE), 0.0)
    assert memory.get(query(), 0.0) is None


@pytest.mark.parametrize("bound", [{"stale_max_subjects": 10}, {"stale_max_bytes": 25_000}])
def test_the_memory_is_bounded(bound: dict[str, int]) -> None:
    memory = last_known(**bound)
    for number in range(100):
        memory.put(query(f"s{number}", f"p{number}"), Signals(SESSION, PROFILE), 0.0)
    kept = [number for number in range(100) if memory.get(query(f"s{number}", f"p{number}"), 0.0)]
    assert kept == list(range(90, 100))


def test_all_of_it_can_be_dropped_once_somebody_is_forgotten() -> None:
    memory = last_known()
    memory.put(query(), Signals(SESSION, PROFILE), 0.0)
    memory.clear()
    assert memory.get(query(), 0.0) is None


MILK, TEA = (ClassCounters({("item", one): 1.0}, 1.0, 0.0) for one in ("m", "t"))


def test_counters_by_class_are_remembered_beside_the_items_of_all_classes() -> None:
    """A profile without its items would otherwise stand for one whose class was read before."""
    memory, every = last_known(), EveryClass(60.0, {})
    whole = Counters({("item", "m", "milk"): 1.0}, {}, 0.0)
    memory.put(replace(query(), every=every), Signals(None, whole), 0.0)
    memory.put(replace(query(), classes=("milk",)), Signals(None, PROFILE, classes={"milk": MILK}), 30.0)
    memory.put(replace(query(), classes=("tea",)), Signals(None, PROFILE, classes={"tea": TEA}), 31.0)
    known = memory.get(replace(query(), classes=("milk", "eggs")), 40.0)
    assert known == Signals(None, PROFILE, classes={"milk": MILK})
    assert memory.get(replace(query(), every=every), 40.0) == Signals(None, whole)
    assert memory.get(replace(query(), classes=("eggs",)), 40.0) == Signals(None, whole)
    assert memory.get(replace(query(), every=every), 61.0) == Signals(None, PROFILE)  # the other read is too old
