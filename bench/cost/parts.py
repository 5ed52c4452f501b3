"""The parts of a run. Each measures by itself and gives figures as JSON takes them; `growth` holds the parts about growth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from bench import pure
from bench.cost import growth
from bench.cost.blocks import Block, Way, measured
from bench.cost.delay import Delayed
from bench.cost.intervals import figures, over_rounds, p50
from bench.cost.quality import quality
from bench.cost.scene import MODES, Scene, Size
from bench.cost.ways import PLAIN, PLAIN_ASYNC, SPACED, Ways, first_answer_ms

OURS = frozenset({PLAIN, PLAIN_ASYNC, *(f"{mode}, {shell}" for mode in MODES for shell in ("sync", "async"))})
WARM_UP = 12
"""Rounds before the first: a Java server compiles the code of a rescore only after some hundred of them."""
SPACED_RATIO = "server_cpu_ms ratio, spaced"
FAR_MS = 17.0
"""Put before the server, so that a plain search takes about 20 ms."""


Part = Callable[[Scene, Size], Mapping[str, Any]]


def _ways(wanted: frozenset[str] | None, callers: int, *, unique: bool = False, aggregated: bool = False) -> Part:
    def part(scene: Scene, size: Size) -> Mapping[str, Any]:
        some = replace(scene, patient=callers > 1)
        with Ways(some, unique=unique, aggregated=aggregated).opened(wanted) as ways:
            searches = max(size.searches, 4 * callers)
            alone = [way for way in ways if callers == 1 or way.name != SPACED]
            return {"callers": callers, "ways": compared(scene, alone, size.rounds, searches, callers)}

    return part


def compared(scene: Scene, ways: Sequence[Way], rounds: int, searches: int, callers: int) -> dict[str, Any]:
    """Measure ways in turns, and return the figures of each beside its base's, and beside those of the spaced plain search."""
    blocks = measured(ways, scene.clock, scene.loop, callers=callers, rounds=rounds, searches=searches, warm_up=WARM_UP)
    found = {way.name: figures(blocks[way.name], blocks[way.base]) for way in ways}
    if SPACED in blocks:
        for name, own in found.items():
            own[SPACED_RATIO] = figures(blocks[name], blocks[SPACED])["server_cpu_ms ratio"]
    return found


def far(scene: Scene, size: Size) -> Mapping[str, Any]:
    """The same with a server further away: what the library adds in ms, end to end."""
    with Delayed(scene.url, FAR_MS / 1e3) as proxy, ExitStack() as stack:
        away = Scene(
            proxy.url, scene.store_url, stack.enter_context(scene.client_of(proxy.url)), scene.store, scene.clock, scene.loop,
            scene.corpus, scene.index, scene.documents, scene.subjects, scene.liked,
        )  # fmt: skip
        ways = stack.enter_context(Ways(away).opened(OURS))
        blocks = measured(
            ways, scene.clock, scene.loop, callers=1, rounds=size.rounds, searches=size.searches, warm_up=WARM_UP
        )
        found = {way.name: figures(blocks[way.name], blocks[way.base]) for way in ways}
        for way in ways:
            found[way.name]["added_p50_ms"] = _added_ms(blocks[way.name], blocks[way.base])
        return {"delay_ms": FAR_MS, "ways": found}


def _added_ms(own: Sequence[Block], base: Sequence[Block]) -> list[float]:
    return over_rounds(lambda drawn: p50([own[at] for at in drawn]) - p50([base[at] for at in drawn]), len(own))


def beside(scene: Scene, size: Size) -> Mapping[str, Any]:
    """The caller's own search beside the library's legs ÷ one alone, at 1, 8 and 32 callers."""
    found = {}
    for callers in (1, 8, 32):
        own_ms: list[float] = []
        some = replace(scene, patient=callers > 1)
        with Ways(some).opened(frozenset({PLAIN, "parallel, sync"}), own_ms=own_ms) as ways:
            blocks = measured(
                ways,
                scene.clock,
                scene.loop,
                callers=callers,
                rounds=size.rounds,
                searches=max(size.searches, 4 * callers),
                warm_up=WARM_UP,
            )
        alone = [one for block in blocks[PLAIN] for one in block.times_ms]
        flags = [one for block in blocks["parallel, sync"] for one in block.flags]
        own_ms = own_ms[-len(flags) :]  # without the rounds before the first
        found[str(callers)] = {
            "ratio p50": _ratio_of_medians(own_ms, blocks[PLAIN]), "beside p50_ms": median(own_ms), "alone p50_ms": median(alone),
            "personalized": sum(flags) / len(flags),
        }  # fmt: skip
    return {"callers": found}


def _ratio_of_medians(own_ms: Sequence[float], base: Sequence[Block]) -> list[float]:
    """Return the ratio of the medians and its interval."""
    rounds = np.array_split(np.asarray(own_ms), len(base))

    def ratio(drawn: Sequence[int]) -> float:
        return float(np.median(np.concatenate([rounds[at] for at in drawn]))) / p50([base[at] for at in drawn])

    return over_rounds(ratio, len(base))


def pure_work(_: Scene, size: Size) -> Mapping[str, Any]:
    """The library's own computation in a search, without any I/O (`bench.pure`), and of it the part until the first step.

    `additions`: ten thousand additions in Python beside it, so that figures of two machines can be compared.
    """
    scenes = {mode: pure.Scene(mode) for mode in MODES}
    works: Mapping[str, Mapping[str, Callable[[], Any]]] = {
        "pure": {mode: one.search for mode, one in scenes.items()},
        "decide": {mode: one.decide for mode, one in scenes.items()},
        "additions": {"": pure.additions},
    }
    found: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in each} for name, each in works.items()}
    for _round in range(-2, size.rounds):  # two rounds of warm-up
        for name, each in works.items():
            for mode, work in each.items():
                us, _p99 = pure.timed_us(work, 10 * size.searches)
                found[name][mode] += [us] if _round >= 0 else []

    def interval(us: Sequence[float]) -> list[float]:
        return over_rounds(lambda drawn: float(median(us[at] for at in drawn)), len(us))

    return {name: {mode: interval(us) for mode, us in each.items()} for name, each in found.items()}


def first_answer(scene: Scene, size: Size) -> Mapping[str, Any]:
    """The time from the constructor of a rewriter to its first answer."""
    return {mode: [round(first_answer_ms(scene, mode), 1) for _ in range(max(3, size.rounds // 2))] for mode in MODES}


PARTS: dict[str, Part] = {
    "ways-1": _ways(None, 1),
    "uncached": _ways(OURS, 1, unique=True),
    "aggregated": _ways(OURS | {"function_score, rescore", "one _msearch"}, 1, aggregated=True),
    "ways-16": _ways(None, 16),
    "beside": beside,
    "far": far,
    "pure": pure_work,
    "ways-4": _ways(None, 4),
    "ways-64": _ways(None, 64),
    "first-answer": first_answer,
    "quality": quality,
    "growth-boosts": growth.boosts,
    "growth-counters": growth.counters,
    "growth-matches": growth.matches,
    "growth-depth": growth.depth,
    "growth-size": growth.document_size,
    "growth-documents": growth.documents,
    "growth-users": growth.users,
}
"""By name, in order of value."""
