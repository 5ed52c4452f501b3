"""docs/cost.md: tables and plots of the results. Plots are SVG, drawn here from the same numbers; nothing is typed in by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

from bench.markers import replaced

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
BEGIN, END = "<!-- cost: begin -->", "<!-- cost: end -->"
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
    "first-answer": "From the constructor to the first answer",
    "growth-boosts": "Functions",
    "growth-counters": "Counters stored",
    "growth-matches": "Matches",
    "growth-depth": "Hits of a page",
    "growth-size": "Bytes of a document",
    "growth-documents": "Documents",
    "growth-users": "People in the store",
}
GOALS: tuple[tuple[str, str, str, str, Mapping[str, float]], ...] = (
    ("p50, one caller, sync", "ways-1", "sync", "p50_ms ratio", {"rewrite": 1.5, "parallel": 2.0}),
    ("p50, one caller, async", "ways-1", "async", "p50_ms ratio", {"rewrite": 1.5, "parallel": 2.0}),
    ("p99, one caller, sync", "ways-1", "sync", "p99_ms ratio", {"rewrite": 1.7, "parallel": 2.0}),
    ("p99, one caller, async", "ways-1", "async", "p99_ms ratio", {"rewrite": 1.7, "parallel": 2.0}),
    ("server CPU a search, 8 functions", "ways-1", "sync", "server_cpu_ms ratio", {"rewrite": 1.4, "parallel": 2.4}),
    ("client CPU a search", "ways-1", "sync", "client_cpu_ms ratio", {"rewrite": 2.5, "parallel": 4.5}),
    ("throughput, 16 callers (at least)", "ways-16", "sync", "searches_a_second ratio", {"rewrite": 0.75, "parallel": 0.5}),
    ("p50, exploration not cached", "uncached", "sync", "p50_ms ratio", {"rewrite": 1.9, "parallel": 2.3}),
    ("added at p50 with a server 20 ms away, ms", "far", "sync", "added_p50_ms", {"rewrite": 4.0, "parallel": 2.0}),
)  # fmt: skip
WIDTH, HEIGHT, MARGIN = 640, 300, 56
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756")


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return a part's figures as text, for a terminal."""
    return [line for line in _section(result) if line.startswith("|")] or [str(_rest(result))]


def write(results: Mapping[str, Mapping[str, Any]], page: Path = PAGE) -> None:
    """Write the tables between the page's markers, and the plots beside it. Raises ValueError if the markers are missing."""
    found, plots = _goals(results), dict[Path, str]()
    for name, title in TITLES.items():
        if name in results:
            found += ["", f"### {title}", "", _about(results[name]), "", *_section(results[name])]
            plot = _plot(name, results[name])
            if plot:
                plots[page.parent / PLOT.format(name)] = plot
                found += ["", f"![{title}]({PLOT.format(name)})"]
    page.write_text(replaced(page.read_text("utf-8"), BEGIN, END, "\n".join(found), page), "utf-8")
    for path, plot in plots.items():
        path.write_text(plot, "utf-8")


def _about(result: Mapping[str, Any]) -> str:
    about = result["about"]
    return (
        f"{about['date'][:10]}, {about['documents']:,} products, OpenSearch {about['opensearch']}, Python {about['python']}, "
        f"{about['machine']}; {about['rounds']} rounds of {about['searches']} searches a way."
    )


def _goals(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [_row(("figure", "`rewrite`", "goal", "`parallel`", "goal")), _row(["---"] * 5)]
    for title, part, shell, figure, wanted in GOALS:
        cells = [title]
        for mode in ("rewrite", "parallel"):
            way = results.get(part, {}).get("ways", {}).get(f"{mode}, {shell}")
            cells += [_figure(way, figure) if way else "not measured", f"{wanted[mode]:g}"]
        rows.append(_row(cells))
    return rows


def _figure(way: Mapping[str, Any], name: str) -> str:
    value, low, high = way[name]
    share = way["personalized"]
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" + (f" ({share:.0%} personalized)" if share < 0.99 else "")


def _section(result: Mapping[str, Any]) -> list[str]:
    if "ways" in result:
        rows = [_row(("way", *(title for title, _ in COLUMNS), "personalized")), _row(["---"] * (len(COLUMNS) + 2))]
        for name, way in result["ways"].items():
            base = " (the base)" if name.startswith("plain") else ""
            own = [_figure({**way, "personalized": 1.0}, figure) for _, figure in COLUMNS]
            rows.append(_row((name + base, *own, f"{way['personalized']:.1%}")))
        return rows
    if "exponents" in result:
        sizes = list(result["points"])
        names = list(result["exponents"])
        rows = [_row(("way", *sizes, "exponent: p50", "server CPU", "client CPU")), _row(["---"] * (len(sizes) + 4))]
        for name in names:
            times = [f"{result['points'][size][name]['p50_ms'][0]:.2f} ms" for size in sizes]
            fitted = ["{:.2f} [{:.2f}, {:.2f}]".format(*one) for one in result["exponents"][name].values()]
            rows.append(_row((name, *times, *fitted)))
        return rows
    return ["```", *(f"{name}: {value}" for name, value in _rest(result).items()), "```"]


def _rest(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in ("part", "about")}


def _plot(name: str, result: Mapping[str, Any]) -> str:
    if "ways" in result:
        bars = [(way, *figures["server_cpu_ms ratio"]) for way, figures in result["ways"].items()]
        return _bars(f"{TITLES[name]}: server CPU, plain = 1", bars)
    if "exponents" in result:
        curves = {
            way: [(float(size), point[way]["p50_ms"][0]) for size, point in result["points"].items()]
            for way in result["exponents"]
        }
        return _curves(f"{TITLES[name]}: p50 in ms", curves)
    return ""


def _bars(title: str, bars: Sequence[tuple[str, float, float, float]]) -> str:
    step, left = 22, 170
    most = max(high for *_, high in bars) * 1.05 or 1.0
    scale = (WIDTH - left - 70) / most
    parts = []
    for at, (name, value, low, high) in enumerate(bars):
        y = 34 + at * step
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="15" fill="{COLOURS[0]}"/>')
        parts.append(
            f'<path d="M{left + low * scale:.1f} {y + 7.5}H{left + high * scale:.1f}" stroke="#111" stroke-width="1.5"/>'
        )
        parts.append(f'<text x="{left + high * scale + 6:.1f}" y="{y + 12}">{value:.2f}</text>')
    return _svg(title, 44 + len(bars) * step, parts)


def _curves(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    points = [point for curve in curves.values() for point in curve]
    xs, ys = [log10(x) for x, _ in points], [log10(max(y, 1e-6)) for _, y in points]
    spans = [(min(one), max(*one, min(one) + 1e-9)) for one in (xs, ys)]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - spans[0][0]) / (spans[0][1] - spans[0][0])
        up = (log10(max(y, 1e-6)) - spans[1][0]) / (spans[1][1] - spans[1][0])
        return MARGIN + across * (WIDTH - 2 * MARGIN - 110), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    parts = []
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in curve)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = at(*curve[-1])
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    parts += [
        f'<text x="{at(x, 1)[0]:.1f}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle">{x:,.0f}</text>'
        for x in sorted({x for x, _ in points})
    ]
    parts += [
        f'<text x="{MARGIN - 6}" y="{at(points[0][0], y)[1] + 4:.1f}" text-anchor="end">{y:.2f}</text>'
        for y in (min(y for _, y in points), max(y for _, y in points))
    ]
    return _svg(title, HEIGHT, parts)


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/><text x="12" y="20" font-weight="bold">{escape(title)}</text>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
