"""The collector's settings in commands that hold much."""

from __future__ import annotations

import gc

import pytest

from rewriter.cli.collector import YOUNG, rare_full_collections


@rare_full_collections()
def _failing(found: list[tuple[int, int, int]]) -> None:
    found.append(gc.get_threshold())
    raise RuntimeError


def test_full_collections_are_rarer_within_the_block_and_as_before_after_it() -> None:
    """Also after an error, as a command may run inside another program."""
    before, found = gc.get_threshold(), list[tuple[int, int, int]]()
    with pytest.raises(RuntimeError):
        _failing(found)
    assert found == [(before[0], before[1], YOUNG)]
    assert gc.get_threshold() == before
