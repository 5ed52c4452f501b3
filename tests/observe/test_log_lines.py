"""The lines of the logger `rewriter` when something changes state, through both shells: one line with the cause, without ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opensearchpy.exceptions import RequestError

from rewriter import Reason, Settings, Subject
from rewriter.decide.quarantine import FAILURES
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness

SEARCH: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "secret words"}}, "size": 10}}
SETTINGS = Settings.model_validate(
    {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
        "policies": {"shop": {"index": "products*", "item_repeat_share": 1.0}},
    }
)
CAUSE = {
    "error": {"root_cause": [{"type": "parsing_exception", "reason": 'For input string: "somebody-17" in [products]'}]}
}


@pytest.fixture(params=HARNESSES, ids=["sync", "async"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    store = FakeStore()
    for number in range(FAILURES):
        store.write(Keys().profile(f"somebody-{number}"), Counters({("item", "p7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    with request.param(SETTINGS, store) as opened:
        yield opened


def until_said(harness: Harness, caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    harness.until(lambda _: any(text in message for message in caplog.messages))
    return [message for message in caplog.messages if text in message]


def test_a_store_that_ceases_and_begins_to_answer(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rewriter")
    assert harness.store is not None
    harness.search(Subject("somebody-1"), SEARCH)
    harness.store.state = "gone"
    assert until_said(harness, caplog, "the store does not answer") == ["the store does not answer: ConnectionError"]
    harness.store.state = "there"
    assert until_said(harness, caplog, "answers again") == ["the store answers again"]


def test_a_template_that_is_rejected_and_quarantined(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rewriter")

    def rejects(_: Any) -> Any:
        raise RequestError(400, "parsing_exception", CAUSE)

    harness.engine.on["personal"] = rejects
    for number in range(FAILURES):
        assert harness.search(Subject(f"somebody-{number}"), SEARCH)[1].reason is Reason.SEARCH_REJECTED
    (quarantined,) = until_said(harness, caplog, "quarantined for 5 s")
    assert "parsing_exception: For input string: … in [products]" in quarantined
    assert 1 <= len([one for one in caplog.messages if "was rejected on products" in one]) <= 3
    assert harness.search(Subject("somebody-1"), SEARCH)[1].reason is Reason.QUARANTINED
    assert not any("somebody" in one or "secret words" in one for one in caplog.messages)


def test_breakers_that_open(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rewriter")

    def fails(_: Any) -> Any:
        raise ZeroDivisionError

    harness.engine.on["personal"] = fails
    for number in range(10):
        harness.search(Subject(f"somebody-{number % FAILURES}"), SEARCH)
    expected = [
        "breaker of the optional legs of policy shop opened: 10 failures in a row; the last one: ZeroDivisionError"
    ]
    assert until_said(harness, caplog, "breaker of the optional legs") == expected
