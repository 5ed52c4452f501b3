"""What a machine's own stalls excuse in a trial of the fault suite, and which trials are made again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.faults.load import Seen, Stall
from bench.faults.suite import tried
from bench.faults.table import markdown
from bench.faults.trial import Row, _beside, recovered_share


@pytest.mark.parametrize(("timers", "excused_ms"), [(1, 90.0), (2, 170.0)])
def test_a_stall_excuses_one_timer_and_only_stalls_during_the_wait_count(timers: int, excused_ms: float) -> None:
    stalls = [Stall(9.9, 500.0), Stall(10.05, 80.0), Stall(10.15, 90.0), Stall(10.17, 3.0), Stall(10.4, 700.0)]
    waited = Seen(at_s=10.0, alone=False, baseline_ms=0.0, added_ms=200.0)
    assert _beside(waited, stalls, timers) == pytest.approx(excused_ms)


def test_without_a_stall_nothing_is_excused() -> None:
    assert _beside(Seen(at_s=10.0, alone=False, baseline_ms=0.0, added_ms=200.0), [Stall(9.9, 500.0)], 2) == 0.0


@pytest.mark.parametrize(
    ("before", "share"),
    [
        ([False] * 20 + [True] * 80, 0.99),
        ([True] * 199 + [False], 0.99),
        ([True] * 180 + [False, True] * 10, 0.85),
        ([True, False] * 100, 0.45),
    ],
)
def test_a_slow_machine_has_recovered_near_the_share_before_the_fault(before: list[bool], share: float) -> None:
    assert recovered_share(before) == pytest.approx(share)


LATE = ("added 55.4 ms at p99.9",)


def row(broken: tuple[str, ...] = (), timed: tuple[str, ...] = ()) -> Row:
    return Row("40 ms away", "sync", 150, 0, 0, 1.0, 1.0, 1.0, (0.0, 0.0), 1.0, (), 0.0, (*broken, *timed), timed=timed)


def test_only_broken_promises_about_times_are_tried_again() -> None:
    for made, tries, broken, earlier in (
        ([row()], 3, (), ()),
        ([row(timed=LATE), row()], 3, (), LATE),
        ([row(timed=LATE)] * 3, 3, LATE, LATE * 2),
        ([row(timed=LATE)], 1, LATE, ()),
        ([row(("another person's taste",), LATE)], 3, ("another person's taste", *LATE), ()),
        ([row(timed=LATE), row(("1 tasks",))], 3, ("1 tasks",), LATE),
    ):
        left = iter(made)
        found = tried(lambda left=left: next(left), tries)  # type: ignore[misc]
        assert (found.broken, found.earlier) == (broken, earlier)
        assert next(left, None) is None


def test_the_page_says_which_rows_were_made_again() -> None:
    text = markdown(
        [row(), tried(iter([row(timed=LATE), row()]).__next__, 2), tried(lambda: row(timed=LATE), 2)], [], []
    )
    assert "2 rows of 3 broke a promise about times at first" in text
    assert "- 40 ms away, sync: added 55.4 ms at p99.9\n" in text
    assert text.endswith("- 40 ms away, sync: added 55.4 ms at p99.9; **and again**")
    assert "made again" not in markdown([row()], [], [])


def test_the_page_says_where_the_machine_was_too_slow() -> None:
    rows = [replace(row(), share=share) for share in (0.99, 0.9, 0.84)]
    assert "In 2 rows of 3 fewer than 99% of the searches" in markdown(rows, [], [])
    assert "a share of 84% to 90%" in markdown(rows, [], [])
    assert "too slow" not in markdown(rows[:1], [], [])
