"""A list goes on after its alias was swapped to another index: no page shows the hits of an earlier one again."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter import Reason, Settings, Subject
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore
from tests.reason_cases import LIKED, MATCH

ANN = Subject("ann", "s1")


def of_the_new_index(answer: dict[str, Any]) -> dict[str, Any]:
    for hit in answer["hits"]["hits"]:
        hit["_index"] = "products-2"
    return answer


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
@pytest.mark.parametrize("kind", HARNESSES)
def test_no_page_repeats_what_was_shown_before_the_swap(kind: Any, mode: str, after: int) -> None:
    policy = {"index": "products*", "item_repeat_share": 1.0, "mode": mode}
    policy |= {"parallel_share": 0, "hedge_ms": 4_000} if mode == "rewrite" else {}
    given = {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000},
        "policies": {"shop": policy},
    }
    store = FakeStore()
    store.write(Keys().profile("ann"), LIKED, None)
    shown: list[str] = []
    drawn: set[str] = set()
    with kind(Settings.model_validate(given), store) as harness:
        for page in range(4):
            if page == after:
                harness.engine.on = dict.fromkeys(("baseline", "personal", "explored"), of_the_new_index)
                harness.core.pools._kept.clear()
            body = {"query": MATCH, "size": 10, "from": 10 * page}
            answer, report = harness.search(ANN, {"index": "products", "body": body})
            harness.until(lambda status: status.in_flight == status.rewritten_in_flight == status.plans_waiting == 0)
            assert report.reason is Reason.PERSONALIZED
            assert len(answer["hits"]["hits"]) == 10
            shown += [hit["_id"] for hit in answer["hits"]["hits"]]
            drawn |= {slot.id for slot in report.slots}
    # A drawn hit is known by its index, so that the new index's may stand at its own rank, too.
    assert len(shown) - len(set(shown)) <= len(drawn)
