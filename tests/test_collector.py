"""The collector's settings in commands that hold much."""

from __future__ import annotations

import gc

import pytest

from rewriter.cli.collector import YOUNG, rare_full_collections


def test_full_collections_are_rarer_within_the_block_and_as_before_after_it() -> None:
    """Also after an error, as a command may run inside another program."""
    before = gc.get_threshold()
    with pytest.raises(RuntimeError), rare_full_collections():
        assert gc.get_threshold() == (before[0], before[1], YOUNG)
        raise RuntimeError
    assert gc.get_threshold() == before
