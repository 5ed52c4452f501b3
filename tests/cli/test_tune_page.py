"""The page of `rewriter tune`: every text lies within the picture, on a phone too, and each note is a sentence."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rewriter.cli.tune_page import MAX_SHOWN, SIZE, html_of, shown_trials


def trial(number: int, every: float, new: float, *, front: bool = False, **changes: float) -> dict[str, Any]:
    return {
        "number": number, "all": every, "new": new, "front": front, "new_ratio": new / 0.15, "coverage": 1.1, "failed": 0,
        "changes": changes,
    }  # fmt: skip


def page(
    current: tuple[float, float], refusal: str = "no trial ranks better", chosen: dict[str, Any] | None = None
) -> str:
    trials = [trial(n, 0.1 + n / 100, 0.2 - n / 100, front=n == 3) for n in range(4)]
    now = trial(-1, *current) | {"settings": {"max_boost": 1.5, "fields.brand.scale": 0.2}}
    return html_of(
        {
            "trials": trials, "current": now, "baseline": {"all": 0.1, "new": 0.15},
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
    shown = page(current, chosen=trial(3, 0.13, 0.17))
    labels = re.findall(r'<text x="([\d.]+)"[^>]* y="([\d.]+)">(?:baseline|as it is|3, chosen)<', shown)
    places = [(float(x), float(y)) for x, y in labels]
    assert len(places) == 3
    pairs = [(a, b) for at, a in enumerate(places) for b in places[:at]]
    assert all(abs(a[0] - b[0]) >= 80 or abs(a[1] - b[1]) >= 16 for a, b in pairs)


def test_settings_of_the_front_can_be_read_without_a_mouse_and_found_by_their_numbers() -> None:
    front = [trial(n, 0.1 + n / 100, 0.2 - n / 100, front=True, max_boost=1.1 + n / 100) for n in range(40)]
    behind = trial(40, 0.1, 0.1, max_boost=1.77)
    failed = front[20] | {"failed": 3, "changes": {"item_half_life_s": 1_209_600.0, "fields.brand.scale": 0.51}}
    front[20] = failed
    now = trial(-1, 0.12, 0.15) | {"settings": {"max_boost": 1.25}}
    whole = html_of(
        {
            "trials": [*front, behind], "current": now, "baseline": {"all": 0.1, "new": 0.15}, "chosen": failed, "spare_new": 0.95,
            "measure": "nDCG@10", "refusal": "", "notes": [], "confirmation": None,
        }
    )  # fmt: skip
    svg, _, rest = whole.partition("</svg>")
    assert "<title>" not in svg.partition("<svg")[2]
    text = re.sub(r"<[^>]+>", " ", rest)
    numbers = re.findall(r"Trial (\d+)", text)
    assert 8 <= len(numbers) <= MAX_SHOWN + 1
    assert {"0", "39", "20"} <= set(numbers), "both ends, and the chosen one"
    for number in numbers:
        assert re.search(rf">{number}(, chosen)?</text>", svg), "its dot has its number"
        if number != "20":
            assert f"max_boost  = {1.1 + int(number) / 100:g}" in text
    assert "As it is" in text
    assert "max_boost  = 1.25" in text
    assert "item_half_life_s  = 1209600 (2 weeks)" in text
    assert "failed in 3 searches" in text
    assert "1.77" not in text
    assert len(whole) < 200_000


def test_equal_trials_are_shown_once() -> None:
    same = [trial(n, 0.3, 0.2, front=True, max_boost=1.5) for n in range(5)]
    found = {"trials": same, "chosen": same[2]}
    assert [one["number"] for one in shown_trials(found)] == [0, 2]
