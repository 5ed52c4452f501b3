"""One trial: load before, during and after a fault, its figures, and the broken promises."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from math import ceil

from bench.faults.load import EVERYBODY, Load, Seen, Stall
from bench.faults.scene import HEDGE_MS
from rewriter.decide.late_legs import PAUSE_S
from rewriter.shell.status import Status

CUTOFF_MS = 30.0
SIGNALS_MS, PREPARING_MS = 10.0, 5.0
BOUNDS_MS = {"parallel": CUTOFF_MS, "rewrite": SIGNALS_MS + PREPARING_MS + HEDGE_MS}
"""Longest time that the library may add to the caller's own search, by mode; in `rewrite`, within the budget of hedges."""
DEADLINES = {"parallel": 1, "rewrite": 2}
"""Timers that a search waits for one after another: the cut-off; or the signals' budget, and then the hedge. A stall of the machine
makes a timer late, and a second stall the next one."""
WARM_UP = EVERYBODY
BATCH = 20
IDLE_DEADLINE_S = 15.0
LATE_SHARE = 0.001
DELAY_BOUND_MS = 5.0
BASELINE_BOUND_MS = 500.0
RECOVERY_S = 5.0
WINDOW = 200
RECOVERED_SHARE = 0.99
SLOWER_SHARE = 0.05
"""How far below its share before the fault a policy may stay, if that share was less than RECOVERED_SHARE."""
STALL_MS = 5.0
AFTER_A_FAILURE = frozenset({"search_failed", "search_rejected", "no_relevance", "answers_differ"})


@dataclass(frozen=True, slots=True)
class Row:
    """The result of a trial.

    failed:   searches with a wrong answer or an error.
    late:     searches to which more was added than the cut-off plus the jitter. The jitter is that of the run at p99.9, or the
              sampler's delay during this search: a stall of the machine makes several searches late, but is one sample of many.
              Where a search waits for two timers in turn, its two largest delays.
    delay_ms: the baseline's delay against a search that is sent alone, at p50 and p95.
    reasons:  the numbers of reports by reason.

    In `rewrite`:
    sends:    searches sent for one, the caller's own, rewritten ones and exploration together.
    second_round_trips: the share whose own search was sent after a rewritten one had failed. hedged: beside one that was late.
    refused:  late searches that the budget of hedges left waiting; pauses: how often the policy went plain.

    timed:    those of `broken` that are about times, which a stall of the machine can break too.
    earlier:  the broken times of earlier tries of this row.
    share:    the share of personalized searches from which on it has recovered.
    """

    fault: str
    shell: str
    searches: int
    failed: int
    late: int
    added_p999_ms: float
    added_max_ms: float
    jitter_p999_ms: float
    delay_ms: tuple[float, float]
    personalized_share: float
    reasons: tuple[tuple[str, int], ...]
    recovered_s: float | None
    broken: tuple[str, ...]
    mode: str = "parallel"
    sends: float = 0.0
    second_round_trips: float = 0.0
    hedged: float = 0.0
    refused: int = 0
    pauses: int = 0
    timed: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    share: float = RECOVERED_SHARE


def trial(
    name: str,
    shell: str,
    load: Load,
    fault: AbstractContextManager[None],
    after: ExitStack,
    searches: int,
    *,
    window: int,
    is_well: bool = True,
    awaits_recovery: bool = True,
) -> Row:
    """Run `searches` under the fault, remove it, and continue until as many of `window` searches are personalized as before.

    As many: more than 99 %; see `recovered_share`.

    after:   the clean-up of the fault after the load.
    is_well: whether the caller's own searches are as fast as ever.
    awaits_recovery: if not, one more batch is sent instead, and its answers are checked.
    """
    before = resources()
    broken: list[str] = []
    timed: list[str] = []
    with load:
        well = load.batch(WARM_UP)
        broken += [f"before the fault: {one.fault}" for one in well if one.fault]
        broken += _held(load)
        share = recovered_share([one.reason == "personalized" for one in well if not one.alone])
        tasks_before = load.tasks()
        load.jitter.clear()
        with fault:
            reports_before, sends_before, hedging_before = load.reports.count, load.sends.count, _hedging(load)
            seen = load.batch(searches * 5 // 4)
            reports, sends = load.reports.count - reports_before, load.sends.count - sends_before
            hedging = {name: value - hedging_before[name] for name, value in _hedging(load).items()}
        own = [one for one in seen if not one.alone]
        stalls = list(load.jitter)
        recovered_s = _recovered(load, window, share) if awaits_recovery else None
        if not awaits_recovery:
            broken += [f"after the fault: {one.fault}" for one in load.batch(BATCH) if one.fault]
        elif recovered_s is None:
            timed.append(
                f"not recovered to {share:.1%} personalized: {'; '.join(load.status().problems) or 'no problem'}"
            )
        broken += _held(load)
        if (tasks := _tasks(load, tasks_before)) > tasks_before:
            broken.append(f"tasks: {tasks} after, {tasks_before} before")
    after.close()
    broken += [f"{what}: {now} after, {was} before" for what, was, now in _left_over(before)]
    jitter_ms = rank([one.ms for one in stalls], 0.999)
    added = [one.added_ms for one in own if not one.fault]
    alone = [one.baseline_ms for one in seen if one.alone]
    delay_ms, delay_p95_ms = (rank([one.baseline_ms for one in own], at) - rank(alone, at) for at in (0.5, 0.95))
    late = [
        one
        for one in own
        if one.added_ms > BOUNDS_MS[load.mode] + max(jitter_ms, _beside(one, stalls, DEADLINES[load.mode]))
    ]
    failed = [one.fault for one in own if one.fault]
    broken += sorted(set(failed))
    if len(late) > LATE_SHARE * len(own) + hedging["refused"]:
        timed.append(f"added {rank(added, 0.999):.1f} ms at p99.9")
    if load.mode == "parallel" and delay_ms > DELAY_BOUND_MS + rank([one.ms for one in stalls], 0.5):
        timed.append(f"the baseline came {delay_ms:.1f} ms later than alone")
    if (worst_ms := max(one.baseline_ms for one in seen)) > BASELINE_BOUND_MS and is_well:
        timed.append(f"a baseline took {worst_ms:.0f} ms, and the search engine was well")
    if not len(own) <= reports <= len(own) + load.cancelled:
        broken.append(f"{len(own)} searches, {reports} reports")
    return Row(
        name, shell, len(own), len(failed), len(late), rank(added, 0.999), max(added, default=0.0), jitter_ms,
        (delay_ms, delay_p95_ms), sum(one.reason == "personalized" for one in own) / len(own),
        tuple(Counter(one.reason for one in own if one.reason).most_common()), recovered_s, (*broken, *timed), load.mode,
        (sends + sum(one.own_sent for one in own)) / len(own),
        sum(one.own_sent and not one.hedged and one.reason in AFTER_A_FAILURE for one in own) / len(own),
        sum(one.hedged for one in own) / len(own), hedging["refused"], hedging["pauses"], tuple(timed),
        share=share,
    )  # fmt: skip


def _hedging(load: Load) -> dict[str, int]:
    """Return the late searches that were not hedged, and the pauses, of the policy so far; none in `parallel`."""
    found = load.status().policies["shop"]["hedging"] or {}
    return {name: int(found.get(name, 0)) for name in ("refused", "pauses")}


def _beside(one: Seen, stalls: list[Stall], deadlines: int) -> float:
    """Return the sum of the `deadlines` largest delays, in ms, of the sampler's sleeps that ended while a search was waited for.

    The sampler sleeps again only after it woke, so its delays do not overlap.
    """
    until_s = one.at_s + (one.baseline_ms + one.added_ms) / 1e3
    beside = (stall.ms for stall in stalls if until_s - one.added_ms / 1e3 <= stall.until_s <= until_s + 0.005)
    return sum(sorted(beside, reverse=True)[:deadlines])


def rank(values: list[float], share: float) -> float:
    """Return the value below which `share` of all lie (0 for none)."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)] if values else 0.0


def resources() -> dict[str, int]:
    """Return the numbers of this process's threads and of its open files and sockets."""
    gc.collect()
    return {"threads": threading.active_count(), "files and sockets": len(os.listdir("/dev/fd"))}  # noqa: PTH208  a count


def recovered_share(before: list[bool]) -> float:
    """Return the share of personalized searches from which on a policy has recovered, from those before the fault, in their order.

    Of these, the later half counts: the first searches of a process are not personalized.
    """
    later = before[len(before) // 2 :]
    share = sum(later) / len(later)
    return RECOVERED_SHARE if share >= RECOVERED_SHARE else share - SLOWER_SHARE


def _recovered(load: Load, window: int, share: float) -> float | None:
    """Return the seconds until a run of `window` searches with over `share` of them personalized begins.

    None if it takes longer than promised: 5 s, or the remaining time of an open breaker or a paused policy. Probes that were under
    way when the fault was removed may fail later, so that time is read again for a second. Searches delayed by a stalled machine do
    not count.
    """
    healed_s = time.monotonic()
    late_s = healed_s + RECOVERY_S
    seen: list[Seen] = []
    while time.monotonic() < late_s + window / load.rate:
        load.jitter.clear()
        found = [one for one in load.batch(BATCH) if not one.alone]
        seen += [one for one in found if not (one.reason.endswith("_late") and _beside(one, load.jitter, 1) > STALL_MS)]
        well = [one.reason == "personalized" for one in seen]
        for first in range(max(0, len(seen) - window - BATCH), len(seen) - window + 1):
            if sum(well[first : first + window]) > share * window:
                return max(0.0, seen[first].at_s - healed_s)
        if (now_s := time.monotonic()) < healed_s + 1.0:
            late_s = max(late_s, now_s + _off_for_s(load.status()) + 1.0)
    return None


def _off_for_s(status: Status) -> float:
    paused = any(policy["paused"] for policy in status.policies.values())
    breakers = [status.breaker, *status.store_breakers.values()]
    hedging = [policy["hedging"] for policy in status.policies.values() if policy["hedging"]]
    pauses_s = [float(one["paused_for_s"]) for one in hedging]
    return max(
        PAUSE_S if paused and not hedging else 0.0, *pauses_s, *(float(breaker["reopens_in_s"]) for breaker in breakers)
    )


def _held(load: Load) -> list[str]:
    """Return leaks after all abandoned work must have ended: permits in flight and of a breaker, and plans that are not saved."""
    until_s = time.monotonic() + IDLE_DEADLINE_S
    while (held := _holds(load.status())) and time.monotonic() < until_s:
        load.idle()
    return held


def _holds(status: Status) -> list[str]:
    permits = sum(one["permits"] for one in (status.breaker, *status.store_breakers.values()))
    held = {
        "permits taken": status.in_flight + status.rewritten_in_flight,
        "permits of a breaker": permits,
        "plans that wait": status.plans_waiting,
    }
    return [f"{count} {what} are held" for what, count in held.items() if count]


def _tasks(load: Load, before: int) -> int:
    """Return the number of tasks once it is no larger than before; a background round may be under way at any one moment."""
    until_s = time.monotonic() + IDLE_DEADLINE_S
    while (tasks := load.tasks()) > before and time.monotonic() < until_s:
        load.idle()
    return tasks


def _left_over(before: dict[str, int]) -> list[tuple[str, int, int]]:
    until_s = time.monotonic() + IDLE_DEADLINE_S
    while True:
        now = resources()
        more = [(what, was, now[what]) for what, was in before.items() if now[what] > was]
        if not more or time.monotonic() > until_s:
            return more
        time.sleep(0.05)
