"""Draws a plain page beside the rewriter's: where each hit came from, why, and what the household bought later."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewriter.demo.shop import Explain, ShownPage
from rewriter.plural import count_of
from rewriter.report import Move, Reason, Report

STAR = Text("★", "bold yellow")
NOTHING = Text("")
PARTS = {
    "baseline": "own",
    "signals": "signals",
    "personalized": "personalized",
    "exploration": "exploration",
    "added": "waited",
}


def print_pages(
    console: Console,
    found: ShownPage,
    names: Mapping[str, str],
    later: Collection[str],
    times_bought: Mapping[str, int],
    explain: Explain,
) -> None:
    """Print both pages side by side, and what the search took.

    names: what to call each product, by its id; later: what the household bought in the weeks after; explain: what a reason means.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("", "the shop's own page", "", "", "", "the rewriter's page", "", "", "score", "why"):
        table.add_column(heading, no_wrap=not heading.endswith("page"))
    moves = {move.id: move for move in found.report.moves}
    slots = {slot.id: slot for slot in found.report.slots}
    for at, (plain, hit) in enumerate(zip(found.plain, found.hits, strict=True), 1):
        name = hit["_id"]
        if name in slots:
            probability = f"explored, p {slots[name].propensity:.2f}"
            whence, factor, why = Text("new", "cyan"), NOTHING, Text(probability, "cyan")
        else:
            whence, factor, why = _move(moves.get(name), found.report, times_bought.get(name, 0))
        table.add_row(
            f"{at:2}", label(plain, names), STAR if plain["_id"] in later else NOTHING, Text("│", "dim"),
            f"{at:2}", label(hit, names), STAR if name in later else NOTHING, whence, factor, why,
        )  # fmt: skip
    console.print(table)
    console.print(_account(found, later, explain))


def label(hit: Mapping[str, Any], names: Mapping[str, str]) -> Text:
    """Return what to call a hit's product."""
    return Text(names.get(hit["_id"], hit["_id"]))


def _move(move: Move | None, report: Report, times: int) -> tuple[Text, Text, Text]:
    """Return where a hit came from, what its score was multiplied by, and why."""
    if move is None:
        return Text("="), NOTHING, NOTHING
    boosts = [report.boosts[number] for number in move.boosts]
    most = (report.factor_limit_used or 1.0) - 1.0
    known = move.factor is not None or move.how != "unknown"
    factor = Text(f"×{move.factor or 1.0 + min(most, sum(boost.weight for boost in boosts)):.2f}") if known else NOTHING
    if move.was is not None and move.was < move.now:
        return Text(f"↓ {move.now - move.was}", "red"), factor, Text("overtaken", "dim")
    fields = {boost.field for boost in boosts}
    why = [f"bought {times}×"] if "item" in fields else []
    why += ["maker"] if "manufacturer" in fields else []
    whence = "↑ in" if move.was is None else f"↑ {move.was - move.now}"
    return Text(whence, "green"), factor, Text(", ".join(why)) if known else Text("engine gives none", "dim")


def _account(found: ShownPage, later: Collection[str], explain: Explain) -> Text:
    report, ms = found.report, found.report.timings_ms
    before, now = (sum(hit["_id"] in later for hit in page) for page in (found.plain, found.hits))
    words = Text("   ") + STAR
    words += Text(f" bought in the weeks after: {before} on the shop's own page, {now} on the rewriter's\n")
    by = f" by {report.source}, {count_of(len(report.boosts), 'boost')}" if report.source else ""
    words += Text(f"   {report.reason}{by}\n", "dim")
    if report.reason is not Reason.PERSONALIZED:
        words += Text(f"   That means: {explain(report.reason)}\n")
    parts = " · ".join(f"{name_} {ms[name]:.0f}" for name, name_ in PARTS.items() if name in ms)
    words += Text(f"   ms: {parts}", "dim")
    return words
