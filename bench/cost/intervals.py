"""Ratios of one way to another with their intervals, and exponents of growth: by bootstrap over rounds.

A round holds one block of each way. Rounds are drawn again with replacement, both ways' blocks together, so that what slows a round
down for all does not count as a difference. Intervals hold the middle 95 % of RESAMPLES draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.cost.blocks import Block

RESAMPLES = 1_000
ENOUGH = 0.99
"""Least share of personalized searches with which a figure counts."""


class Interval(NamedTuple):
    """A figure, and the ends of its interval."""

    value: float
    low: float
    high: float


Figure = Callable[[Sequence[Block]], float]


def p50(blocks: Sequence[Block]) -> float:
    """Return the median time of a search, in ms."""
    return _quantile(blocks, 50)


def p99(blocks: Sequence[Block]) -> float:
    """Return the 99th percentile of the time of a search, in ms."""
    return _quantile(blocks, 99)


def _quantile(blocks: Sequence[Block], at: int) -> float:
    return float(np.percentile(np.concatenate([block.times_ms for block in blocks]), at))


def server_ms(blocks: Sequence[Block]) -> float:
    """Return the server's CPU a search, in ms."""
    return sum(block.server_s for block in blocks) * 1e3 / _count(blocks)


def client_ms(blocks: Sequence[Block]) -> float:
    """Return the client's CPU a search, of all its threads, in ms."""
    return sum(block.client_s for block in blocks) * 1e3 / _count(blocks)


def a_second(blocks: Sequence[Block]) -> float:
    """Return how many searches a second were answered."""
    return _count(blocks) / sum(block.took_s for block in blocks)


def _count(blocks: Sequence[Block]) -> int:
    return max(1, sum(len(block.times_ms) for block in blocks))


FIGURES: dict[str, Figure] = {
    "p50_ms": p50,
    "p99_ms": p99,
    "server_cpu_ms": server_ms,
    "client_cpu_ms": client_ms,
    "searches_a_second": a_second,
}


def figures(blocks: Sequence[Block], base: Sequence[Block], *, seed: int = 1) -> dict[str, Any]:
    """Return each figure of a way and its ratio to the base's, with intervals."""
    drawn = np.random.default_rng(seed).integers(0, len(blocks), (RESAMPLES, len(blocks)))
    found: dict[str, Any] = {}
    for name, figure in FIGURES.items():
        own, other = figure(blocks), figure(base)
        again = [(figure([blocks[at] for at in some]), figure([base[at] for at in some])) for some in drawn]
        found[name] = list(_interval(own, [one for one, _ in again]))
        ratios = [one / two for one, two in again if two]
        found[f"{name} ratio"] = list(_interval(own / other if other else float("nan"), ratios))
    sent = _count(blocks)
    found["searches"] = sent
    found["failed"] = sum(len(block.errors) for block in blocks)
    found["personalized"] = sum(sum(block.flags) for block in blocks) / sent
    return found


def over_rounds(figure: Callable[[Sequence[int]], float], rounds: int, *, seed: int = 1) -> list[float]:
    """Return a figure of the rounds at some positions, over all of them, and the ends of its interval."""
    chance = np.random.default_rng(seed)
    again = [figure(chance.integers(0, rounds, rounds).tolist()) for _ in range(500)]
    return list(_interval(figure(range(rounds)), again))


def exponent(sizes: Sequence[float], blocks: Sequence[Sequence[Block]], figure: Figure, *, seed: int = 1) -> Interval:
    """Return the exponent b of `figure` = a · size^b, fitted by least squares on logarithms."""
    chance = np.random.default_rng(seed)
    logs = np.log(np.asarray(sizes, float))

    def slope(some: Sequence[Sequence[Block]]) -> float:
        values = np.log([max(figure(one), 1e-9) for one in some])
        return float(np.polyfit(logs, values, 1)[0])

    again = [slope([[one[at] for at in chance.integers(0, len(one), len(one))] for one in blocks]) for _ in range(200)]
    return _interval(slope(blocks), again)


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (float("nan"), float("nan"))
    return Interval(round(value, 4), round(float(low), 4), round(float(high), 4))
