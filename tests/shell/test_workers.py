"""The pool of daemon threads: what it takes, what it refuses, and that nobody waits for it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest

from rewriter.shell.workers import Workers
from tests.fakes import waited


@pytest.fixture
def release() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def pool(most: int, name: str) -> Workers:
    workers = Workers(most, name)
    workers.start()
    return workers


def alive(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


@pytest.mark.parametrize("most", [1, 2, 7, 16])
def test_as_much_as_it_has_threads_runs_at_once_and_no_more_is_taken(release: Event, most: int) -> None:
    workers = pool(most, f"at-once-{most}")
    taken = [workers.submit(release.wait) for _ in range(most)]
    assert all(taken)
    assert workers.submit(release.wait) is None
    assert waited(lambda: all(one is not None and one.running() for one in taken))
    release.set()
    assert [one.result(10) for one in taken if one] == [True] * most
    assert waited(lambda: workers.submit(int) is not None)
    workers.close()
    assert waited(lambda: alive(f"at-once-{most}") == 0)


@pytest.mark.parametrize("raised", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_what_work_raises_is_its_future_s_and_the_thread_goes_on(raised: BaseException) -> None:
    def fails() -> None:
        raise raised

    workers = pool(1, "raises")
    for _ in range(3):
        future = workers.submit(fails)
        assert future is not None
        assert future.exception(10) is raised
        assert waited(lambda: (again := workers.submit(int)) is not None and again.result(10) == 0)
    workers.close()


def test_few_threads_for_work_that_comes_one_by_one() -> None:
    workers = pool(16, "one-by-one")
    for number in range(200):
        future = workers.submit(partial(abs, number))
        assert future is not None
        assert future.result(10) == number
    assert alive("one-by-one") <= 3
    workers.close()


def test_submit_starts_no_thread(monkeypatch: pytest.MonkeyPatch, release: Event) -> None:
    workers = pool(8, "no-start")
    started: list[str] = []
    start = Thread.start

    def noted(self: Thread) -> None:
        started.append(threading.current_thread().name)
        start(self)

    monkeypatch.setattr(Thread, "start", noted)
    taken = [workers.submit(release.wait) for _ in range(8)]
    assert waited(lambda: all(one is not None and one.running() for one in taken))
    assert set(started) == {"no-start"}
    workers.close(0.0)


def no_more_threads(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    start, count = Thread.start, [0]

    def limited(self: Thread) -> None:
        if self.name == "limited":
            if count[0] >= allowed:
                raise RuntimeError("can't start new thread")
            count[0] += 1
        start(self)

    monkeypatch.setattr(Thread, "start", limited)


@pytest.mark.parametrize("allowed", [1, 2, 5])
def test_at_the_limit_of_threads_it_works_with_those_that_it_has(
    monkeypatch: pytest.MonkeyPatch, release: Event, allowed: int
) -> None:
    no_more_threads(monkeypatch, allowed)
    workers = pool(8, "limited")
    first = [workers.submit(release.wait) for _ in range(allowed)]
    assert waited(lambda: all(one is not None and one.running() for one in first))
    assert waited(lambda: workers.submit(release.wait) is None)
    assert alive("limited") == allowed
    workers.close(0.0)


def test_without_any_thread_what_waited_is_cancelled_and_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    no_more_threads(monkeypatch, 0)
    workers = Workers(4, "limited")
    early = workers.submit(int)
    assert early is not None
    with pytest.raises(RuntimeError, match="can't start new thread"):
        workers.start()
    assert early.cancelled()
    assert workers.submit(int) is None


def test_close_waits_a_bounded_time_and_cancels_what_waits(release: Event) -> None:
    workers = pool(2, "closing")
    running = [workers.submit(release.wait) for _ in range(2)]
    assert waited(lambda: all(one is not None and one.running() for one in running))
    began_s = time.monotonic()
    workers.close(0.2)
    assert 0.15 <= time.monotonic() - began_s < 5.0
    assert workers.submit(int) is None
    release.set()
    assert waited(lambda: alive("closing") == 0)


class Slow(SimpleQueue[Any]):
    """Its threads come to it late, as on a busy machine."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        time.sleep(0.05)
        return super().get(block, timeout)


def test_a_thread_that_starts_while_the_pool_closes_ends_too(monkeypatch: pytest.MonkeyPatch, release: Event) -> None:
    starting, closing = Event(), Event()
    start = Thread.start

    class Closing(Workers):
        def refuse_what_waits(self) -> None:
            closing.set()
            assert waited(lambda: self._starting == 0)
            super().refuse_what_waits()

    def slow(self: Thread) -> None:
        if self.name == "while-closing" and threading.current_thread().name == self.name:
            starting.set()
            assert closing.wait(10.0)
        start(self)

    monkeypatch.setattr(Thread, "start", slow)
    workers = Closing(2, "while-closing")
    workers._queue = Slow()
    workers.start()
    assert workers.submit(release.wait) is not None
    assert starting.wait(10.0)
    workers.close(0.0)
    release.set()
    assert waited(lambda: alive("while-closing") == 0)


def test_closed_again_while_work_is_under_way(release: Event) -> None:
    workers = pool(4, "twice")
    running = [workers.submit(release.wait) for _ in range(4)]
    assert waited(lambda: all(one is not None and one.running() for one in running))
    for _ in range(3):
        workers.close(0.0)
    release.set()
    assert waited(lambda: alive("twice") == 0)


ENDS = """
    import time
    from rewriter.shell.workers import Workers
    workers = Workers(4, "hangs")
    workers.start()
    futures = [workers.submit(lambda: time.sleep(60)) for _ in range(4)]
    while not all(one.running() for one in futures):
        time.sleep(0.001)
    print("through", flush=True)
"""


def test_the_interpreter_s_exit_waits_for_no_work() -> None:
    ran: Any = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ENDS)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (ran.stdout, ran.returncode) == ("through\n", 0), ran.stderr
