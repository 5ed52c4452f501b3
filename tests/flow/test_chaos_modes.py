"""Shadow mode, a draft on trial and interleaving together, while the server is slow, fails, loses shards and refuses in bursts.

Every search is answered: by its own error, by the answer of the caller's own search, or by a whole page; and reports count up.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opensearchpy.exceptions import ConnectionTimeout, RequestError, TransportError

from rewriter import Reason, Report, Settings, Subject
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.flow.test_trial import HALF, SHIPPED
from tests.reason_cases import LIKED

SEARCHES = 250
PEOPLE = 30
LOST = {
    "total": 2,
    "successful": 1,
    "failed": 1,
    "failures": [{"reason": {"type": "query_shard_exception", "reason": "x"}}],
}
BUSY = {"total": 2, "successful": 1, "failed": 1, "failures": [{"reason": {"type": "rejected_execution_exception"}}]}


class Chaos:
    """The server's faults: drawn for each request, and now and then a burst in which most are refused with 429.

    failed: the errors of the caller's own searches.
    """

    def __init__(self, harness: Harness, seed: int) -> None:
        self._chance = random.Random(seed)
        self._answered = harness.engine.answer
        self._burst = 0
        self.failed: list[Exception] = []
        harness.engine.answer = self.answer  # type: ignore[method-assign]

    def answer(self, leg: Any, arguments: dict[str, Any]) -> Any:
        fault = self._fault(often=leg != "baseline")
        if isinstance(fault, Exception):
            if leg == "baseline":
                self.failed.append(fault)
            raise fault
        found = self._answered(leg, arguments)
        if isinstance(fault, float):
            time.sleep(fault)  # this is the slow server
        elif fault is not None:
            found.update(fault)
        return found

    def _fault(self, *, often: bool) -> Exception | float | dict[str, Any] | None:
        if self._chance.random() < 0.03:
            self._burst = 10
        self._burst -= 1
        if self._burst > 0 and self._chance.random() < (0.9 if often else 0.3):
            return TransportError(429, "rejected_execution_exception", {})
        if self._chance.random() > (0.5 if often else 0.1):
            return None
        lost = {"hits": {"total": {"value": 1, "relation": "eq"}, "max_score": None, "hits": []}, "_shards": LOST}
        faults: list[Exception | float | dict[str, Any]] = [
            0.004, 0.04, {"timed_out": True}, {"_shards": LOST}, {"_shards": BUSY}, lost, TransportError(503, "busy", {}),
             ConnectionTimeout("TIMEOUT", "late", None), RequestError(400, "parsing_exception", {"error": "x"}),
        ]  # fmt: skip
        return self._chance.choice(faults)


@pytest.mark.parametrize("mode", ["parallel", "rewrite"])
@pytest.mark.parametrize("shadow", [True, False], ids=["shadow", "served"])
@pytest.mark.parametrize("kind", HARNESSES)
def test_each_search_is_answered_and_the_reports_add_up(kind: Any, mode: str, tmp_path: Path, *, shadow: bool) -> None:
    shutil.copytree(SHIPPED, tmp_path / "live")
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "boosts.json.j2").write_text(HALF)
    trial = {"version": "draft", "subjects": [f"u{number}" for number in range(0, PEOPLE, 4)]}
    policy = {"index": "products*", "item_repeat_share": 1.0, "templates": "live", "trial": trial, "mode": mode}
    given = {
        "experiment": {"holdout": 0.1, "interleaved": 0.4},
        "switches": {"shadow": shadow},
        "budget": {"signals_ms": 500, "cutoff_ms": 20},
        "templates_dir": tmp_path,
        "policies": {"shop": policy | ({"parallel_share": 0.2, "hedge_ms": 15} if mode == "rewrite" else {})},
    }
    store, told = FakeStore(), []
    for number in range(PEOPLE):
        store.write(Keys().profile(f"u{number}"), LIKED, None)
    with kind(Settings.model_validate(given), store, hooks=[lambda details: told.append(details.report)]) as harness:
        chaos, chance = Chaos(harness, 7), random.Random(11)
        reports: list[Report] = []
        raised: list[Exception] = []
        for _ in range(SEARCHES):
            person = chance.randrange(PEOPLE)
            body = {
                "query": {"match": {"title": f"shoe {chance.randrange(8)}"}},
                "size": 10,
                "from": chance.choice([0, 0, 0, 10]),
            }
            subject = Subject(f"u{person}", f"s{person}")
            try:
                response, report = harness.search(subject, {"index": "products", "body": body})
            except Exception as error:  # noqa: BLE001  it must be the caller's own
                raised.append(error)
                continue
            reports.append(report)
            assert_sound(harness, response, report, first=body["from"] == 0)
            assert report.trial in (False, person % 4 == 0)
            if shadow:
                assert any(response is one for one in harness.engine.sent)
                assert report.reason is not Reason.PERSONALIZED
        harness.until(lambda status: status.in_flight == status.rewritten_in_flight == 0)
        status = harness.status()
    assert all(any(error is one for one in chaos.failed) for error in raised)
    assert len(told) == len(reports)
    assert status.reasons == Counter(report.reason.value for report in reports)
    arms = Counter(report.exposure.arm for report in reports if report.exposure)
    assert sum(status.arms["searches"].values()) in range(arms.total(), arms.total() + len(raised) + 1)
    assert {one.mode for one in reports} >= ({"parallel"} if shadow or mode == "parallel" else {"parallel", "rewrite"})
    assert len(reports) > SEARCHES // 2
    wanted = [one for one in reports if one.shadow] if shadow else [one for one in reports if one.teams]
    assert wanted, "the faults left nothing of what is tested"


def assert_sound(harness: Harness, response: Any, report: Report, *, first: bool) -> None:
    """A search is answered by the caller's own answer, or by a whole page."""
    own = any(response is one for one in harness.engine.sent)
    if report.reason is not Reason.PERSONALIZED:
        assert own or not first
        assert (report.teams, report.slots, report.boosts) == ("", (), ()) or report.reason is Reason.SHADOW
    hits = response["hits"]["hits"]
    if own:
        return
    assert not response["timed_out"]
    assert not response["_shards"]["failed"]
    assert response["hits"]["total"] == {"value": 40, "relation": "eq"}
    assert len(hits) == len({hit["_id"] for hit in hits}) <= 10
    assert len(hits) == 10 or report.reason is not Reason.PERSONALIZED
    assert len(report.teams) in (0, len(hits))
    assert all(hits[slot.position % 10]["_id"] == slot.id for slot in report.slots)
    assert all("matched_queries" not in hit for hit in hits)
