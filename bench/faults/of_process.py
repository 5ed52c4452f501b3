"""Faults of the process: its switches, its clock, its tasks, its loop, its interpreter."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.faults.load import AsyncLoad
from bench.faults.of_store import beating
from bench.faults.rig import Rig, meanwhile


@contextmanager
def switched(rig: Rig, texts: tuple[str | None, ...], period_s: float) -> Iterator[None]:
    """Write one text after the other into the kill-switch file; None deletes it."""
    file = rig.folder / "switches"
    turns = iter(range(sys.maxsize))

    def turn() -> None:
        text = texts[next(turns) % len(texts)]
        if text is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(text)

    try:
        with meanwhile(turn, period_s):
            yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def clock_jumps(rig: Rig) -> Iterator[None]:
    """Let the wall clock jump by up to ten years, except the pipeline's; the monotonic clock cannot jump."""
    real, offset_s, draw = time.time, [0.0], random.Random(7)

    def jump() -> None:
        offset_s[0] = draw.choice((-3e8, -3600.0, -1.0, 0.0, 1.0, 3600.0, 3e8))

    time.time = lambda: real() + offset_s[0]
    try:
        with beating(rig, real), meanwhile(jump, 0.02):
            yield
    finally:
        time.time = real


@contextmanager
def cancelled(rig: Rig) -> Iterator[None]:
    """Cancel a third of the tasks within 20 ms."""
    rig.load.cancelled_share = 0.33
    try:
        yield
    finally:
        rig.load.cancelled_share = 0.0


@contextmanager
def loop_blocked(rig: Rig) -> Iterator[None]:
    """Block the event loop for 60 ms, five times per second."""
    assert isinstance(rig.load, AsyncLoad)
    loop = rig.load.runner.get_loop()

    def block() -> None:
        loop.call_soon_threadsafe(time.sleep, 0.06)

    with meanwhile(block, 0.2):
        yield


@contextmanager
def gil_hogged(_: Rig) -> Iterator[None]:
    """Run a thread that computes without end."""

    def compute() -> None:
        sum(n * n for n in range(20_000))

    with meanwhile(compute, 0.0):
        yield
