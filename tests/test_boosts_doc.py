"""The figures of docs/boosts.md are those that the code computes, with the defaults that the page names."""

from __future__ import annotations

import re

import pytest

from rewriter.settings import FieldSettings, PolicySettings, SignalSettings
from rewriter.signals.affinities import signal_fields
from rewriter.signals.kinds.kind import Compared, lift
from rewriter.signals.repeats import RepeatGuard
from tests.pages import ROOT

PAGE = (ROOT / "docs" / "boosts.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", PAGE, re.MULTILINE)
POLICY = PolicySettings(index=("*",), fields={"brand": FieldSettings(), "pair": FieldSettings(of=("type", "brand"))})


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_an_affinity_with_numbers(row: tuple[str, ...]) -> None:
    count, total, share, pseudo_count, lifted, affinity, boost = map(float, row)
    value = ("brand", "nike")
    compared = Compared(
        total, pseudo_count, {value: share * 1e6}, 1e6, 1.0, POLICY.saturation, RepeatGuard({}, {}, stated=1.0)
    )
    found = lift(compared)(value, count)
    assert found == pytest.approx(affinity, abs=5e-4)
    assert found * 0.3 == pytest.approx(boost, abs=5e-4)
    assert (count / share + pseudo_count) / (total + pseudo_count) == pytest.approx(lifted, abs=5e-3)


def test_every_row_of_the_page_is_checked() -> None:
    assert len(ROWS) == 5


def test_the_defaults_that_the_page_names() -> None:
    found = signal_fields(POLICY)
    signals = SignalSettings()
    assert (found["brand"].pseudo_count, found["pair"].pseudo_count, POLICY.saturation) == (100.0, 5.0, 4.0)
    assert (signals.blend_max, signals.blend_half_events, found["brand"].scale) == (0.5, 5.0, 0.3)
