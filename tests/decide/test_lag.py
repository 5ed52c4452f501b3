"""The pipeline's lag, heartbeat by heartbeat."""

from __future__ import annotations

import contextlib
import json
from itertools import count
from zlib import crc32

import pytest
from redis import exceptions

from rewriter.core import Core
from rewriter.decide.lag import Heartbeat, Lag, LastHeartbeat, judge_lag, note_heartbeat
from rewriter.journal import BURST
from rewriter.settings import Settings
from rewriter.shell.background.refresh import Refresh
from rewriter.shell.background.sources import ReadTexts

MAX_LAG_S = 30.0
UNKNOWN, IN_TIME, LAGGING = Lag(), Lag(1.0), Lag(40.0, lagging=True)
CLOCK_S, NOW_S = 100.0, 1e9


def beat(age_s: float, lag_s: float) -> LastHeartbeat:
    return LastHeartbeat(Heartbeat(NOW_S - age_s, lag_s), CLOCK_S - age_s)


@pytest.mark.parametrize(
    ("before", "known", "after"),
    [
        (UNKNOWN, LastHeartbeat(), UNKNOWN),
        (IN_TIME, LastHeartbeat(), Lag(1.0, lagging=True)),
        (LAGGING, LastHeartbeat(), LAGGING),
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
def test_a_heartbeat_changes_the_lag_as_the_table_says(before: Lag, known: LastHeartbeat, after: Lag) -> None:
    assert judge_lag(before, known, CLOCK_S, MAX_LAG_S) == after


def beats(*lags_s: float, age_s: float = 1.0) -> LastHeartbeat:
    return LastHeartbeat(Heartbeat(NOW_S - age_s, max(lags_s), lags_s), CLOCK_S - age_s)


ONE_BEHIND = Lag(40.0, True, ((40.0, True), (1.0, False)))


@pytest.mark.parametrize(
    ("before", "known", "lagging"),
    [
        (UNKNOWN, beats(31.0, 1.0), [True, False]),
        (ONE_BEHIND, beats(20.0, 20.0), [True, False]),
        (ONE_BEHIND, beats(15.0, 31.0), [False, True]),
        (ONE_BEHIND, beats(1.0, 1.0, age_s=40.0), [True, True]),
        (ONE_BEHIND, beats(20.0, 20.0, 20.0), [True, True, True]),
        (LAGGING, beats(20.0, 1.0), [True, False]),
        (IN_TIME, beats(20.0, 1.0), [False, False]),
    ],
    ids=[
        "one is stuck",
        "each has its own hysteresis",
        "one caught up, the other fell behind",
        "no beat for too long is everybody's",
        "partitions were added: each begins as the whole was",
        "the former pipeline knew of no partitions",
        "none was ever late",
    ],
)
def test_each_partition_is_judged_by_itself(before: Lag, known: LastHeartbeat, lagging: list[bool]) -> None:
    lag = judge_lag(before, known, CLOCK_S, MAX_LAG_S)
    assert [one for _, one in lag.partitions] == lagging
    assert lag.lagging == any(lagging)
    assert lag.behind == sum(lagging)
    assert lag.seconds == max(seconds for seconds, _ in lag.partitions)


def test_a_subject_lags_with_the_partition_of_its_events() -> None:
    units = [f"u{number}" for number in range(50)]
    for unit in units:
        assert ONE_BEHIND.of(unit) == ONE_BEHIND.partitions[crc32(unit.encode()) % 2]
    assert {ONE_BEHIND.of(unit)[1] for unit in units} == {True, False}
    assert LAGGING.of("u1") == (40.0, True)
    assert ONE_BEHIND.of(None) == (40.0, True)
    assert UNKNOWN.of("u1") == (0.0, False)


FORMER = LastHeartbeat(Heartbeat(NOW_S - 1.0, 0.0), CLOCK_S - 1.0)


@pytest.mark.parametrize(
    ("before", "heartbeat", "age_s"),
    [
        (LastHeartbeat(), Heartbeat(NOW_S - 3600.0, 0.0), 3600.0),
        (LastHeartbeat(), Heartbeat(NOW_S + 3600.0, 0.0), 0.0),
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
def test_a_beat_is_as_old_as_it_is_known(before: LastHeartbeat, heartbeat: Heartbeat | None, age_s: float) -> None:
    assert CLOCK_S - note_heartbeat(before, heartbeat, CLOCK_S, NOW_S).new_at_s == age_s


def test_no_beat_is_nothing_heard() -> None:
    assert note_heartbeat(FORMER, None, CLOCK_S, NOW_S) == LastHeartbeat()


def rounds(refresh: Refresh, core: Core, *beats: str) -> None:
    """Run a round of `words` with each of these heartbeats in the store."""
    for text in beats:
        round_ = refresh.store_values()
        answer = None
        with contextlib.suppress(StopIteration):
            while True:
                step = round_.send(answer)
                beat = f"{core.settings.store.prefix}:heartbeat"
                answer = [text if key == beat else "" for key in step.keys] if isinstance(step, ReadTexts) else None


def test_each_change_is_counted_and_logged_once() -> None:
    core = Core(Settings(), {})
    refresh = Refresh(core, lambda: 0.0, lambda: 100.0, has_store=True)
    rounds(refresh, core, *(json.dumps({"at": 99.0, "lag": lag_s}) for lag_s in (1.0, 40.0, 40.0, 20.0, 2.0, 2.0)))
    assert refresh.lag_changes == 2
    assert core.journal.drain(0.0) == [
        ("warning", "signals lag: 40.0 s behind"),
        ("warning", "signals caught up: 2.0 s behind"),
    ]


def test_partitions_that_flap_flood_no_log_and_hold_no_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    core = Core(Settings(), {})
    refresh = Refresh(core, lambda: 0.0, lambda: 100.0, has_store=True)
    rounds(refresh, core, *(json.dumps({"at": 99.0, "lag": lag_s}) for lag_s in (40.0, 2.0) * 50))
    assert refresh.lag_changes == 100
    assert caplog.messages == []
    assert len(core.journal.drain(0.0)) == BURST


def test_one_stuck_partition_is_counted_logged_and_shown() -> None:
    core = Core(Settings(), {})
    refresh = Refresh(core, lambda: 0.0, lambda: 100.0, has_store=True)
    beat = {"at": 99.0, "lag": 40.0, "lags": [0.0, 40.0, 0.0], "event_lag": 1.0, "backlog": 3}
    rounds(refresh, core, json.dumps(beat), json.dumps(beat | {"lags": [40.0, 40.0, 0.0]}))
    assert refresh.lag_changes == 2
    assert [one.text for one in core.journal.drain(0.0)] == [
        "signals lag: 40.0 s behind in 1 of 3 partitions",
        "signals lag: 40.0 s behind in 2 of 3 partitions",
    ]
    assert core.snapshot.lag.of(next(unit for unit in "abcdefgh" if crc32(unit.encode()) % 3 == 2)) == (0.0, False)


@pytest.mark.parametrize(
    "text",
    ["no", "[]", "1", '{"at": 1}', '{"at": 1, "lag": "x"}', '{"at": 1, "lag": 1, "lags": 7}', '{"at": 1, "lag": 1, "lags": ["x"]}',
     '{"at": 1, "lag": 1, "lags": [NaN]}', '{"at": 1, "lag": 1, "lags": [null]}', '{"at": 1, "lag": Infinity}'],
)  # fmt: skip
def test_what_is_no_heartbeat_is_reported_and_changes_nothing(text: str) -> None:
    core = Core(Settings(), {})
    refresh = Refresh(core, lambda: 0.0, lambda: 100.0, has_store=True)
    rounds(refresh, core, json.dumps({"at": 99.0, "lag": 1.0}), text)
    assert refresh.errors["heartbeat"] == "unreadable"
    assert core.snapshot.lag == Lag(1.0)


def test_a_store_that_fails_in_another_way_is_another_line() -> None:
    """A failover to a replica, and one wrong key that is followed by an outage."""
    core = Core(Settings(), {})
    clock = count(0.0, 100.0)
    refresh = Refresh(core, lambda: next(clock), lambda: 100.0, has_store=True)
    away, refused = exceptions.ConnectionError("gone"), exceptions.ResponseError("NOREPLICAS not enough good replicas")
    for error in (away, away, refused, refused, away, None, None):
        refresh._answered(error)
    lines = [text.partition(": ")[0] for _, text in core.journal.drain(0.0)]
    assert lines == [
        "the store does not answer", "the store refuses a command", "the store does not answer", "the store answers again",
    ]  # fmt: skip
