"""The result of `rewriter tune` as lines of text, and as one page with the front of its trials and their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rewriter.plural import count_of

SIZE = 460
MARGIN = 54
CHAR_PX, GAP_PX, LINE_PX = 9.5, 4, 16
"""Width of a label's character, gap between labels and height of a line, as a phone shows them."""
MAX_SHOWN = 12
"""Trials of the front whose settings are shown."""
DAY_S = 86_400.0
OWN_STYLE = """
.settings{columns:2;column-gap:32px}.trial{break-inside:avoid;padding:0 0 14px}
.trial h3{font-size:15px;margin:0}.trial .about{font-size:13px;margin:0 0 4px}
.trial ul{list-style:none;margin:0;padding:0;font-size:14px;font-variant-numeric:tabular-nums}.trial li{overflow-wrap:anywhere}
code{font:13px ui-monospace,monospace}
@media(max-width:600px){.settings{columns:1}}
@media print{:root{--paper:#fff;--ink:#000;--quiet:#444;--rule:#bbb;--open:#7d7a70;--good:#1c7a4d;--bad:#b23a2a}
body{padding:0;max-width:none}.dot{print-color-adjust:exact}}
"""
CAPTION = (
    "One dot for each trial: green on the front, where no other trial is better on both axes, gray behind it. Red: the baseline "
    "and the policy as it is. Numbers are those of the trials whose settings stand below."
)
HEAD = "Each block has the names and values as they stand in the settings. A trial shows what differs from the policy as it is."


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
    """Return the trials as one page: the front of relevance against new items, the settings of its trials, and what was chosen."""
    from rewriter.experiment.style import STYLE  # noqa: PLC0415  beside its only use

    verdict = f"Not proposed: {found['refusal']}." if found["refusal"] else "Proposed."
    changed = [chosen_in_words(found), *gains(found)] if found["confirmation"] else []
    shown = shown_trials(found)
    lines = "".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in (*found["notes"], *changed))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Tuning</title><style>{STYLE}{OWN_STYLE}</style><body><h1>Tuning, {count_of(len(found['trials']), 'trial')}</h1>"
        f'<p class="verdict">{escape(verdict)}</p>{lines}<figure><figcaption>{CAPTION}</figcaption>'
        f"{_plot(found, shown)}</figure>{_table(found, shown)}</body></html>\n"
    )


def shown_trials(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials whose settings the page shows, the best first: the chosen one, and the front as far as it fits."""
    chosen = _chosen(found)
    front = [one for one in found["trials"] if one["front"] or one["number"] == chosen]
    different = {(one["all"], one["new"]): one for one in reversed(front)}  # of equal trials, the first
    kept = [one for one in front if one is different[one["all"], one["new"]] or one["number"] == chosen]
    best = sorted(kept, key=lambda one: (-one["all"], -one["new"], one["number"]))
    if len(best) > MAX_SHOWN:  # both ends, and evenly between them
        at = {round(step * (len(best) - 1) / (MAX_SHOWN - 1)) for step in range(MAX_SHOWN)}
        best = [one for number, one in enumerate(best) if number in at or one["number"] == chosen]
    return best


def _chosen(found: Mapping[str, Any]) -> int | None:
    """Return the number of the chosen trial, None if there is none."""
    return found["chosen"]["number"] if found["chosen"] else None


def _plot(found: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> str:
    """Return the plot of all trials: nDCG of all searches across, of new items upward, with the numbers of those `shown` below."""
    points = [*found["trials"], found["current"], {**found["baseline"], "number": "baseline"}]
    across, up = ([one[name] for one in points] for name in ("all", "new"))

    def place(value: float, values: Sequence[float]) -> float:
        low, high = min(values), max(values)
        return MARGIN + (SIZE - 2 * MARGIN) * ((value - low) / (high - low) if high > low else 0.5)

    labels: list[tuple[float, float, float]] = []

    def dot(one: Mapping[str, Any], kind: str, radius: float, label: str = "") -> str:
        x, y = place(one["all"], across), SIZE - place(one["new"], up)
        mark = f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'
        if not label:
            return mark
        width = CHAR_PX * len(label) + GAP_PX
        start = x + 10 if x < SIZE / 2 else x - 10 - width
        at = y + 4
        while any(
            start < other + wide and other < start + width and abs(at - line) < LINE_PX for other, line, wide in labels
        ):
            at += LINE_PX  # below a label that it would cover
        labels.append((start, at, width))
        beside = f'x="{x + 10:.1f}"' if x < SIZE / 2 else f'x="{x - 10:.1f}" text-anchor="end"'
        return f'{mark}<text {beside} y="{at:.1f}">{escape(label)}</text>'

    chosen = _chosen(found)
    numbered = {one["number"] for one in shown} - {chosen}
    others = [one for one in found["trials"] if one["number"] not in numbered]
    dots = [dot(one, "good" if one["front"] else "open", 4 if one["front"] else 2.5) for one in others]
    dots += [dot(found["baseline"], "bad", 5, "baseline"), dot(found["current"], "bad", 5, "as it is")]
    if found["chosen"]:
        dots.append(dot(found["chosen"], "good", 7, f"{chosen}, chosen"))
    dots += [dot(one, "good", 4, str(one["number"])) for one in found["trials"] if one["number"] in numbered]
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
    return f'<svg class="trials" viewBox="0 0 {SIZE} {SIZE}" role="img">{axes}{"".join(dots)}</svg>'


def _table(found: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> str:
    """Return a block of settings for the policy as it is, and one of what differs from it for each trial that is `shown`."""
    chosen = _chosen(found)
    blocks = [_block(found, "As it is", found["current"], found["current"]["settings"])]
    for one in shown:
        name = f"Trial {one['number']}" + (", chosen" if one["number"] == chosen else "")
        blocks.append(_block(found, name, one, one["changes"]))
    more = sum(one["front"] for one in found["trials"]) - sum(one["front"] for one in shown)
    rest = f"<p>{count_of(more, 'more trial')} of the front: --json lists them.</p>" if more > 0 else ""
    return f"<h2>Settings of the numbered trials</h2><p>{HEAD}</p><div class='settings'>{''.join(blocks)}</div>{rest}"


def _block(found: Mapping[str, Any], name: str, one: Mapping[str, Any], settings: Mapping[str, float]) -> str:
    values = "".join(f"<li><code>{escape(key)}</code> = {_value(key, value)}</li>" for key, value in settings.items())
    kept = f"{one['all']:.3f}, of new items {one['new']:.3f} ({one['new_ratio']:.1%} of the baseline's)"
    failed = f", failed in {count_of(one['failed'], 'search')}" if one["failed"] else ""
    return (
        f'<section class="trial"><h3>{name}</h3><p class="about">{escape(found["measure"])} {kept}, coverage '
        f"{one['coverage']:.2f}{failed}</p><ul>{values or '<li>the same settings</li>'}</ul></section>"
    )


def _value(name: str, value: float) -> str:
    """Return a setting's value for people: a half-life in weeks or days beside its seconds."""
    if not name.endswith("half_life_s"):
        return f"{value:g}"
    days = value / DAY_S
    return f"{value:.0f} ({days / 7:g} weeks)" if days % 7 == 0 else f"{value:.0f} ({days:.3g} days)"
