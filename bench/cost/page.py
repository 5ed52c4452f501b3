"""docs/cost.md: tables and plots of the results, and the README's quote of them. Nothing is typed in by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.cost.goals import figure, share, table
from bench.cost.intervals import ENOUGH
from bench.cost.plots import bars, curves, lines_of, marks
from bench.markers import replaced

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
BEGIN, END = "<!-- cost: begin -->", "<!-- cost: end -->"
ENTRANCE = PAGE.parents[1] / "README.md"
PLOT = "cost-{}.svg"
COLUMNS = (
    ("p50", "p50_ms ratio"), ("p99", "p99_ms ratio"), ("server CPU", "server_cpu_ms ratio"), ("client CPU", "client_cpu_ms ratio"),
    ("throughput", "searches_a_second ratio"),
)  # fmt: skip
TITLES = {
    "ways-1": "One caller, exploration cached",
    "uncached": "One caller, every search new: exploration is not cached",
    "aggregated": "One caller, searches with three aggregations",
    "ways-4": "4 callers",
    "ways-16": "16 callers",
    "ways-64": "64 callers",
    "far": "A server about 20 ms away",
    "beside": "The caller's own search beside the library's, in `parallel`",
    "pure": "The library's own computation",
    "first-answer": "From the constructor to the first answer",
    "quality": "Quality beside cost",
    "soak": "Memory over many searches",
    "growth-boosts": "Functions",
    "growth-counters": "Counters stored",
    "growth-matches": "Matches",
    "growth-depth": "Hits of a page",
    "growth-size": "Bytes of a document",
    "growth-documents": "Documents",
    "growth-users": "People in the store",
}


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return a part's figures as text, for a terminal."""
    return [line for line in _section(result) if line.startswith("|")] or [str(_rest(result))]


def goals(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table of goals."""
    head, *rows = table(results)
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def write(results: Mapping[str, Mapping[str, Any]], page: Path = PAGE, entrance: Path = ENTRANCE) -> None:
    """Write the tables between the page's markers, the plots beside it, and the entrance's quote of them.

    Raises ValueError if a page has no markers.
    """
    found, plots = goals(results), dict[Path, str]()
    for name, title in TITLES.items():
        if name in results:
            found += ["", f"### {title}", "", _about(results[name]), "", *_section(results[name])]
            plot = _plot(name, results)
            if plot:
                plots[page.parent / PLOT.format(name)] = plot
                found += ["", f"![{title}]({PLOT.format(name)})"]
    for path, made in ((page, found), (entrance, quote(results))):
        path.write_text(replaced(path.read_text("utf-8"), BEGIN, END, "\n".join(made), path), "utf-8")
    for path, plot in plots.items():
        path.write_text(plot, "utf-8")


def _about(result: Mapping[str, Any]) -> str:
    about = result["about"]
    made = f"{about['date'][:10]}, Python {about['python']}, {about['machine']}"
    if "documents" not in about:
        return f"{made}."
    each = f"{about['rounds']} rounds of {about['searches']} searches a way"
    return f"{made}, OpenSearch {about['opensearch']}, {about['documents']:,} products; {each}."


def quote(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the README's lines: the figures of the run with one caller."""
    ways = results.get("ways-1", {}).get("ways", {})
    shown = {
        "rewrite, sync": "in `rewrite`",
        "parallel, sync": "in `parallel`",
        "by hand": "with boosts as people write them by hand",
    }
    each = [
        f"{words} {figure(ways[name], 'p50_ms ratio')} and {figure(ways[name], 'server_cpu_ms ratio')}"
        for name, words in shown.items()
        if name in ways
    ]
    if not each:
        return ["Not measured yet; see [what it costs](docs/cost.md)."]
    documents = results["ways-1"]["about"]["documents"]
    return [
        f"Time at p50 and server CPU of a search ÷ those of the plain search ({documents:,} products, one caller, 95 % intervals):",
        f"{'; '.join(each)}.",
        "[What it costs](docs/cost.md) has the other figures, and the goals that were missed.",
    ]  # fmt: skip


def _time(way: Mapping[str, Any]) -> str:
    return f"{way['p50_ms'][0]:.2f} ms{share(way)}"


def _section(result: Mapping[str, Any]) -> list[str]:
    if "ways" in result:
        rows = [_row(("way", *(title for title, _ in COLUMNS), "personalized")), _row(["---"] * (len(COLUMNS) + 2))]
        for name, way in result["ways"].items():
            base = " (the base)" if name in ("plain", "plain, async") else ""
            own = [figure({**way, "personalized": 1.0}, column) for _, column in COLUMNS]
            rows.append(_row((name + base, *own, f"{way['personalized']:.1%}")))
        return rows
    if "exponents" in result:
        sizes = list(result["points"])
        names = list(next(iter(result["points"].values())))
        rows = [_row(("way", *sizes, "exponent: p50", "server CPU", "client CPU")), _row(["---"] * (len(sizes) + 4))]
        for name in names:
            times = [_time(result["points"][size][name]) for size in sizes]
            fitted = ["{:.2f} [{:.2f}, {:.2f}]".format(*one) for one in result["exponents"].get(name, {}).values()] or [
                "–"
            ] * 3
            rows.append(_row((name, *times, *fitted)))
        return rows
    if (table := _table(result)) is not None:
        return [_row(table[0]), _row(["---"] * len(table[0])), *map(_row, table[1:])]
    return ["```", *(f"{name}: {value}" for name, value in _rest(result).items()), "```"]


def _table(result: Mapping[str, Any]) -> list[list[str]] | None:
    """Return head and rows of a part that measures something of its own, or None."""
    if "quality" in result:
        rows = [
            [name, *("{:.3f} [{:.3f}, {:.3f}]".format(*way[column]) for column in ("ndcg", "ratio"))]
            for name, way in result["quality"].items()
        ]
        return [["way", "nDCG@10", "÷ plain"], *rows]
    if "callers" in result and isinstance(result["callers"], Mapping):
        head = ["callers", "beside ÷ alone, p50", "beside, ms", "alone, ms", "personalized"]
        return [head] + [
            [
                callers, figure({**one, "personalized": 1.0}, "ratio p50"),
                *(f"{one[name]:.2f}" for name in ("beside p50_ms", "alone p50_ms")), f"{one['personalized']:.1%}",
            ]
            for callers, one in result["callers"].items()
        ]  # fmt: skip
    if "pure" in result:
        head = ["mode", "p50 of a search, µs of CPU", "of it until the first step"]
        return (
            [head]
            + [
                [mode, *("{:.0f} [{:.0f}, {:.0f}]".format(*one[mode]) for one in (result["pure"], result["decide"]))]
                for mode in result["pure"]
            ]
            + [["ten thousand additions in Python", "{:.0f} [{:.0f}, {:.0f}]".format(*result["additions"][""]), ""]]
        )
    if "people" in result:
        return _people(result)
    if "modes" in result:
        return _memory(result["modes"])
    own = _rest(result)
    if own and all(isinstance(value, list) and value and not isinstance(value[0], list) for value in own.values()):
        return [["", "median, ms", "most, ms"]] + [
            [name, f"{median(times):.1f}", f"{max(times):.1f}"] for name, times in own.items()
        ]
    return None


def _people(result: Mapping[str, Any]) -> list[list[str]]:
    sizes, fitted = result["people"], result["fitted"]
    beyond = [name for name in next(iter(fitted.values())) if name != "exponent"]
    head = [
        result["unit"],
        *(f"{int(size):,}" for size in sizes),
        "exponent",
        *(f"{int(size):,}, by the fit" for size in beyond),
    ]
    rows = []
    for name, of in fitted.items():
        known, further = [f"{one[name]:,.2f}" for one in sizes.values()], [f"{of[size]:,.2f}" for size in beyond]
        rows.append([name, *known, f"{of['exponent']:.2f}", *further])
    return [head, *rows]


def _rest(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in ("part", "about")}


def _plot(name: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    result = results[name]
    if "ways" in result:
        costs = [(way, *figures["server_cpu_ms ratio"]) for way, figures in result["ways"].items()]
        return bars(f"{TITLES[name]}: server CPU, plain = 1", costs)
    if "exponents" in result:
        times = {
            way: [
                (float(size), point[way]["p50_ms"][0])
                for size, point in result["points"].items()
                if point[way]["personalized"] >= ENOUGH
            ]
            for way in next(iter(result["points"].values()))
        }
        return curves(f"{TITLES[name]}: p50 in ms", {way: points for way, points in times.items() if points})
    measured = results.get("ways-1", {}).get("ways", {})
    if "quality" in result and measured:
        both = {
            way: (measured[way]["server_cpu_ms ratio"][0], *one["ratio"])
            for way, one in result["quality"].items()
            if way in measured
        }
        return marks("nDCG@10 (up) against server CPU (right, logarithmic), plain = 1", both)
    if "modes" in result:
        return lines_of(
            "Resident memory in MiB, by searches", {name: one["points"] for name, one in result["modes"].items()}
        )
    return ""


def _memory(modes: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the table of the memory over many searches, a row for each mode."""
    head = [
        "searches",
        "mode",
        "client alone, MiB",
        "at the end, MiB",
        "above the client at most, MiB",
        "MiB more per 100,000",
    ]
    rows = []
    for mode, one in modes.items():
        searches, last_mib = one["points"][-1]
        sizes = [f"{size:.0f}" for size in (one["alone_mib"], last_mib, one["above_mib"])]
        rows.append([f"{searches:,}", mode, *sizes, f"{one['growth_mib']:.2f}"])
    return [head, *rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
