"""Counted work of a search without I/O: calls of functions, and memory. Neither depends on how busy the machine is."""

from __future__ import annotations

import cProfile
import gc
import json
import tracemalloc

import pytest

from bench.pure import MODES, Scene
from bench.quick import BOUNDS

SEARCHES = 50
LIMITS = json.loads(BOUNDS.read_text("utf-8"))["pure"]


@pytest.fixture(params=MODES)
def scene(request: pytest.FixtureRequest) -> Scene:
    found = Scene(request.param)
    for _ in range(20):
        found.search()
    return found


def test_a_search_takes_no_more_calls_than_it_may(scene: Scene) -> None:
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(SEARCHES):
        scene.search()
    profile.disable()
    calls = sum(entry.callcount for entry in profile.getstats()) / SEARCHES
    least, most = LIMITS[scene.mode]["calls"]
    assert least <= calls <= most, f"{calls:.0f} calls a search in {scene.mode}"


def test_a_search_holds_no_more_memory_at_once_than_it_may(scene: Scene) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        scene.search()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < peak <= LIMITS[scene.mode]["bytes at once"][1]
