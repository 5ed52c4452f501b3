"""One fault under load: well, then broken, then healed; what was seen, and whether all of it was as promised."""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

from bench.faults.load import Load, Seen

CUTOFF_MS = 30.0
WARM_UP = 40
BATCH = 20
SETTLE_DEADLINE_S = 15.0
DELAY_BOUND_MS = 5.0


@dataclass(frozen=True, slots=True)
class Row:
    """What a trial found. `failed`: answers that were wrong or raised; `late`: added more than the cut-off and the jitter."""

    fault: str
    shell: str
    searches: int
    failed: int
    late: int
    added_p999_ms: float
    added_max_ms: float
    jitter_p999_ms: float
    baseline_delay_ms: float
    personalised_share: float
    recovered_s: float | None
    broken: tuple[str, ...]


def trial(name: str, shell: str, load: Load, fault: AbstractContextManager[None], searches: int, *, window: int) -> Row:
    """Run `searches` under the fault, heal it, and go on until `window` searches in a row are personalised (more than 99 %)."""
    before = resources()
    broken: list[str] = []
    with load:
        well = load.batch(WARM_UP)
        broken += [f"before the fault: {one.fault}" for one in well if one.fault]
        load.jitter_ms.clear()
        told_before = load.told.count
        with fault:
            seen = load.batch(searches * 5 // 4)
        told = load.told.count - told_before
        own = [one for one in seen if not one.alone]
        jitter_ms = rank(load.jitter_ms, 0.999)
        status = load.status()
        wait_s = max(
            status.breaker["reopens_in_s"], 60.0 if any(p["paused"] for p in status.policies.values()) else 0.0
        )
        recovered_s = _recovered(load, window, max(5.0, wait_s + 2.0))
        if recovered_s is None:
            broken.append(f"not recovered within {max(5.0, wait_s + 2.0):.1f} s: {load.status().problems}")
        broken += _held(load)
    broken += [f"{what}: {now} after, {was} before" for what, was, now in _left_over(before)]
    added = [one.added_ms for one in own if not one.fault]
    delay_ms = median(one.baseline_ms for one in own) - median(one.baseline_ms for one in seen if one.alone)
    late = [one for one in added if one > CUTOFF_MS + jitter_ms]
    failed = [one.fault for one in own if one.fault]
    broken += sorted(set(failed))
    if rank(added, 0.999) > CUTOFF_MS + jitter_ms:
        broken.append(f"added {rank(added, 0.999):.1f} ms at p99.9")
    if delay_ms > DELAY_BOUND_MS:
        broken.append(f"the baseline came {delay_ms:.1f} ms later than alone")
    if not len(own) <= told <= len(own) + load.cancelled:
        broken.append(f"{len(own)} searches, {told} reports")
    return Row(
        name, shell, len(own), len(failed), len(late), rank(added, 0.999), max(added, default=0.0), jitter_ms, delay_ms,
        sum(one.reason == "personalized" for one in own) / len(own), recovered_s, tuple(broken),
    )  # fmt: skip


def rank(values: list[float], share: float) -> float:
    """Return the value below which `share` of all lie (0 for none)."""
    return sorted(values)[max(0, min(len(values) - 1, int(len(values) * share)))] if values else 0.0


def resources() -> dict[str, int]:
    """Return how many threads this process has, and how many files and sockets it holds open."""
    gc.collect()
    return {"threads": threading.active_count(), "files and sockets": len(os.listdir("/dev/fd"))}  # noqa: PTH208  a count


def _recovered(load: Load, window: int, deadline_s: float) -> float | None:
    """Return when the first of `window` searches in a row began, of which more than 99 % were personalised."""
    healed_s = time.monotonic()
    seen: list[Seen] = []
    while time.monotonic() < healed_s + deadline_s + window / load.rate:
        seen += [one for one in load.batch(BATCH) if not one.alone]
        last = seen[-window:]
        if len(last) == window and sum(one.reason == "personalized" for one in last) > 0.99 * window:
            return max(0.0, last[0].at_s - healed_s)
    return None


def _held(load: Load) -> list[str]:
    """Return what is still held once everything abandoned must have ended: places in flight, a breaker that is not closed."""
    until_s = time.monotonic() + SETTLE_DEADLINE_S
    while load.status().in_flight and time.monotonic() < until_s:
        load.batch(1)
    status = load.status()
    return [f"{status.in_flight} places in flight are held"] if status.in_flight else []


def _left_over(before: dict[str, int]) -> list[tuple[str, int, int]]:
    until_s = time.monotonic() + SETTLE_DEADLINE_S
    while True:
        now = resources()
        more = [(what, was, now[what]) for what, was in before.items() if now[what] > was]
        if not more or time.monotonic() > until_s:
            return more
        time.sleep(0.05)
