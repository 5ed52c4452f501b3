"""A personal part that its caller has abandoned sends no leg, since its permit was returned."""

from __future__ import annotations

import pytest

from rewriter import Reason, Settings
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.reason_cases import ANN, MATCH, NOW_S

LIKED = Counters({("item", "p9"): 9.0}, {"item": 9.0}, NOW_S, NOW_S, events=1.0)
SEARCH = {"index": "products", "body": {"query": MATCH, "size": 10}}


@pytest.mark.parametrize("kind", HARNESSES)
def test_signals_that_come_after_the_cut_off_send_no_leg(kind: type[Harness]) -> None:
    store = FakeStore()
    store.write(Keys().profile("ann"), LIKED, None)
    given = {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 10_000, "cutoff_ms": 100},
        "policies": {"shop": {"index": "products*", "item_repeat_share": 1.0, "exploration_share": 0}},
    }
    with kind(Settings.model_validate(given), store) as harness:
        store.state = "hung"
        _, report = harness.search(ANN, SEARCH)
        assert report.reason is Reason.SIGNALS_LATE
        store.state = "there"
        store.released.set()
        harness.until(lambda status: status.in_flight == 0)
        assert harness.engine.asked["personal"] == []
        _, report = harness.search(ANN, SEARCH)
        assert len(harness.engine.asked["personal"]) == 1, report
