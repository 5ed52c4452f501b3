"""docs/safety.md says what the code does: what counts, which switches there are, which faults were made."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults import table
from bench.faults.catalogue import FAULTS
from bench.faults.trial import Row
from rewriter.decide.decision import BREAKER_TABLE
from rewriter.decide.switches import BOOLEANS, OTHERS, SHARES
from rewriter.report import Reason

PAGE = Path(__file__).parents[1] / "docs" / "safety.md"
BEGIN, END = table.MARKERS["parallel"]


def rows(heading: str, page: Path = PAGE) -> list[list[str]]:
    """Return the cells of the table under a heading's column names."""
    lines = page.read_text("utf-8").partition(f"| {heading} |")[2].splitlines()[2:]
    body = lines[: next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in body]


def test_what_counts_is_what_the_breaker_counts() -> None:
    counted = dict(rows("reason | counts as"))
    assert {Reason(reason) for reason in counted} == set(BREAKER_TABLE)
    for reason, outcome in BREAKER_TABLE.items():
        assert counted[reason].startswith(outcome)


def test_every_switch_is_named() -> None:
    assert {row[0] for row in rows("switch | values | effect")} == set(BOOLEANS + SHARES + OTHERS)


def test_the_table_is_of_all_faults_in_their_order_and_nothing_failed() -> None:
    made = rows(" | ".join(table.HEAD))
    assert [(row[0], row[1]) for row in made] == every_trial("parallel")
    assert {row[table.HEAD.index("failed")] for row in made} == {"0"}


def every_trial(mode: str) -> list[tuple[str, str]]:
    return [(fault.name, shell) for fault in FAULTS if mode in fault.modes for shell in fault.shells]


def test_the_table_of_rewrite_is_whole_once_it_was_made() -> None:
    made = rows(" | ".join(table.HEAD_OF_REWRITE))
    begin, end = table.MARKERS["rewrite"]
    between = PAGE.read_text("utf-8").partition(begin)[2].partition(end)[0]
    assert bool(made) is ("Run on" in between)
    assert [(row[0], row[1]) for row in made] == (every_trial("rewrite") if made else [])
    assert {row[table.HEAD_OF_REWRITE.index("failed")] for row in made} <= {"0"}


def test_the_proofs_are_there_and_nobody_was_mixed_up() -> None:
    found = {(name, shell): said for name, shell, said in rows("proof | shell | found")}
    for shell in ("sync", "async"):
        assert found["mix-ups", shell].startswith("0 in 50,000 searches")
        assert found["the baseline's own errors", shell].count(",") == 2


@pytest.fixture
def page(tmp_path: Path) -> Path:
    there = tmp_path / "page.md"
    there.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return there


def test_a_run_replaces_the_former(page: Path) -> None:
    row = Row(
        "drips", "sync", 1000, 0, 2, 30.04, 41.0, 2.0, (0.5, -0.25), 0.25, (("signals_late", 750), ("personalized", 250)), None, (),
    )  # fmt: skip
    table.write(table.markdown([row], [], []), page=page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\nRun on ")
    assert text.endswith(f"{END}\nafter\n")
    expected = [
        "drips",
        "sync",
        "1,000",
        "0",
        "2",
        "30.0 / 41.0",
        "2.0",
        "+0.5 / -0.2",
        "25.0%",
        "never",
        "signals_late",
    ]
    assert rows(" | ".join(table.HEAD), page) == [expected]


def test_a_page_without_markers_is_refused(page: Path) -> None:
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="has no <!-- faults: begin -->"):
        table.write("text", page=page)


def test_rows_of_rewrite_count_what_was_sent() -> None:
    row = Row(
        "503", "async", 1000, 0, 0, 21.0, 60.0, 2.0, (0.0, 0.0), 0.1, (("search_failed", 90),), 3.0, (), "rewrite",
        1.9, 0.09, 0.04, 3, 2,
    )  # fmt: skip
    text = table.markdown([row], [], [], "rewrite")
    assert "added more than 65 ms plus the jitter" in text
    assert "| 1.90 | 9.0% | 4.0% | 3 | 2 | 10.0% | 3.0 | `search_failed` |" in text
