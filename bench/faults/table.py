"""The tables of the suite's results, printed and written into docs/safety.md between two markers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.faults.processes import Proof
from bench.faults.trial import CUTOFF_MS, Row

PAGE = Path(__file__).parents[2] / "docs" / "safety.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = (
    "fault", "shell", "searches", "failed", "late", "added ms p99.9 / worst", "jitter ms p99.9", "baseline's delay ms p50 / p95",
    "personalized", "recovered after s", "else mostly",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    return (
        row.fault, row.shell, f"{row.searches:,}", str(row.failed), str(row.late),
        f"{row.added_p999_ms:.1f} / {row.added_max_ms:.1f}",
        f"{row.jitter_p999_ms:.1f}", " / ".join(f"{delay_ms:+.1f}" for delay_ms in row.delay_ms),
        f"{row.personalized_share:.1%}", "never" if row.recovered_s is None else f"{row.recovered_s:.1f}",
        next((f"`{reason}`" for reason, _ in row.reasons if reason != "personalized"), ""),
    )  # fmt: skip


def markdown(rows: Sequence[Row], proofs: Sequence[Proof], mixed_up: Sequence[str]) -> str:
    """Return all results in the form of docs/safety.md."""
    machine = f"{platform.system()}, {os.cpu_count()} cores for client and servers together"
    said = [
        f"Run on {datetime.now(UTC):%Y-%m-%d}, {machine}. `late`: added more than {CUTOFF_MS:g} ms plus the jitter.",
        "",
        _line(HEAD),
        _line(["---"] * len(HEAD)),
        *(_line(cells(row)) for row in rows),
        "",
        _line(("proof", "shell", "found")),
        _line(["---"] * 3),
        *(_line((proof.name, proof.shell, proof.found)) for proof in proofs),
        *(_line(("mix-ups", shell, found)) for shell, _, found in (text.partition(": ") for text in mixed_up)),
    ]
    return "\n".join(said)


def write(text: str, page: Path = PAGE) -> None:
    """Write `text` between the page's markers. Raises ValueError if they are missing."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
