"""The computation behind docs/cost.md: ratios, intervals and exponents of blocks that are known, and the page made of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cost import page
from bench.cost.__main__ import RESULTS
from bench.cost.blocks import Block
from bench.cost.goals import PARTS_OF_GOALS
from bench.cost.growth import fitted
from bench.cost.intervals import exponent, figures, p50
from bench.cost.parts import PARTS
from bench.cost.scene import NEVER
from bench.cost.soak import judged
from rewriter.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


def blocks(factor: float) -> list[Block]:
    """Twenty rounds, each as slow for all ways as its number says."""
    return [
        Block(
            [factor * (10.0 + number)] * 10, factor * 0.1, factor * 0.02, factor * 0.05, [True] * 9 + [False], ["E"] * number
        )
        for number in range(20)
    ]  # fmt: skip


def test_a_ratio_is_paired_by_rounds() -> None:
    found = figures(blocks(2.0), blocks(1.0))
    assert found["p50_ms"][0] == 39.0
    assert found["p50_ms ratio"] == [
        2.0,
        2.0,
        2.0,
    ]  # rounds differ by a factor of three, and the ratio of no round does
    assert found["server_cpu_ms ratio"] == [2.0, 2.0, 2.0]
    assert found["searches_a_second ratio"] == [0.5, 0.5, 0.5]
    assert found["client_cpu_ms"][0] == 4.0
    assert (found["searches"], found["failed"], found["personalized"]) == (200, 190, 0.9)
    assert found["p50_ms"][1] < 39.0 < found["p50_ms"][2]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_an_exponent_is_that_of_the_law(power: float) -> None:
    sizes = [10.0, 100.0, 1_000.0]
    fitted = exponent(sizes, [blocks(size**power) for size in sizes], p50)
    assert fitted.value == pytest.approx(power, abs=1e-3)
    assert fitted.low <= fitted.value <= fitted.high


def ways(ratio: float, share: float = 1.0) -> dict[str, Any]:
    own = figures(blocks(ratio), blocks(1.0)) | {"personalized": share}
    return {"plain": figures(blocks(1.0), blocks(1.0)), "rewrite, sync": own}


ABOUT = {
    "date": "2026-11-26T05:00:00+00:00", "documents": 1000, "rounds": 20, "searches": 10, "opensearch": "3.8.0", "python": "3.13",
    "machine": "two cores",
}  # fmt: skip

MEMORY = [[1_000, 100.0], [2_000, 110.0], [100_000, 119.5], [200_000, 120.0]]


def test_the_page_is_made_of_the_results(tmp_path: Path) -> None:
    there = tmp_path / "cost.md"
    there.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    curve = {"points": {"10": ways(1.0), "100": ways(2.0)}, "exponents": {"plain": {"p50": [0, 0, 0]}}}
    people = {100: {"store, MiB": 1.0}, 1_000: {"store, MiB": 10.0}}
    results: dict[str, dict[str, Any]] = {
        "ways-1": {"about": ABOUT, "ways": ways(1.4, 0.5)},
        "growth-depth": {"about": ABOUT, **curve},
        "first-answer": {"about": ABOUT, "rewrite": [12.5]},
        "quality": {
            "about": ABOUT,
            "quality": {name: {"ndcg": [0.5, 0.4, 0.6], "ratio": [1.2, 1.1, 1.3]} for name in ways(1.0)},
        },
        "soak": {
            "about": ABOUT,
            "modes": {mode: {**judged(50.0, {"points": MEMORY}), "points": MEMORY} for mode in ("rewrite", "parallel")},
        },
        "growth-users": {"about": ABOUT, "unit": "people", "people": people, "fitted": fitted(people, (10_000,))},
    }
    entrance = tmp_path / "README.md"
    entrance.write_text(f"{page.BEGIN}\n{page.END}\n")
    page.write(results, there, entrance)
    assert "in `rewrite` 1.40 [1.40, 1.40] (50% personalized) and 1.40" in entrance.read_text()
    text = there.read_text()
    assert text.startswith(f"before\n{page.BEGIN}\n")
    assert text.endswith(f"{page.END}\nafter\n")
    assert "old" not in text
    assert "| p50, one caller, sync | 1.40 [1.40, 1.40] (50% personalized) | 1.5 | not measured | 2 |" in text
    assert "| rewrite | 12.5 | 12.5 |" in text
    assert "| rewrite, sync | 0.500 [0.400, 0.600] | 1.200 [1.100, 1.300] |" in text
    for mode in ("rewrite", "parallel"):
        assert f"| 200,000 | {mode} | 50 | 120 | 70 | 0.50 |" in text
    assert "| store, MiB | 1.00 | 10.00 | 1.00 | 100.00 |" in text
    for name in ("ways-1", "growth-depth", "quality", "soak"):
        assert (tmp_path / f"cost-{name}.svg").read_text().startswith("<svg ")
        assert f"(cost-{name}.svg)" in text


def test_the_table_of_goals_has_a_row_for_each_and_says_what_was_not_measured() -> None:
    beside = {"callers": {"8": {"ratio p50": [1.5, 1.4, 1.6], "personalized": 0.5}}}
    measured = {
        "pure": {"about": ABOUT, "pure": {"rewrite": [250.4, 240.0, 260.0]}},
        "beside": {"about": ABOUT, **beside},
    }
    rows = {row.split(" | ")[0]: row for row in page.goals(measured)}
    assert rows["| pure work a search, µs of CPU"].endswith("| 250 [240, 260] | 200 | not measured | 250 |")
    assert rows["| the caller's own search beside ours ÷ alone, p50, 8 callers"].endswith(
        "| – | – | 1.50 [1.40, 1.60] (50% personalized) | 1.05 |"
    )
    assert rows["| the caller's own search beside ours ÷ alone, p50, 1 caller"].endswith(
        "| – | – | not measured | 1.2 |"
    )
    assert set(PARTS_OF_GOALS) <= set(PARTS)
    beside["callers"]["8"]["ratio p50"] = 1.5
    assert any("| 1.50 (50% personalized) |" in row for row in page.goals(measured))


def test_every_part_has_a_title_and_the_page_shows_the_results_that_there_are() -> None:
    assert set(page.TITLES) == {*PARTS, "soak"}
    shown = (DOCS / "cost.md").read_text("utf-8")
    done = {path.stem: json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*.json")}
    assert {name for name, title in page.TITLES.items() if f"### {title}\n" in shown} == set(done)


def test_nothing_switches_itself_off_in_a_run() -> None:
    assert Settings.model_validate({"breaker": NEVER}).breaker.max_slow_rate == 1.0
