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
    everything = [(fault.name, shell) for fault in FAULTS for shell in fault.shells]
    assert [(row[0], row[1]) for row in made] == everything
    assert {row[table.HEAD.index("failed")] for row in made} == {"0"}


def test_the_proofs_are_there_and_nobody_was_mixed_up() -> None:
    found = {(name, shell): said for name, shell, said in rows("proof | shell | found")}
    for shell in ("sync", "async"):
        assert found["mix-ups", shell].startswith("0 in 50,000 searches")
        assert found["the baseline's own errors", shell].count(",") == 2


@pytest.fixture
def page(tmp_path: Path) -> Path:
    there = tmp_path / "page.md"
    there.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    return there


def test_a_run_replaces_the_former(page: Path) -> None:
    row = Row(
        "drips", "sync", 1000, 0, 2, 30.04, 41.0, 2.0, (0.5, -0.25), 0.25, (("signals_late", 750), ("personalized", 250)), None, (),
    )  # fmt: skip
    table.write(table.markdown([row], [], []), page)
    text = page.read_text()
    assert text.startswith(f"before\n{table.BEGIN}\nRun on ")
    assert text.endswith(f"{table.END}\nafter\n")
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
        table.write("text", page)
