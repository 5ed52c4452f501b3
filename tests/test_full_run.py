"""The long run writes its table row by row, and names what failed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.full_run import HEAD, PAGE, PARTS, page_with, row, summary_of

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_part_s_row_is_replaced_and_the_others_stay() -> None:
    page = f"# The long run\n\n{HEAD}"
    for part in PARTS:
        page = page_with(page, part, row(part, BEGAN, 61.4, "1 passed"))
    again = page_with(page, PARTS[1], row(PARTS[1], BEGAN, 1.0, "2 passed"))
    assert again.count("\n") == page.count("\n") == HEAD.count("\n") + 2 + len(PARTS)
    assert [line for line in again.splitlines() if line not in page.splitlines()] == [
        row(PARTS[1], BEGAN, 1.0, "2 passed")
    ]


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ("...\n\x1b[32m==== 3 passed in 1.2s ====\x1b[0m\n\n", 0, "3 passed in 1.2s"),
        ("==== 1 failed, 3 passed in 1.2s ====\n", 1, "**failed, exit code 1**: 1 failed, 3 passed in 1.2s"),
        ("", -9, "**failed, exit code -9**: nothing was printed"),
        ("a | b\n", 0, "a / b"),
    ],
)
def test_the_result_of_a_part(output: str, code: int, expected: str) -> None:
    assert summary_of(output, code) == expected


def test_the_page_holds_rows_of_parts_and_of_nothing_else() -> None:
    rows = PAGE.read_text("utf-8").partition(HEAD)[2].splitlines()
    assert rows
    names = [one.split(" | ")[0].removeprefix("| ") for one in rows]
    assert set(names) <= {part.name for part in PARTS}
    assert not [one for one in rows if "**failed" in one]
