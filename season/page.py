"""docs/season.md, and the reports that it links to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from season.parameters import Parameters
from season.run import Outcome

DOCS = Path(__file__).parents[1] / "docs"


def terminal(one: Outcome) -> str:
    """Return a season in a few lines."""
    expected = " or ".join(sorted(one.variant.verdicts))
    mark = "as expected" if one.as_expected else f"NOT as expected ({expected})"
    lines = [
        f"{one.variant.name}: {one.variant.what}",
        f"  {one.report['sentence']}  [{mark}; there was {one.true_lift:+.1%}]",
        f"  {one.searches:,} searches, {one.events:,} events, {one.took_s:.0f} s, {one.cpu_s:.0f} s of CPU; "
        + ", ".join(f"{name} {count:,}" for name, count in one.reasons.most_common()),
    ]
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome], given: Parameters, folder: Path, took_s: float) -> None:
    """Write the page."""
