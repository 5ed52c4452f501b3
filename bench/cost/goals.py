"""The table of goals: what a search may cost, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.cost.intervals import ENOUGH
from rewriter.plural import count_of

MODES = ("rewrite", "parallel")
Results = Mapping[str, Mapping[str, Any]]
HEAD = ("figure", *(cell for mode in MODES for cell in (f"`{mode}`", "goal")))


@dataclass(frozen=True, slots=True)
class Goal:
    """One row. `wanted` holds the goal of each mode that has one; `found` returns a mode's figure, None if it was not measured."""

    title: str
    part: str
    wanted: Mapping[str, str]
    found: Callable[[Mapping[str, Any], str], str | None]

    def cells(self, results: Results) -> list[str]:
        """Return the row's cells."""
        cells = [self.title]
        for mode in MODES:
            result = results.get(self.part) if mode in self.wanted else None
            figure = self.found(result, mode) if result else None
            cells += [figure or ("not measured" if mode in self.wanted else "–"), self.wanted.get(mode, "–")]
        return cells


def table(results: Results) -> list[list[str]]:
    """Return head and rows, as text."""
    return [list(HEAD), *(goal.cells(results) for goal in GOALS)]


def figure(way: Mapping[str, Any], name: str) -> str:
    """Return a figure with its interval, and the share of personalized searches if it is too small for the figure to count."""
    if isinstance(way[name], float):  # a result from before it had an interval
        return f"{way[name]:.2f}{share(way)}"
    value, low, high = way[name]
    return f"{value:.2f} [{low:.2f}, {high:.2f}]{share(way)}"


def share(way: Mapping[str, Any]) -> str:
    """Return the share of personalized searches, in words, if it is too small."""
    found = way["personalized"]
    return f" ({found:.0%} personalized)" if found < ENOUGH else ""


def _of_ways(shell: str, name: str) -> Callable[[Mapping[str, Any], str], str | None]:
    def found(result: Mapping[str, Any], mode: str) -> str | None:
        way = result["ways"].get(f"{mode}, {shell}")
        return figure(way, name) if way and name in way else None

    return found


def _beside(callers: str) -> Callable[[Mapping[str, Any], str], str | None]:
    def found(result: Mapping[str, Any], _: str) -> str | None:
        one = result["callers"].get(callers)
        return figure(one, "ratio p50") if one else None

    return found


def _pure(result: Mapping[str, Any], mode: str) -> str | None:
    one = result["pure"].get(mode)
    return "{:.0f} [{:.0f}, {:.0f}]".format(*one) if one else None


GOALS = (
    *(
        Goal(f"{at}, one caller, {shell}", "ways-1", wanted, _of_ways(shell, f"{at}_ms ratio"))
        for at, wanted in (("p50", {"rewrite": "1.5", "parallel": "2"}), ("p99", {"rewrite": "1.7", "parallel": "2"}))
        for shell in ("sync", "async")
    ),
    *(
        Goal(title, "ways-1", {"rewrite": "1.4", "parallel": "2.4"}, _of_ways("sync", name))
        for title, name in (
            ("server CPU a search, 8 functions", "server_cpu_ms ratio"),
            ("the same ÷ plain, spaced", "server_cpu_ms ratio, spaced"),
        )
    ),
    Goal("client CPU a search", "ways-1", {"rewrite": "2.5", "parallel": "4.5"}, _of_ways("sync", "client_cpu_ms ratio")),
    Goal(
        "throughput, 16 callers (at least)", "ways-16", {"rewrite": "0.75", "parallel": "0.5"},
        _of_ways("sync", "searches_a_second ratio"),
    ),
    Goal("p50, exploration not cached", "uncached", {"rewrite": "1.9", "parallel": "2.3"}, _of_ways("sync", "p50_ms ratio")),
    *(
        Goal(
            f"the caller's own search beside ours ÷ alone, p50, {count_of(callers, 'caller')}",
            "beside", {"parallel": goal}, _beside(str(callers)),
        )
        for callers, goal in ((1, "1.2"), (8, "1.05"), (32, "1.02"))
    ),
    Goal("pure work a search, µs of CPU", "pure", {"rewrite": "200", "parallel": "250"}, _pure),
    Goal("added at p50 with a server 20 ms away, ms", "far", {"rewrite": "4", "parallel": "2"}, _of_ways("sync", "added_p50_ms")),
)  # fmt: skip
PARTS_OF_GOALS = tuple(dict.fromkeys(goal.part for goal in GOALS))
"""The parts to measure for the whole table."""
