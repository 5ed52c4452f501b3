"""Several policies in one process: trouble with the index of one costs the searches of another nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rewriter import Settings, Subject
from rewriter.report import Reason
from rewriter.shell.bulkhead import Bulkhead
from tests.fakes import HARNESSES, FakeEngine, Harness
from tests.likes import store

CAP = 4


class _TwoIndices(FakeEngine):
    """An engine whose legs on the index `ill` are a kind of their own: "ill"."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = defaultdict(list)

    def leg_of(self, arguments: Mapping[str, Any]) -> Any:
        return "ill" if arguments["index"] == "ill" else super().leg_of(arguments)


def searched(harness: Harness, index: str, number: int = 0) -> Any:
    body = {"query": {"match": {"title": f"shoe {number}"}}, "size": 10}
    return harness.search(Subject("ann", "s1"), {"index": index, "body": body})[1]


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    policies = {
        name: {"index": name, "item_repeat_share": 1.0, "exploration_share": 0.0}
        for name in ("ill", "well", "products")
    }
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2000, "cutoff_ms": 60, "max_in_flight": 2 * CAP},
            "breaker": {"window_calls": 20, "window_s": 60},
            "policies": policies,
        }
    )
    with request.param(settings, store()) as opened:
        opened.engine.__class__ = _TwoIndices
        opened.engine.asked = defaultdict(list)
        opened.knows("ill")
        opened.knows("well")
        yield opened


def test_a_policy_whose_legs_fail_opens_its_own_breaker_alone(harness: Harness) -> None:
    def fails(_: Any) -> Any:
        raise ZeroDivisionError

    harness.engine.on["ill"] = fails
    assert {searched(harness, "ill").reason for _ in range(10)} == {Reason.SEARCH_FAILED}
    assert searched(harness, "ill").reason is Reason.BREAKER_OPEN
    assert searched(harness, "well").reason is Reason.PERSONALIZED
    status = harness.status()
    assert [status.policies[name]["breaker"]["state"] for name in ("ill", "well")] == ["open", "closed"]
    assert status.breaker["state"] == "open"  # the worst one
    assert "policy ill: breaker open: 10 failures in a row; the last one: ZeroDivisionError" in status.problems


def test_a_policy_whose_legs_hang_leaves_the_others_their_permits(harness: Harness) -> None:
    harness.engine.blocked.add("ill")
    ill = [searched(harness, "ill", number) for number in range(2 * CAP)]
    # One of eight permits is kept for each of the other two.
    assert [report.reason for report in ill] == [Reason.SEARCH_LATE] * 6 + [Reason.BUSY] * 2
    detail = "6 of this policy in flight; the other permits are those of other policies"
    assert ill[-1].detail == detail
    assert [searched(harness, "well", number).reason for number in range(5)] == [Reason.PERSONALIZED] * 5
    harness.engine.released.set()
    harness.until(lambda status: status.in_flight == 0)
    assert searched(harness, "ill").reason is Reason.PERSONALIZED


@pytest.mark.parametrize("policies", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("cap", [1, 2, 5, 16, 64])
def test_a_policy_can_always_take_its_share(cap: int, policies: int) -> None:
    names = [f"policy-{number}" for number in range(policies)]
    share = cap // (2 * policies)
    for greedy in range(policies):
        bulkhead = Bulkhead(cap, policies)
        taken = 0
        while bulkhead.try_acquire(names[greedy]):
            taken += 1
        assert taken == (cap if policies == 1 else cap - share * (policies - 1))
        for name in names:
            assert name == names[greedy] or all(bulkhead.try_acquire(name) for _ in range(share))
        assert bulkhead.count == cap
        assert not any(bulkhead.try_acquire(name) for name in names)
        for _ in range(taken):
            bulkhead.give_back(names[greedy])
        assert bulkhead.count == cap - taken
        # What the others hold is no more in the way than it was.
        for _ in range(taken):
            assert bulkhead.try_acquire(names[greedy])
