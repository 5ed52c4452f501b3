"""The result of `rewriter tune` as lines of text, and as one page with the front of its trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rewriter.plural import count_of

SIZE = 460
MARGIN = 54
LABEL_PX, LINE_PX = 80, 16
"""Width and height of a dot's label."""
CAPTION = (
    "One dot for each trial: green on the front, where no other trial is better on both axes, gray behind it. Red: the baseline "
    "and the policy as it is. A dot shows its settings when the pointer is on it."
)


def gains(found: Mapping[str, Any]) -> list[str]:
    """Return what the proposed change gains on the later window, and what must be done after it, one line each."""
    lines = []
    confirmation = found["confirmation"]
    for name, what in (("all", "every search"), ("new", "what a person had not used before")):
        one, plain = confirmation[name], confirmation[f"{name}_to_baseline"]
        read = f"on the later window ({count_of(one['searches'], 'search')} of {count_of(one['people'], 'person')})"
        gain = f"{one['before']:.3f} → {one['after']:.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
        lines.append(f"{found['measure']}, {what}, {read}: {gain}, ×{plain['ratio']:.3f} to the baseline")
    if new := [name for name in found["added"] if f"fields.{name}.scale" in found["changes"]]:
        lines.append(
            f"new fields: {', '.join(new)}; run `rewriter backfill` after it, since nothing has counted them yet"
        )
    if any("half_life" in name for name in found["changes"]):
        lines.append(
            "half-lives changed: run `rewriter backfill` after it, since counters in the store have the old ones"
        )
    if found["changes"].get("discovery", 0.0) > 0.0:
        lines.append("discovery: it needs the table of neighbours, which `rewriter backfill` makes")
    return lines


def chosen_in_words(found: Mapping[str, Any]) -> str:
    """Return which trial was chosen, and what it changes."""
    changes = ", ".join(f"{name} = {value:g}" for name, value in found["changes"].items())
    return f"chosen: trial {found['chosen']['number']}, which changes {changes}"


def html_of(found: Mapping[str, Any]) -> str:
    """Return the trials as one page: the front of relevance against new items, and what was chosen."""
    from rewriter.experiment.style import STYLE  # noqa: PLC0415  beside its only use

    points = [*found["trials"], found["current"], {**found["baseline"], "number": "baseline"}]
    across, up = ([one[name] for one in points] for name in ("all", "new"))

    def place(value: float, values: Sequence[float]) -> float:
        low, high = min(values), max(values)
        return MARGIN + (SIZE - 2 * MARGIN) * ((value - low) / (high - low) if high > low else 0.5)

    labels: list[tuple[float, float]] = []

    def dot(one: Mapping[str, Any], kind: str, radius: float, label: str = "") -> str:
        x, y = place(one["all"], across), SIZE - place(one["new"], up)
        beside = f'x="{x + 10:.1f}"' if x < SIZE / 2 else f'x="{x - 10:.1f}" text-anchor="end"'
        text = ""
        if label:
            at = y + 4
            while any(abs(x - one) < LABEL_PX and abs(at - other) < LINE_PX for one, other in labels):
                at += LINE_PX  # below a label that it would cover
            labels.append((x, at))
            text = f'<text {beside} y="{at:.1f}">{escape(label)}</text>'
        title = escape(json.dumps(one.get("settings", {})))
        return (
            f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{title}</title></circle>{text}'
        )

    dots = [dot(one, "good" if one["front"] else "open", 4 if one["front"] else 2.5) for one in found["trials"]]
    dots += [dot(found["baseline"], "bad", 5, "baseline"), dot(found["current"], "bad", 5, "as it is")]
    if found["chosen"]:
        dots.append(dot(found["chosen"], "good", 7, "chosen"))
    least = found["spare_new"] * found["baseline"]["new"]
    if min(up) <= least <= max(up):
        y = SIZE - place(least, up)
        beside = y + 16 if found["spare_new"] <= 1.0 else y - 6  # on the other side of the baseline's own label
        dots.append(f'<line class="zero" x1="{MARGIN}" x2="{SIZE - MARGIN}" y1="{y:.1f}" y2="{y:.1f}"/>')
        dots.append(
            f'<text class="quiet" x="{MARGIN}" y="{beside:.1f}">{found["spare_new"]:.0%} of the baseline</text>'
        )
    edge, end = MARGIN - 14, SIZE - MARGIN + 14
    axes = (
        f'<path class="grid" fill="none" d="M{edge} {edge}V{end}H{end}"/>'
        f'<text class="quiet" x="{edge}" y="{SIZE - 14}">{escape(found["measure"])}, every search'
        f" ({min(across):.3f} to {max(across):.3f}) →</text>"
        f'<text class="quiet" x="{edge}" y="20">↑ new items ({min(up):.3f} to {max(up):.3f})</text>'
    )
    verdict = f"Not proposed: {found['refusal']}." if found["refusal"] else "Proposed."
    changed = [chosen_in_words(found), *gains(found)] if found["confirmation"] else []
    lines = "".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in (*found["notes"], *changed))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Tuning</title><style>{STYLE}</style><body><h1>Tuning, {count_of(len(found['trials']), 'trial')}</h1>"
        f'<p class="verdict">{escape(verdict)}</p>{lines}<figure><figcaption>{CAPTION}</figcaption>'
        f'<svg class="trials" viewBox="0 0 {SIZE} {SIZE}" role="img">{axes}{"".join(dots)}</svg></figure></body></html>\n'
    )
