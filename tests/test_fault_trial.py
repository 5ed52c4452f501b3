"""What a machine's own stalls excuse in a trial of the fault suite."""

from __future__ import annotations

import pytest

from bench.faults.load import Seen, Stall
from bench.faults.trial import _beside


@pytest.mark.parametrize(("timers", "excused_ms"), [(1, 90.0), (2, 170.0)])
def test_a_stall_excuses_one_timer_and_only_stalls_during_the_wait_count(timers: int, excused_ms: float) -> None:
    stalls = [Stall(9.9, 500.0), Stall(10.05, 80.0), Stall(10.15, 90.0), Stall(10.17, 3.0), Stall(10.4, 700.0)]
    waited = Seen(at_s=10.0, alone=False, baseline_ms=0.0, added_ms=200.0)
    assert _beside(waited, stalls, timers) == pytest.approx(excused_ms)


def test_without_a_stall_nothing_is_excused() -> None:
    assert _beside(Seen(at_s=10.0, alone=False, baseline_ms=0.0, added_ms=200.0), [Stall(9.9, 500.0)], 2) == 0.0
