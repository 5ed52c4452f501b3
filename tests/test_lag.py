"""The pipeline's lag, judged beat by beat."""

from __future__ import annotations

import contextlib
import json

import pytest

from rewriter.core import Core
from rewriter.decide.lag import Heartbeat, Lag, judged
from rewriter.settings import Settings
from rewriter.shell.refresh import Refresh

MAX_LAG_S = 30.0
UNKNOWN, IN_TIME, LAGGING = Lag(), Lag(1.0), Lag(40.0, lagging=True)


@pytest.mark.parametrize(
    ("before", "heartbeat", "after"),
    [
        (UNKNOWN, None, UNKNOWN),
        (IN_TIME, None, Lag(1.0, lagging=True)),
        (LAGGING, None, LAGGING),
        (UNKNOWN, Heartbeat(at_s=99.0, lag_s=2.0), Lag(2.0)),
        (UNKNOWN, Heartbeat(at_s=99.0, lag_s=31.0), Lag(31.0, lagging=True)),
        (UNKNOWN, Heartbeat(at_s=99.0, lag_s=30.0), Lag(30.0)),
        (IN_TIME, Heartbeat(at_s=60.0, lag_s=2.0), Lag(40.0, lagging=True)),
        (LAGGING, Heartbeat(at_s=99.0, lag_s=20.0), Lag(20.0, lagging=True)),
        (LAGGING, Heartbeat(at_s=99.0, lag_s=15.0), Lag(15.0)),
        (IN_TIME, Heartbeat(at_s=99.0, lag_s=20.0), Lag(20.0)),
        (IN_TIME, Heartbeat(at_s=500.0, lag_s=2.0), Lag(2.0)),
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
        "a beat from a clock ahead of ours",
    ],
)
def test_judged(before: Lag, heartbeat: Heartbeat | None, after: Lag) -> None:
    assert judged(before, heartbeat, 100.0, MAX_LAG_S) == after


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
