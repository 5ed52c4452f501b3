"""The treatment of a test whose engine this machine cannot run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rewriter_engines import EngineUnavailable

MISSING = "engine missing: "


@contextmanager
def needed() -> Iterator[None]:
    """Around the start of an engine: one that cannot be had fails the test in CI, and skips it elsewhere."""
    try:
        yield
    except EngineUnavailable as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI is set: {MISSING}{missing}", pytrace=False)
        pytest.skip(f"{MISSING}{missing}")
