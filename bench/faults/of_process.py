"""What befalls the process: its switches, its clock, its tasks, its loop, its interpreter."""

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
    """The kill-switch file holds one text after the other; None takes it away."""
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
    """The wall clock jumps up to ten years to and fro, the pipeline's own does not; nor does the monotonic one, by definition."""
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
    """A third of the tasks are cancelled within 20 ms."""
    rig.load.cancelled_share = 0.33
    try:
        yield
    finally:
        rig.load.cancelled_share = 0.0


@contextmanager
def loop_blocked(rig: Rig) -> Iterator[None]:
    """Somebody's code holds the event loop for 60 ms, five times a second."""
    assert isinstance(rig.load, AsyncLoad)
    loop = rig.load.runner.get_loop()

    def block() -> None:
        loop.call_soon_threadsafe(time.sleep, 0.06)

    with meanwhile(block, 0.2):
        yield


@contextmanager
def gil_hogged(_: Rig) -> Iterator[None]:
    """A thread computes without end."""

    def compute() -> None:
        sum(n * n for n in range(20_000))

    with meanwhile(compute, 0.0):
        yield
