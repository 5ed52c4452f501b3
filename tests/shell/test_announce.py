"""When a process says how it stands: every two seconds, and at once where a switch changed; the clock stands still here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rewriter import Settings
from rewriter.core import Core
from rewriter.expression import Expression
from rewriter.settings import PolicySettings
from rewriter.shell.background.refresh import Refresh
from rewriter.shell.background.sources import Announce, BackgroundStep, ReadTexts
from rewriter.shell.bulkhead import Bulkhead
from rewriter.shell.drive import drive


class AnnouncingProcess:
    """The words round of one process that searched, on a clock that stands; `key` is what the store's key says."""

    def __init__(self) -> None:
        self.core = Core(Settings(policies={"shop": PolicySettings(index=("products",))}), {})
        self.in_flight = Bulkhead(16)
        self.now_s = 100.0
        self.refresh = Refresh(
            self.core, lambda: self.now_s, lambda: self.now_s, has_store=True, in_flight=self.in_flight
        )
        self.core.searched.note(Expression(("products",)), 0.0)
        self.key, self.gone = "", False

    def round(self) -> list[dict[str, Any]]:
        """Return what the process said of itself in one round."""
        said = []

        def perform(step: BackgroundStep) -> Any:
            if isinstance(step, Announce):
                if self.gone:
                    raise ConnectionError
                said.append(json.loads(step.text))
            return (
                [self.key if key == "rw:switches" else None for key in step.keys]
                if isinstance(step, ReadTexts)
                else None
            )

        drive(self.refresh.store_values(), perform)
        return said


@pytest.fixture
def process() -> AnnouncingProcess:
    process = AnnouncingProcess()
    assert len(process.round()) == 1
    assert process.round() == []
    return process


def test_a_changed_switch_is_said_in_the_round_that_hears_it(process: AnnouncingProcess) -> None:
    process.key = "personalization off"
    (said,) = process.round()
    assert said["switches"] == {"personalization": {"value": False, "source": "store"}}
    assert process.round() == []


def test_a_switch_changed_by_the_file_is_said_in_the_next_round(
    process: AnnouncingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_SWITCH_ROLLOUT", "0.5")
    process.refresh.local()
    (said,) = process.round()
    assert said["switches"] == {"rollout": {"value": 0.5, "source": "environment"}}


def test_what_the_store_did_not_take_is_said_again(process: AnnouncingProcess) -> None:
    process.key, process.gone = "personalization off", True
    assert process.round() == []
    process.gone = False
    assert len(process.round()) == 1


def test_it_says_what_only_it_knows(process: AnnouncingProcess) -> None:
    assert process.in_flight.try_acquire()
    process.now_s += 2.0
    (said,) = process.round()
    assert (said["in_flight"], said["max_in_flight"]) == (1, 16)
    assert (said["quarantined"], said["paused"], said["arms"]) == ([], [], {})


def test_a_policy_that_is_paused_is_said(process: AnnouncingProcess) -> None:
    for _ in range(200):
        process.core.late_legs["shop"].record(late=True, baseline_s=0.01, now_s=process.now_s)
    process.now_s += 2.0
    (said,) = process.round()
    assert said["paused"] == ["shop"]
