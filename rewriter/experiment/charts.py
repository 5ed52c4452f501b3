"""Inline SVG of the report: intervals over days, and intervals beside each other. Colors come from the page's style sheet.

Each chart is drawn twice, for a desktop and for a phone, with text of one size; the style sheet shows the one that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import ceil, floor, log10

RIGHT, LABEL, HALF_TICK = 16, 24, 24
"""Pixels right of the axis; from a row's top to the lower edge of a label above its interval; of half a text of the axis."""
CHAR_PX = 7
"""Mean width of a character of a label in pixels."""
TICK_PX, TO_AXIS = 9, 8
"""Largest width of a character of a number, and the space between a number and its axis."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Sizes of a chart in pixels: the space left of the axis, of a label and of a row. Without space a label has a line of its own.

    ticks: about so many values on an axis.
    """

    name: str
    width: int
    left: int
    label: int
    row: int
    ticks: int


FRAMES = (Frame("desktop", 720, 64, 230, 30, 5), Frame("phone", 342, 48, 0, 46, 3))


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval with its label; `low` and `high` are None without an interval. neutral: more is neither good nor bad."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    neutral: bool = False


def over_days(days: Sequence[Bar], title: str) -> str:
    """Return a band of intervals over days, with a line of the values and a line at no effect. Lifts are shares of 1."""
    known = [one for one in days if one.low is not None and one.high is not None]
    if len(known) < 2:
        return ""
    return "".join(_band(days, known, title, frame) for frame in FRAMES)


def _band(days: Sequence[Bar], known: Sequence[Bar], title: str, frame: Frame) -> str:
    height, top, bottom = 240, 12, 28
    # The first intervals are wider than the page, and are cut off at its edge.
    low = min(0.0, known[-1].low or 0.0, *(one.low or 0.0 for one in known[len(known) // 3 :]))
    high = max(0.0, known[-1].high or 0.0, *(one.high or 0.0 for one in known[len(known) // 3 :]))
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    longest = max(len(_signed(value, "+.0%")) for value in _ticks(low, high, 5))
    frame = replace(frame, left=max(frame.left, TO_AXIS + TICK_PX * longest))

    def x(at: int) -> float:
        return frame.left + (frame.width - frame.left - RIGHT) * at / max(1, len(days) - 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return height - bottom - (height - top - bottom) * share

    at = [number for number, one in enumerate(days) if one.low is not None]
    upper = [f"{x(number):.1f},{y(days[number].high or 0.0):.1f}" for number in at]
    lower = [f"{x(number):.1f},{y(days[number].low or 0.0):.1f}" for number in reversed(at)]
    line = [f"{x(number):.1f},{y(days[number].value or 0.0):.1f}" for number in at if days[number].value is not None]
    parts = [
        f'<polygon class="band" points="{" ".join(upper + lower)}"/>',
        f'<polyline class="line" points="{" ".join(line)}"/>',
    ]
    parts += _ticks_y(low, high, y, frame)
    parts.append(
        f'<line class="zero" x1="{frame.left}" x2="{frame.width - RIGHT}" y1="{y(0.0):.1f}" y2="{y(0.0):.1f}"/>'
    )
    for number in sorted({0, len(days) // 2, len(days) - 1}):
        anchor = "start" if number == 0 else "end" if number == len(days) - 1 else "middle"
        parts.append(
            f'<text x="{x(number):.1f}" y="{height - 8}" text-anchor="{anchor}">{escape(days[number].label)}</text>'
        )
    return _svg(frame, height, title, parts)


def beside(bars: Sequence[Bar], title: str, ticks: str = "+.0%") -> str:
    """Return one row for each interval; a row without one shows so. ticks: the format of the values on the axis."""
    return "".join(_rows(bars, title, ticks, _fitting(bars, frame)) for frame in FRAMES) if bars else ""


def _fitting(bars: Sequence[Bar], frame: Frame) -> Frame:
    """Return the frame with space for the longest label beside the intervals, which keep half of the width."""
    longest = max(len(one.label) for one in bars) * CHAR_PX + LABEL
    return replace(frame, label=min(max(frame.label, longest), frame.width // 2)) if frame.label else frame


def _rows(bars: Sequence[Bar], title: str, ticks: str, frame: Frame) -> str:
    known = [one for one in bars if one.low is not None and one.high is not None]
    # The widest intervals are cut off at the edge; no value is.
    most = max([1.5, *(1.2 * (one.value or 0.0) for one in known)])
    low = min([0.0, *(max(one.low or 0.0, -1.0) for one in known)])
    high = max([0.0, *(min(one.high or 0.0, most) for one in known)])
    if high - low < 1e-9:
        low, high = -0.05, 0.05
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    height = frame.row * len(bars) + 34
    left = frame.label or RIGHT

    def x(value: float) -> float:
        return left + (frame.width - left - RIGHT) * (min(max(value, low), high) - low) / (high - low)

    parts = [
        f'<line class="zero" x1="{x(0.0):.1f}" x2="{x(0.0):.1f}" y1="{above}" y2="{below}"/>'
        for above, below in _beside_texts(bars, frame)
    ]
    for number, one in enumerate(bars):
        y = frame.row * number + (frame.row / 2 if frame.label else frame.row - 12) + 4
        label_y = y + 4 if frame.label else y - 16
        parts.append(f'<text x="0" y="{label_y:.1f}">{escape(_cut(one.label, frame))}</text>')
        if one.low is None or one.high is None:
            parts.append(f'<text class="quiet" x="{left}" y="{y + 4:.1f}">no interval</text>')
            continue
        kind = "open" if one.neutral else "good" if one.low > 0 else "bad" if one.high < 0 else "open"
        parts.append(
            f'<line class="bar {kind}" x1="{x(one.low):.1f}" x2="{x(one.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if one.high > high:  # the interval goes on beyond the axis
            parts.append(f'<text x="{x(high):.1f}" y="{y + 4.5:.1f}">›</text>')
        if one.value is not None:
            parts.append(f'<circle class="dot {kind}" cx="{x(one.value):.1f}" cy="{y:.1f}" r="4"/>')
    for value in _ticks(low, high, frame.ticks):
        at, anchor = x(value), "middle"
        if at > frame.width - HALF_TICK:
            at, anchor = frame.width, "end"
        elif at < HALF_TICK:
            at, anchor = 0.0, "start"
        parts.append(
            f'<text class="quiet" x="{at:.1f}" y="{height - 6}" text-anchor="{anchor}">{_signed(value, ticks)}</text>'
        )
    return _svg(frame, height, title, parts)


def _beside_texts(bars: Sequence[Bar], frame: Frame) -> list[tuple[int, int]]:
    """Return where the line at no effect is drawn, from top to bottom: it leaves out labels that are above their intervals, and
    rows that have a text instead of an interval.
    """
    found: list[tuple[int, int]] = []
    for number, one in enumerate(bars):
        above, below = frame.row * number + 4, frame.row * (number + 1) + 4
        if not frame.label:
            above += LABEL
        if one.low is None or one.high is None:
            continue
        if found and found[-1][1] == above:
            above = found.pop()[0]
        found.append((above, below))
    if found and found[-1][1] == frame.row * len(bars) + 4:
        found[-1] = found[-1][0], frame.row * len(bars) + 8
    return found


def _cut(label: str, frame: Frame) -> str:
    """Return a label that fits, without its middle if it is long: variants of one policy differ at their ends."""
    chars = (frame.label or frame.width) // CHAR_PX
    if len(label) <= chars:
        return label
    kept = chars - 1
    return f"{label[: kept - kept // 2]}…{label[len(label) - kept // 2 :]}"


def _ticks_y(low: float, high: float, y: Callable[[float], float], frame: Frame) -> list[str]:
    parts = []
    for value in _ticks(low, high, 5):
        line = (
            f'<line class="grid" x1="{frame.left}" x2="{frame.width - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        at = f'x="{frame.left - TO_AXIS}" y="{y(value) + 4:.1f}"'
        text = f'<text class="quiet" {at} text-anchor="end">{_signed(value, "+.0%")}</text>'
        parts += [line, text]
    return parts


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return round values within the bounds, one more than `count` at most."""
    raw = (high - low) / count
    power = 10.0 ** floor(log10(raw))
    step = next(power * one for one in (1.0, 2.0, 5.0, 10.0) if power * one >= raw)
    return [step * number for number in range(ceil(low / step), floor(high / step) + 1)]


def _signed(value: float, form: str) -> str:
    """Return a value of an axis; 0 has no sign."""
    return f"{value:{form}}" if value else f"{0.0:{form.lstrip('+')}}"


def _svg(frame: Frame, height: int, title: str, parts: Sequence[str]) -> str:
    name = escape(title)
    head = f'<svg class="{frame.name}" viewBox="0 0 {frame.width} {height}" role="img" aria-label="{name}"><title>{name}</title>'
    return f"{head}{''.join(parts)}</svg>"
