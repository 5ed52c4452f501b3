"""The pipeline's lag, judged beat by beat."""

from __future__ import annotations

import contextlib
import json

import pytest

from rewriter.core import Core
from rewriter.decide.lag import Heard, Heartbeat, Lag, heard, judged
from rewriter.settings import Settings
from rewriter.shell.refresh import Refresh

MAX_LAG_S = 30.0
UNKNOWN, IN_TIME, LAGGING = Lag(), Lag(1.0), Lag(40.0, lagging=True)
CLOCK_S, NOW_S = 100.0, 1e9


def beat(age_s: float, lag_s: float) -> Heard:
    return Heard(Heartbeat(NOW_S - age_s, lag_s), CLOCK_S - age_s)


@pytest.mark.parametrize(
    ("before", "known", "after"),
    [
        (UNKNOWN, Heard(), UNKNOWN),
        (IN_TIME, Heard(), Lag(1.0, lagging=True)),
        (LAGGING, Heard(), LAGGING),
        (UNKNOWN, beat(1.0, lag_s=2.0), Lag(2.0)),
        (UNKNOWN, beat(1.0, lag_s=31.0), Lag(31.0, lagging=True)),
        (UNKNOWN, beat(1.0, lag_s=30.0), Lag(30.0)),
        (IN_TIME, beat(40.0, lag_s=2.0), Lag(40.0, lagging=True)),
        (LAGGING, beat(1.0, lag_s=20.0), Lag(20.0, lagging=True)),
        (LAGGING, beat(1.0, lag_s=15.0), Lag(15.0)),
        (IN_TIME, beat(1.0, lag_s=20.0), Lag(20.0)),
    ],
    ids=[
        "no pipeline ever beat: not judged",
        "a missing beat counts as lagging",
        "still missing",
        "in time",
        "over the limit",
        "exactly the limit is in time",
        "an old beat is as late as it is old",
        "under the limit, but not caught up yet",
        "caught up at half the limit",
        "between the two limits and never late",
    ],
)
def test_judged(before: Lag, known: Heard, after: Lag) -> None:
    assert judged(before, known, CLOCK_S, MAX_LAG_S) == after


FORMER = Heard(Heartbeat(NOW_S - 1.0, 0.0), CLOCK_S - 1.0)


@pytest.mark.parametrize(
    ("before", "heartbeat", "age_s"),
    [
        (Heard(), Heartbeat(NOW_S - 3600.0, 0.0), 3600.0),
        (Heard(), Heartbeat(NOW_S + 3600.0, 0.0), 0.0),
        (FORMER, FORMER.heartbeat, 1.0),
        (FORMER, Heartbeat(NOW_S, 0.0), 0.0),
        (FORMER, Heartbeat(NOW_S - 3600.0, 0.0), 0.0),
        (FORMER, Heartbeat(NOW_S + 3600.0, 0.0), 0.0),
    ],
    ids=[
        "the first is as old as it says: the pipeline may long be dead",
        "the first, from a clock ahead of ours",
        "the same again grows older",
        "a new one",
        "a new one, and our clock was set an hour ahead",
        "a new one, and our clock was set an hour back",
    ],
)
def test_a_beat_is_as_old_as_it_is_known(before: Heard, heartbeat: Heartbeat | None, age_s: float) -> None:
    assert CLOCK_S - heard(before, heartbeat, CLOCK_S, NOW_S).new_at_s == age_s


def test_no_beat_is_nothing_heard() -> None:
    assert heard(FORMER, None, CLOCK_S, NOW_S) == Heard()


def test_each_change_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    core = Core(Settings(), {})
    refresh = Refresh(core, lambda: 0.0, lambda: 100.0, has_store=True)
    for lag_s in (1.0, 40.0, 40.0, 20.0, 2.0, 2.0):
        round_ = refresh.words()
        answer = None
        with contextlib.suppress(StopIteration):
            while True:
                call = round_.send(answer)
                answer = (
                    json.dumps({"at": 99.0, "lag": lag_s})
                    if call.arguments == (f"{core.settings.store.prefix}:heartbeat",)
                    else ""
                )
    assert refresh.lag_changes == 2
    assert [one.message for one in caplog.records] == ["signals lag: 40.0 s behind", "signals caught up: 2.0 s behind"]
