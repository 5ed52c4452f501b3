"""The figures of an evaluation in a terminal: a table of policies, their pages, the classes of queries, and the verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewriter.plural import count_of

SLICES = ("all", "new", "cold", "first search")
SHOWN_CLASSES = 12
HASH_CHARS = 12
WIDE = 150
"""Terminal width from which a measure, its ratio and its interval are in one line."""
MIN_NAME = 14
"""Least width of the column of names, which are broken and never cut: variants of one policy differ at their ends."""


def print_figures(console: Console, figures: Mapping[str, Any]) -> None:
    """Print the figures of a run."""
    measure, policies = figures["measure"], figures["policies"]
    title = f"{measure} · {count_of(figures['searches'], 'judged search')} of {count_of(figures['people'], 'person')}"
    title += f", {count_of(figures['judgments'], 'judgment')}"
    table = _table(title, ("", *SLICES, "Judged", "personal-\nized"))
    gap = " " if console.width >= WIDE else "\n"
    base = figures["baseline"]
    judged = measure.replace("nDCG", "Judged")
    table.add_row("baseline", *(_plain(base[part][measure]) for part in SLICES), _share(base["all"][judged]), "")
    for one in policies:
        cells = [_cell(one["measures"][part][measure], explores=one["explores"], gap=gap) for part in SLICES]
        table.add_row(one["name"], *cells, _share(one["measures"]["all"][judged]["mean"]), _share(one["personalized"]))
    console.print(table)
    console.print(
        "Ratios are to the baseline (with exploration: to the same policy without), with 95 % intervals over people."
    )
    _print_rest(console, figures, measure)
    for one in policies:
        _print_classes(console, one)
    console.print()
    for one in policies:
        console.print(Text.assemble((one["name"], "bold"), f": {one['verdict']}"), soft_wrap=True)
        for detail, count in one["details"].items():
            console.print(f"  {count:,} × {detail}", soft_wrap=True)
    for line in figures["warnings"]:
        console.print(Text.assemble(("!", "yellow"), f" {line}"), soft_wrap=True)
    for reason, count in figures["left_out"].items():
        console.print(f"left out: {reason} ({count:,})", soft_wrap=True)


def print_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """Print the differences of two runs."""
    for one in found["inputs"]:
        console.print(_difference(one), soft_wrap=True)
    if not found["inputs"]:
        console.print("The inputs are the same.")
    table = _table(
        f"{found['measure']} on {count_of(found['searches'], 'search')} of both runs",
        ("", "before", "after", "difference", "pages changed"),
    )
    for one in found["policies"]:
        change = f"{one['after'] - one['before']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
        table.add_row(one["name"], _plain(one["before"]), _plain(one["after"]), change, f"{one['pages_changed']:,}")
    console.print(table)
    if found["left_out"]:
        console.print(f"{count_of(found['left_out'], 'search', 'are')} in only one of the runs.")


def _difference(one: Mapping[str, Any]) -> str:
    """Return an input in which two runs differ: hashes are shortened, and a missing input is named as such."""
    if one["after"] is None or one["before"] is None:
        return f"{one['what']}: only in the {'first' if one['after'] is None else 'second'} run"
    before, after = (_shortened(one[side]) for side in ("before", "after"))
    return f"{one['what']}: {before} → {after}"


def _shortened(value: Any) -> Any:
    """Return a value with its hashes cut to HASH_CHARS."""
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    is_hash = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value)
    return value[:HASH_CHARS] if is_hash else value


def _print_rest(console: Console, figures: Mapping[str, Any], measure: str) -> None:
    k = figures["k"]
    names = [one.replace("nDCG", name) for name in ("RR", "R", "P") for one in (measure,)]
    table = _table("", ("", *names, "pages\nchanged", f"overlap@{k}", "functions"))
    base = figures["baseline"]["all"]
    table.add_row("baseline", *(_plain(base[name]) for name in names), "", "", "")
    for one in figures["policies"]:
        page = one["page"]
        table.add_row(
            one["name"], *(_plain(one["measures"]["all"][name]["mean"]) for name in names), _share(page["changed"]),
            _share(page[f"overlap@{k}"]), str(one["median_functions"]),
        )  # fmt: skip
    console.print(table)
    _print_diversity(console, figures)


def _print_diversity(console: Console, figures: Mapping[str, Any]) -> None:
    """Print how diverse the pages are, as far as the policies name the fields that tell it."""
    k, policies = figures["k"], figures["policies"]
    rows = [("baseline", policies[0]["page"], "baseline_")] if policies else []
    rows += [(one["name"], one["page"], "") for one in policies]
    names = (f"categories@{k}", f"normalized_entropy@{k}", f"intra_list_diversity@{k}", "item_age_median_days")
    if all(page[f"{which}{name}"] is None for _, page, which in rows for name in names):
        return
    table = _table("", ("", f"categories@{k}", "entropy", "intra-list diversity", "item age (days)"))
    for title, page, which in rows:
        *values, age = (page[f"{which}{name}"] for name in names)
        table.add_row(title, *map(_plain, values), "–" if age is None else f"{age:,.0f}")
    console.print(table)


def _print_classes(console: Console, one: Mapping[str, Any]) -> None:
    if one["explores"] or one["placebo"] or one["variation_of"] or not (classes := one.get("classes")):
        return
    counts = {effect: sum(row["effect"] == effect for row in classes) for effect in ("helps", "neutral", "harms")}
    summary = ", ".join(f"{effect} {count}" for effect, count in counts.items())
    table = _table(
        f"{one['name']} by class of query: {summary}", ("class", "searches", "people", "difference", "effect")
    )
    named = [row for row in classes if row["name"]][:SHOWN_CLASSES]
    for row in named:
        change = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        table.add_row(row["name"], f"{row['searches']:,}", f"{row['people']:,}", change, row["effect"])
    if named:
        console.print(table)
    few = sum(row["searches"] for row in classes if not row["name"])
    if few:
        console.print(
            f"{one['name']}: {count_of(few, 'search', 'are')} of classes of query with too few people to tell."
        )


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(names[0], overflow="fold", min_width=MIN_NAME)
    for name in names[1:]:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _cell(one: Mapping[str, Any], *, explores: bool, gap: str) -> str:
    """Return a measure, its ratio and the interval of that, with `gap` between them."""
    if one["mean"] is None:
        return "–"
    text = f"{one['mean']:.3f}"
    if one["ratio"] is None:
        return text
    if one["ratio_low"] is None:
        return f"{text}{gap}×{one['ratio']:.3f}"
    sign = "~" if explores else "×"
    interval = f"[{one['ratio_low']:.3f},{gap}{one['ratio_high']:.3f}]"
    return f"{text}{gap}{sign}{one['ratio']:.3f}{gap}{interval}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
