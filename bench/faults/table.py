"""The tables of the suite's results, printed and written into docs/safety.md between two markers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.faults.processes import Proof
from bench.faults.trial import BOUNDS_MS, RECOVERED_SHARE, Row
from bench.markers import replaced
from rewriter.plural import count_of

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"opensearch": DOCS / "safety.md", "elasticsearch": DOCS / "elasticsearch.md"}
MARKERS = {
    "parallel": ("<!-- faults: begin -->", "<!-- faults: end -->"),
    "rewrite": ("<!-- faults in rewrite: begin -->", "<!-- faults in rewrite: end -->"),
}
HEAD = (
    "fault", "shell", "searches", "failed", "late", "added ms p99.9 / worst", "jitter ms p99.9", "baseline's delay ms p50 / p95",
    "personalized", "recovered after s", "else mostly",
)  # fmt: skip
HEAD_OF_REWRITE = (
    *HEAD[:7],
    "searches sent for one",
    "second round trips",
    "hedged",
    "late and not hedged",
    "pauses",
    *HEAD[8:],
)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    of_mode: tuple[str, ...] = (" / ".join(f"{delay_ms:+.1f}" for delay_ms in row.delay_ms),)
    if row.mode == "rewrite":
        of_mode = (
            f"{row.sends:.2f}", f"{row.second_round_trips:.1%}", f"{row.hedged:.1%}", str(row.refused), str(row.pauses),
        )  # fmt: skip
    return (
        row.fault, row.shell, f"{row.searches:,}", str(row.failed), str(row.late),
        f"{row.added_p999_ms:.1f} / {row.added_max_ms:.1f}", f"{row.jitter_p999_ms:.1f}", *of_mode,
        f"{row.personalized_share:.1%}", "never" if row.recovered_s is None else f"{row.recovered_s:.1f}",
        next((f"`{reason}`" for reason, _ in row.reasons if reason != "personalized"), ""),
    )  # fmt: skip


def markdown(rows: Sequence[Row], proofs: Sequence[Proof], mixed_up: Sequence[str], mode: str = "parallel") -> str:
    """Return the results of a mode in the form of docs/safety.md."""
    head = HEAD_OF_REWRITE if mode == "rewrite" else HEAD
    machine = f"{platform.system()}, {os.cpu_count()} cores for client and servers together"
    lines = [
        f"Run on {datetime.now(UTC):%Y-%m-%d}, {machine}. `late`: added more than {BOUNDS_MS[mode]:g} ms plus the jitter.",
        "",
        _line(head),
        _line(["---"] * len(head)),
        *(_line(cells(row)) for row in rows),
        *made_again(rows),
        *slow_machine(rows),
    ]
    if proofs or mixed_up:
        lines += [
            "",
            _line(("proof", "shell", "found")),
            _line(["---"] * 3),
            *(_line((proof.name, proof.shell, proof.found)) for proof in proofs),
            *(_line(("mix-ups", shell, found)) for shell, _, found in (text.partition(": ") for text in mixed_up)),
        ]
    return "\n".join(lines)


def made_again(rows: Sequence[Row]) -> list[str]:
    """Return lines that say which rows are not those of the first try, and why."""
    again = [row for row in rows if row.earlier]
    if not again:
        return []
    return [
        "",
        f"{count_of(len(again), 'row')} of {len(rows)} broke a promise about times at first, and the table has them as made again:",
        "",
        *(
            f"- {row.fault}, {row.shell}: {'; '.join(row.earlier)}{'; **and again**' * bool(row.timed)}"
            for row in again
        ),
    ]


def slow_machine(rows: Sequence[Row]) -> list[str]:
    """Return lines that say in which rows the machine was too slow for the share of recovery."""
    slow = [row.share for row in rows if row.share < RECOVERED_SHARE]
    if not slow:
        return []
    return [
        "",
        (
            f"In {count_of(len(slow), 'row')} of {len(rows)} fewer than {RECOVERED_SHARE:.0%} of the searches were personalized "
            "before the fault, since the machine was too slow. There, it has recovered with a share of "
            f"{min(slow):.0%} to {max(slow):.0%}."
        ),
    ]


def write(text: str, mode: str = "parallel", page: Path = PAGES["opensearch"]) -> None:
    """Write `text` between the page's markers of a mode. Raises ValueError if they are missing."""
    page.write_text(replaced(page.read_text("utf-8"), *MARKERS[mode], text, page), "utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
