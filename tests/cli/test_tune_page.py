"""The page of `rewriter tune`: every text lies within the picture, on a phone too, and each note is a sentence."""

from __future__ import annotations

import re

import pytest

from rewriter.cli.tune_page import SIZE, html_of


def page(
    current: tuple[float, float], refusal: str = "no trial ranks better", chosen: dict[str, float] | None = None
) -> str:
    trials = [{"number": n, "all": 0.1 + n / 100, "new": 0.2 - n / 100, "front": n == 3} for n in range(4)]
    return html_of(
        {
            "trials": trials, "current": {"all": current[0], "new": current[1]}, "baseline": {"all": 0.1, "new": 0.15},
            "chosen": chosen, "spare_new": 0.95, "measure": "nDCG@10", "refusal": refusal, "notes": ["the scores are flat"],
            "confirmation": None,
        }
    )  # fmt: skip


@pytest.mark.parametrize("current", [(0.05, 0.1), (0.3, 0.3), (0.3, 0.01)])
def test_no_text_of_the_picture_is_cut_off_on_a_phone(current: tuple[float, float]) -> None:
    texts = re.findall(r'<text(?: class="quiet")? x="([\d.]+)"( text-anchor="end")? y="[\d.]+">([^<]+)<', page(current))
    assert {"baseline", "as it is"} <= {text for _, _, text in texts}
    for x, anchor, text in texts:
        size = 9.5 * len(text)  # 16 px in the picture, which a phone shows at three quarters
        left = float(x) - (size if anchor else 0.0)
        assert left >= 0
        assert left + size <= SIZE


def test_a_note_is_a_sentence() -> None:
    assert "<p>The scores are flat.</p>" in page((0.3, 0.3))


@pytest.mark.parametrize("current", [(0.129, 0.171), (0.13, 0.17), (0.1, 0.15)])
def test_labels_of_dots_that_are_close_do_not_cover_each_other(current: tuple[float, float]) -> None:
    shown = page(current, chosen={"number": 3, "all": 0.13, "new": 0.17})
    labels = re.findall(r'<text x="([\d.]+)"[^>]* y="([\d.]+)">(?:baseline|as it is|chosen)<', shown)
    places = [(float(x), float(y)) for x, y in labels]
    assert len(places) == 3
    pairs = [(a, b) for at, a in enumerate(places) for b in places[:at]]
    assert all(abs(a[0] - b[0]) >= 80 or abs(a[1] - b[1]) >= 16 for a, b in pairs)
