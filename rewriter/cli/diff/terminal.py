"""A diff in the terminal: the size of the change, its causes, the people and products that it affects, and its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewriter.plural import agreeing, count_of

SHOWN = 5
"""Changed pages that are printed; all of them are in the JSON."""


def print_diff(console: Console, found: Mapping[str, Any]) -> None:
    """Print the figures of a diff."""
    console.print(Text.assemble((found["a"], "bold"), " → ", (found["b"], "bold")))
    console.print(summary(found))
    for line in failures_in_words(found):
        console.print(Text.assemble(("!", "yellow"), f" {line}"), soft_wrap=True)
    _print_versions(console, found)
    _print_products(console, found["products"])
    _print_people(console, found["people"])
    for page in found["pages"][:SHOWN]:
        _print_page(console, page)
    if len(found["pages"]) > SHOWN:
        console.print(
            Text(
                f"and {count_of(len(found['pages']) - SHOWN, 'more changed page')}: --html or --json shows them", "dim"
            )
        )


def summary(found: Mapping[str, Any]) -> str:
    """Return the outcome in one sentence."""
    k, overlap, rbo = found["k"], found["overlap"], found["rbo"]
    return (
        f"{found['changed']:,} of {count_of(found['compared'], 'page')} {agreeing(found['changed'], 'change')} "
        f"({found['changed_share']:.1%}); "
        f"overlap@{k} {overlap['mean']:.3f} (least {overlap['least']:.2f}), "
        f"rank-biased overlap {rbo['mean']:.3f} (p = {rbo['p']:g}, least {rbo['least']:.2f})"
    )


def failures_in_words(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each version that failed: in how many searches, in which lines, and why."""
    lines = []
    for name, other in (("a", "b"), ("b", "a")):
        own = found["failures"][name]
        if not own["searches"]:
            continue
        causes = "; ".join(f"{cause} ({count:,})" for cause, count in list(own["causes"].items())[:SHOWN])
        shown, more = own["lines"][:SHOWN], ", …" if own["alone"] > SHOWN else ""
        where = f" (line {', '.join(map(str, shown))}{more})" if shown else ""
        alone = f", in {own['alone']:,} of which {other.upper()} does not{where}" if own["alone"] else ""
        lines.append(
            f"{name.upper()} fails in {own['searches']:,} of {count_of(found['compared'], 'search')}{alone}, and shows the plain "
            f"page there: {causes}"
        )
    return lines


def problem(found: Mapping[str, Any], limit: float | None) -> str:
    """Return why the exit code is 1, "" if it is 0. limit: the largest share of pages that may change, None for any."""
    compared, failures = found["compared"], found["failures"]
    if alone := failures["b"]["alone"]:
        return f"B fails in {count_of(alone, 'search')} in which A does not"
    if failures["both"] == compared:
        return "both versions fail in every search: nothing was compared"
    if limit is not None and found["changed_share"] > limit:
        return f"{found['changed_share']:.1%} of the pages change, more than {limit:.1%}"
    if found["failed"]:
        return f"{count_of(len(found['failed']), 'search', 'are')} not compared: the server refused them"
    return ""


def rows_of_versions(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows that compare both versions: a label, and each version's text."""
    a, b = found["versions"]["a"], found["versions"]["b"]

    def row(what: str, text: Callable[[Mapping[str, Any]], str]) -> tuple[str, str, str]:
        return what, text(a), text(b)

    reasons = dict.fromkeys([*a["reasons"], *b["reasons"]])
    return [
        *((f"searches: {one}", str(a["reasons"].get(one, 0)), str(b["reasons"].get(one, 0))) for one in reasons),
        row("boosted hits at max_boost", lambda of: f"{of['at_limit']} of {of['boosted_hits']}"),
        row("searches sent for one", lambda of: f"{of['searches']:.2f}"),
        row("functions in a search", lambda of: f"{of['functions']:.1f}"),
        row("search with boosts, ms p50 / p95", lambda of: _ms(of["leg_ms"])),
    ]


def _ms(legs: Mapping[str, float] | None) -> str:
    return f"{legs['p50']:.1f} / {legs['p95']:.1f}" if legs else "–"


def _print_versions(console: Console, found: Mapping[str, Any]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("A", "B"):
        table.add_column(name, justify="right")
    for row in rows_of_versions(found):
        table.add_row(*row)
    console.print(table)


def _print_products(console: Console, products: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    rows = [*products["up"][:SHOWN], *products["down"][:SHOWN]]
    if not rows:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("product", "ranks", "pages", "entered", "left"):
        table.add_column(name, justify="left" if name == "product" else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        style = "green" if row["ranks"] > 0 else "red"
        table.add_row(
            Text(row["title"]),
            Text(f"{row['ranks']:+}", style),
            *(str(row[name]) for name in ("pages", "entered", "left")),
        )
    console.print(table)


def _print_people(console: Console, people: Sequence[Mapping[str, Any]]) -> None:
    for row in people[:SHOWN]:
        pages = f"{row['changed']} of {count_of(row['searches'], 'page')} {agreeing(row['changed'], 'change')}"
        console.print(Text(f"person of line {row['line']}: {pages}, rank-biased overlap {row['rbo']:.3f}", "dim"))


def _print_page(console: Console, page: Mapping[str, Any]) -> None:
    words = f" “{page['words']}”" if page["words"] else ""
    console.print(
        Text(
            f"\nline {page['line']}{words}: overlap {page['overlap']:.2f}, rank-biased overlap {page['rbo']:.3f}",
            "bold",
        )
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
    table.add_column("", justify="right", no_wrap=True)
    for side in ("a", "b"):
        table.add_column(f"{side.upper()} ({page[side]['reason']})", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("moved", no_wrap=True)
    before = {hit["id"]: rank for rank, hit in enumerate(page["a"]["hits"])}
    for rank in range(max(len(page["a"]["hits"]), len(page["b"]["hits"]))):
        left, right = (page[side]["hits"][rank] if rank < len(page[side]["hits"]) else None for side in ("a", "b"))
        titles = [Text(hit["title"] if hit else "") for hit in (left, right)]
        table.add_row(str(rank + 1), *titles, _moved(before, right, rank))
    console.print(table)


def _moved(before: Mapping[str, int], hit: Mapping[str, str] | None, rank: int) -> Text:
    if hit is None:
        return Text("")
    was = before.get(hit["id"])
    if was is None:
        return Text("new", "green")
    if was == rank:
        return Text("=", "dim")
    return Text(f"↑ {was - rank}", "green") if was > rank else Text(f"↓ {rank - was}", "red")
