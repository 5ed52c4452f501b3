"""A year of history with a day of live entries behind it: workers and the backfill are killed twice, and every counter is right.

`make soak` runs it with 1.5 M purchases and 2 M entries; the suite with 1.5 % of both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from rewriter.signals.backfill.row_counts import REASONS
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.redis_store import RedisStore
from rewriter_engines import Valkey
from tests.live.year import HALF_LIFE_S, PARTITIONS, Year, recount, stream_commands, write_file

ROOT = Path(__file__).parents[2]
PART = float(os.environ.get("SOAK_YEAR", "0.015"))
DEADLINE_S = 120 + 3_600 * PART
FATES = ("passed", "counted", "duplicate", "refused", "missing", "waiting", "no_consent", "lost")


class Scene:
    """The store, and the processes at it."""

    def __init__(self, url: str, year: Year, file: Path, stack: ExitStack) -> None:
        self.url, self.year, self.file = url, year, file
        self.store, self.keys = RedisStore(url), StreamKeys(year.prefix)
        self.late_at_s = time.monotonic() + DEADLINE_S
        self._stack = stack

    def start(self, what: str, *arguments: str) -> subprocess.Popen[str]:
        code = f"import sys; from tests.live.year import {what}; {what}(*sys.argv[1:])"
        command = [sys.executable, "-c", code, self.url, json.dumps(vars(self.year)), *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._stack.callback(_end, process)
        return process

    def append(self, start: int, stop: int, *, now: bool = False) -> None:
        commands = stream_commands(self.year, start, stop, now=now)
        while chunk := list(islice(commands, 2_000)):
            assert not [reply for reply in self.store.run(chunk) if isinstance(reply, Exception)]

    def total(self, counter: str) -> int:
        states = [("HGET", self.keys.of_stream(number, "state"), counter) for number in range(PARTITIONS)]
        return sum(int(reply or 0) for reply in self.store.run(states))

    def until(self, holds: Callable[[], bool], *running: subprocess.Popen[str]) -> None:
        while not holds():
            assert time.monotonic() < self.late_at_s
            assert all(process.poll() is None for process in running)
            time.sleep(0.005)

    def noted(self) -> bytes | None:
        """The user up to whom profiles are written, while a backfill is at it or broke off."""
        (found,) = self.store.run([("HGET", self.keys.backfill, "last")])
        return found if isinstance(found, bytes) else None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_workers_and_backfill_are_killed_twice(
    valkey_server: Callable[..., Valkey], prefix: str, tmp_path: Path
) -> None:
    year = Year(
        prefix,
        purchases=int(1_500_000 * PART),
        entries=int(2_000_000 * PART),
        users=max(1_000, int(20_000 * PART)),
        until_s=float(int(time.time() - 86_400)),
        pause_s=4.0,
        retry_s=5 + 60 * PART,
        chunk_delay_s=0.1,
    )
    write_file(year, tmp_path / "year.csv")
    with ExitStack() as stack:
        scene = Scene(valkey_server().url, year, tmp_path / "year.csv", stack)
        count, rows, fates = recount(year)
        most = year.entries * 3 // 4
        scene.append(0, most)
        workers = [scene.start("work") for _ in range(2)]
        late = sum(fate == "late" for _, _, _, fate in islice(year.events(), year.head))
        scene.until(lambda: scene.total("waiting") >= late, *workers)
        scene.store.write_text(f"{prefix}:late-is-there", "yes")
        for _ in range(2):
            before = scene.noted()
            filling = scene.start("backfill", str(scene.file))
            scene.until(lambda before=before: scene.noted() not in (None, before), filling)  # type: ignore[misc]
            for process in (filling, *workers):
                process.kill()
                process.wait()
            workers = [scene.start("work") for _ in range(2)]
        scene.append(most, year.entries, now=True)
        filling = scene.start("backfill", str(scene.file))
        said = json.loads(filling.communicate(timeout=DEADLINE_S)[0])
        scene.until(lambda: scene.total("passed") >= fates["passed"], *workers)
        print(json.dumps(said))  # noqa: T201  shown by make soak
        assert said["written_before"] > 0
        assert {reason: said[reason] for reason in ("rows", "events", *REASONS)} == {
            reason: rows[reason] for reason in ("rows", "events", *REASONS)
        }
        assert {fate: scene.total(fate) for fate in FATES} == {fate: fates[fate] for fate in FATES}
        held_to(scene, count)


def held_to(scene: Scene, count: Any) -> None:
    """Every profile and the sum of the population's parts: events and latest event exactly, weights as `close` allows."""
    keys, fields, until_s = scene.year.plan.keys, tuple(HALF_LIFE_S), scene.year.until_s
    users = sorted(set(count.events) - {""})
    profiles = scene.store.read_many([keys.profile(user) for user in users], fields, 1_024)
    everybody: dict[tuple[str, ...], float] = {}
    events = 0.0
    for user, found in zip(users, profiles, strict=True):
        assert found is not None, user
        assert found.events == count.events[user]
        assert abs(found.last_event_s - count.last_s[user]) < 1e-6
        assert close(as_of(found, until_s), count.worth[user]), user
    for found in scene.store.read_many([keys.population(number) for number in range(PARTITIONS)], fields, 20_000):
        assert found is not None
        events += found.events
        for value, weight in as_of(found, until_s).items():
            everybody[value] = everybody.get(value, 0.0) + weight
    assert events == count.events[""]
    assert close(everybody, count.worth[""])


def as_of(found: Any, at_s: float) -> dict[tuple[str, ...], float]:
    """Return the weights at a time. Uses of items (`$uses`, `$again`) are held to their own recount in test_repeats."""
    return {
        value: weight * 2.0 ** ((found.landmark_s - at_s) / HALF_LIFE_S[value[0]])
        for value, weight in found.weights.items()
        if not value[0].startswith("$")
    }


def close(found: dict[tuple[str, ...], float], wanted: dict[tuple[str, ...], float]) -> bool:
    """Counters of items without a class hold the strength of an action in their last 26 bits, and lose a little with each event."""
    return found.keys() == wanted.keys() and all(
        abs(weight - wanted[value]) <= (1e-6 if value[0] == "item" else 1e-9) * wanted[value]
        for value, weight in found.items()
    )
