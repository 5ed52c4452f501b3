"""Plots of the costs as SVG text: bars with intervals, curves on logarithmic axes, marks of cost and quality, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

WIDTH, HEIGHT, MARGIN = 640, 300, 56
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756")


def marks(title: str, marks: Mapping[str, tuple[float, float, float, float]]) -> str:
    """Draw each way at its cost and quality, with the interval of its quality."""
    xs = [log10(cost) for cost, *_ in marks.values()]
    lows, highs = [low for *_, low, _ in marks.values()], [high for *_, high in marks.values()]
    left, right, bottom, top = min(xs), max(*xs, min(xs) + 1e-9), min(lows), max(*highs, min(lows) + 1e-9)

    def across(cost: float) -> float:
        return MARGIN + (log10(cost) - left) / (right - left) * (WIDTH - 2 * MARGIN - 170)

    def up(quality: float) -> float:
        return HEIGHT - MARGIN - (quality - bottom) / (top - bottom) * (HEIGHT - 2 * MARGIN)

    parts, taken = [], list[float]()
    for number, (name, (cost, quality, low, high)) in enumerate(sorted(marks.items(), key=lambda one: -one[1][1])):
        x, y, colour = across(cost), up(quality), COLOURS[number % len(COLOURS)]
        parts.append(f'<path d="M{x:.1f} {up(low):.1f}V{up(high):.1f}" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        label = max([y + 4, *(one + 14 for one in taken)])  # names stand below each other
        taken.append(label)
        parts.append(f'<path d="M{x:.1f} {y:.1f}L{WIDTH - 204} {label - 4:.1f}" stroke="{colour}" stroke-width="0.5"/>')
        parts.append(f'<text x="{WIDTH - 200}" y="{label:.1f}" fill="{colour}">{escape(name)} {quality:.2f}</text>')
    ends = sorted({min(marks.values())[0], max(marks.values())[0]})
    parts += [
        f'<text x="{across(cost):.1f}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle">{cost:.1f}</text>'
        for cost in ends
    ]
    parts += [
        f'<text x="{MARGIN - 8}" y="{up(quality) + 4:.1f}" text-anchor="end">{quality:.2f}</text>'
        for quality in (bottom, top)
    ]
    return _svg(title, HEIGHT, parts)


def lines_of(title: str, named: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw lines from zero, each with its name at its end."""
    most_x = max(x for points in named.values() for x, _ in points)
    most_y = max(y for points in named.values() for _, y in points) * 1.05
    parts = []
    for number, (name, points) in enumerate(named.items()):
        at = [
            (MARGIN + x / most_x * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - y / most_y * (HEIGHT - 2 * MARGIN))
            for x, y in points
        ]
        colour, drawn = COLOURS[number % len(COLOURS)], " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label_y = HEIGHT - MARGIN - 14 - 16 * number
        parts.append(
            f'<text x="{WIDTH - MARGIN}" y="{label_y}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
        )
    parts += [
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" stroke="#111" fill="none"/>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 20}" text-anchor="end">{most_x:,.0f}</text>',
        f'<text x="{MARGIN - 6}" y="{MARGIN + 4}" text-anchor="end">{most_y:.0f}</text>',
        f'<text x="{MARGIN - 6}" y="{HEIGHT - MARGIN + 4}" text-anchor="end">0</text>',
    ]
    return _svg(title, HEIGHT, parts)


def bars(title: str, bars: Sequence[tuple[str, float, float, float]]) -> str:
    """Draw a bar with its interval for each way."""
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


def curves(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw curves on logarithmic axes."""
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
