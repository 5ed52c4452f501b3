"""A diff as one self-contained HTML page without scripts or requests, light and dark, for phone and desktop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rewriter.cli.diff.terminal import failures_in_words, rows_of_versions, summary
from rewriter.cli.preview.html import STYLE as PREVIEW_STYLE
from rewriter.cli.preview.html import slopes
from rewriter.plural import agreeing, count_of

SHOWN = 30
"""Changed pages that are shown, the most different first."""
BINS = 10
STYLE = """
.tiles{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:14px;margin:18px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:14px 16px}
.tile b{display:block;font-size:26px;font-variant-numeric:tabular-nums}.tile span{font-size:13px;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{padding:6px 8px;border-top:1px solid var(--line);text-align:left}
th{font-size:12px;color:var(--soft);font-weight:500}td.r,th.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.t{max-width:0;width:70%;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.two{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:26px}.two h2,section>h2{margin-bottom:8px}
svg .b{fill:var(--new)}
.warning{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--down);border-radius:8px;padding:10px 14px;
overflow-wrap:anywhere}
@media(max-width:720px){.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.two{grid-template-columns:minmax(0,1fr)}
td.t{white-space:normal;overflow-wrap:anywhere}}
"""


def html_page(found: Mapping[str, Any], note: str) -> str:
    """Return the whole page. `note` describes how it was made."""
    title = f"Changed pages: {found['a']} → {found['b']}"
    pages = "".join(map(_page, found["pages"][:SHOWN]))
    warnings = [*filter(None, [found["problem"]]), *failures_in_words(found)]
    failing = "".join(f'<p class="warning">{escape(line)}.</p>' for line in warnings)
    more = len(found["pages"]) - SHOWN
    rest = (
        f'<p class="soft">And {count_of(more, "more changed page")}, more alike; --json lists them.</p>'
        if more > 0
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{PREVIEW_STYLE}{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>{escape(summary(found))}.</p>{failing}<p class='soft'>{escape(note)}</p>"
        f"{_tiles(found)}{_overview(found)}{_movers(found)}{pages}{rest}</main></body></html>\n"
    )


def _tiles(found: Mapping[str, Any]) -> str:
    left_out = len(found["failed"]) + sum(found["left_out"].values())
    tiles = [
        (
            f"{found['changed_share']:.1%}",
            f"of {count_of(found['compared'], 'page')} {agreeing(found['changed'], 'change')}",
        ),
        (f"{found['overlap']['mean']:.3f}", f"overlap@{found['k']}, mean"),
        (f"{found['rbo']['mean']:.3f}", "rank-biased overlap, mean"),
        (f"{left_out:,}", "searches not compared"),
    ]
    shown = "".join(f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{shown}</div>'


def _overview(found: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{escape(what)}</td><td class="r">{escape(a)}</td><td class="r">{escape(b)}</td></tr>'
        for what, a, b in rows_of_versions(found)
    )
    table = f'<table><tr><th></th><th class="r">A</th><th class="r">B</th></tr>{rows}</table>'
    return (
        f'<section class="two"><div><h2>How alike are the pages?</h2>{_histogram(found)}</div>'
        f"<div><h2>Both versions</h2>{table}</div></section>"
    )


def _histogram(found: Mapping[str, Any]) -> str:
    """Return the number of pages by their rank-biased overlap. Unchanged pages are a bar of their own, at the right."""
    counts = [0] * BINS
    for page in found["pages"]:
        counts[min(BINS - 1, int(page["rbo"] * BINS))] += 1
    bars = [*counts, found["compared"] - found["changed"]]
    most, parts = max(1, *bars), []
    for at, count in enumerate(bars):
        x = 8 + at * 40 + (10 if at == BINS else 0)
        high = 130.0 * count / most
        label = "same" if at == BINS else f"{at / BINS:.1f}"
        parts.append(
            f'<rect class="{"track" if at == BINS else "b"}" x="{x}" y="{150 - high:.1f}" width="32" height="{high:.1f}" rx="4"/>'
            f'<text class="soft" x="{x + 16}" y="168" text-anchor="middle">{label}</text>'
            + (f'<text x="{x + 16}" y="{144 - high:.1f}" text-anchor="middle">{count:,}</text>' if count else "")
        )
    return (
        '<svg viewBox="0 0 460 176" width="460" role="img" aria-label="pages by rank-biased overlap">'
        f"{''.join(parts)}</svg><p class='soft'>Pages by rank-biased overlap, from below 0.1 to 1.</p>"
    )


def _movers(found: Mapping[str, Any]) -> str:
    products, people = found["products"], found["people"]
    if not found["changed"]:
        return ""
    shown = (("Products that gain", products["up"]), ("Products that lose", products["down"]))
    tables = "".join(f"<div><h2>{name}</h2>{_products(rows)}</div>" for name, rows in shown)
    rows = "".join(
        f'<tr><td>line {row["line"]}</td><td class="r">{row["changed"]} of {row["searches"]}</td>'
        f'<td class="r">{row["rbo"]:.3f}</td></tr>'
        for row in people
    )
    return (
        f'<section class="two">{tables}</section><section><h2>People whose pages change most</h2>'
        "<p class='soft'>Each person is identified by a line of the file of searches.</p>"
        f'<table><tr><th>person</th><th class="r">pages</th><th class="r">rank-biased overlap</th></tr>{rows}</table></section>'
    )


def _products(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return '<p class="soft">None.</p>'
    body = "".join(
        f'<tr><td class="t" title="{escape(row["id"], quote=True)}">{escape(row["title"])}</td>'
        f'<td class="r {"up" if row["ranks"] > 0 else "down"}">{row["ranks"]:+}</td><td class="r">{row["pages"]}</td></tr>'
        for row in rows
    )
    return f'<table><tr><th>product</th><th class="r">ranks</th><th class="r">pages</th></tr>{body}</table>'


def _page(page: Mapping[str, Any]) -> str:
    before = {hit["id"]: rank for rank, hit in enumerate(page["a"]["hits"])}
    moves = [(before.get(hit["id"]), rank) for rank, hit in enumerate(page["b"]["hits"])]
    words = f" “{escape(page['words'])}”" if page["words"] else ""
    left = "".join(_item(hit, rank, "") for rank, hit in enumerate(page["a"]["hits"]))
    right = "".join(_item(hit, rank, _mark(before.get(hit["id"]), rank)) for rank, hit in enumerate(page["b"]["hits"]))
    rows = max(len(page["a"]["hits"]), len(page["b"]["hits"]))
    return (
        f"<section><h2>Line {page['line']}{words}</h2>"
        f"<p class='soft'>overlap {page['overlap']:.2f}, rank-biased overlap {page['rbo']:.3f}</p>"
        f'<div class="lists"><div class="plain"><h3>A: {escape(page["a"]["reason"])}</h3><ol>{left}</ol></div>{slopes(moves, rows)}'
        f"<div><h3>B: {escape(page['b']['reason'])}</h3><ol>{right}</ol></div></div></section>"
    )


def _item(hit: Mapping[str, str], rank: int, mark: str) -> str:
    title = escape(hit["title"])
    return (
        f'<li><span class="n">{rank + 1}</span><span class="t"><b title="{escape(hit["title"], quote=True)}">{title}</b>'
        f"<span>{escape(hit['id'])}</span></span>{mark}</li>"
    )


def _mark(was: int | None, now: int) -> str:
    if was is None:
        return '<span class="m new">new</span>'
    if was == now:
        return '<span class="m soft">=</span>'
    kind, arrow = ("up", "▲") if was > now else ("down", "▼")
    return f'<span class="m {kind}">{arrow} {abs(was - now)}</span>'
