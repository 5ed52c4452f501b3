"""Previewed pages in a terminal, as wide as the terminal: the plain page on the left, the personalized one on the right."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewriter.cli.preview.page import PreviewPage, Row, median_age_days, shares
from rewriter.plural import agreeing, count_of

SMALL = 0.01
NOISE = 0.0005
"""Difference of a factor from 1 that rounding of scores explains."""
NARROW = 64
"""Terminal width below which the plain page is left out: each hit's former position is shown beside it."""
FIXED, MIN_WHY, LEAST_TITLE = 21, 14, 12
"""Characters of a row's position, move and factor; the least of its reason; the least of a title."""


def print_page(console: Console, page: PreviewPage) -> None:
    """Print one page: the outcome, both lists, the boosts, categories and ages."""
    console.print(Text.assemble(("subject ", "dim"), (page.subject, "bold"), "  ", _outcome(page)))
    if not page.plain and not page.shown:
        console.print()
        return
    wide = console.width >= NARROW
    titles, room = _widths(console.width, page, 2 if wide else 1)
    reasons = [why(row, page) for row in page.shown]
    is_brief = max(map(cell_len, reasons), default=0) > room
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", justify="right", no_wrap=True)
    if wide:
        table.add_column("plain", width=titles, no_wrap=True, overflow="ellipsis")
    table.add_column("personalized" if page.boosts else "served", width=titles, no_wrap=True, overflow="ellipsis")
    table.add_column("moved", no_wrap=True)
    table.add_column("factor", justify="right", no_wrap=True)
    table.add_column("by boosts" if is_brief else "why", no_wrap=True, overflow="ellipsis")
    for at, row in enumerate(page.shown):
        left = [Text(page.plain[at].title if at < len(page.plain) else "")] if wide else []
        factor = factor_text(row.factor) if row.factor is not None and page.boosts else ""
        reason = _briefly(row) if is_brief else reasons[at]
        table.add_row(str(at + 1), *left, Text(row.title), moved(row), factor, Text(reason))
    console.print(table)
    for number, boost in enumerate(page.boosts, 1):
        console.print(
            Text(
                f"  boost {number}: {boost.field} = {boost.value}: {weight_text(boost.weight)} ({boost.source})", "dim"
            )
        )
    console.print(Text(summary(page), "dim"))
    console.print()


def _widths(width: int, page: PreviewPage, lists: int) -> tuple[int, int]:
    """Return the width of each list of titles, and the room that remains for the reasons."""
    longest = max((cell_len(row.title) for row in (*page.plain, *page.shown)), default=0)
    titles = max(LEAST_TITLE, min(longest, (width - FIXED - MIN_WHY) // lists - 1))
    return titles, width - FIXED - lists * (titles + 1)


def _briefly(row: Row) -> str:
    """Return the cause of a hit's position by the numbers of its boosts, which stand below the lists."""
    if row.propensity is not None:
        return f"p = {row.propensity:.2f}"
    return ", ".join(str(one + 1) for one in row.boosts)


def moved(row: Row) -> Text:
    """Return a hit's move as text."""
    if row.propensity is not None:
        return Text("explored", "cyan")
    if row.was is None:
        return Text("new", "green")
    if row.was == row.now:
        return Text("=", "dim")
    return Text(f"↑ {row.was - row.now}", "green") if row.was > row.now else Text(f"↓ {row.now - row.was}", "red")


def why(row: Row, page: PreviewPage) -> str:
    """Return the cause of a hit's position as text."""
    if row.propensity is not None:
        return f"exploration, drawn with probability {row.propensity:.2f}"
    found = [f"{page.boosts[one].field} = {page.boosts[one].value}" for one in row.boosts if one < len(page.boosts)]
    if found:
        return "; ".join(found)
    if row.was is not None and row.now > row.was:
        return "other hits passed it"
    return ""


def factor_text(factor: float) -> str:
    """Return a factor with two decimals, or with three where it differs from 1 by less than can be seen then."""
    factor = round(factor, 4)  # scores are 32-bit numbers: 1.19499 of a hit and 1.195 of its boosts are one factor
    return f"×{factor:.3f}" if NOISE < abs(factor - 1.0) < SMALL else f"×{factor:.2f}"


def weight_text(weight: float) -> str:
    """Return a weight with two decimals, or with four if it is small."""
    return f"+{weight:.4f}" if 0.0 < weight < SMALL else f"+{weight:.2f}"


def summary(page: PreviewPage) -> str:
    """Return one line: how many hits stayed, the categories before and after, the median age before and after."""
    parts = [
        f"{page.stayed} of {count_of(len(page.shown), 'hit')} {agreeing(page.stayed, 'are')} on the plain page too"
    ]
    before, after = ({name: count for name, count in shares(rows) if name != "–"} for rows in (page.plain, page.shown))
    if before or after:
        names = sorted({*before, *after}, key=lambda name: (-after.get(name, 0), name))
        parts.append(
            "categories " + ", ".join(f"{name} {before.get(name, 0)} → {after.get(name, 0)}" for name in names[:6])
        )
    before_days, after_days = median_age_days(page.plain), median_age_days(page.shown)
    if before_days is not None and after_days is not None:
        parts.append(f"median age {' → '.join(ages(before_days, after_days))}")
    return "  " + "; ".join(parts)


def boosts_in(page: PreviewPage) -> str:
    """Return the number of boosts with its noun."""
    return f"{len(page.boosts)} boost{'s' * (len(page.boosts) != 1)}"


def ages(*days: float) -> list[str]:
    """Return ages that are compared in one unit: days, or years if one of them is more than two years."""
    if max(days) < 2 * 365:
        return [count_of(round(one), "day") for one in days]
    return [f"{one / 365.25:.1f} years" for one in days]


def _outcome(page: PreviewPage) -> Text:
    if page.boosts:
        limit = f", at most ×{page.max_boost:g}" if page.max_boost else ""
        return Text(f"{page.reason} by {page.source or 'the sample'}: {boosts_in(page)}{limit}", "green")
    detail = f": {page.detail}" if page.detail else ""
    return Text(f"{page.reason}{detail}; the page is the plain one (rewriter explain {page.reason})", "yellow")
