"""Previewed pages as one self-contained HTML page without scripts, light and dark. It fetches only the images of hits."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import urlsplit

from rewriter.cli.preview.page import PreviewPage, Row, median_age_days, shares
from rewriter.cli.preview.terminal import NOISE, ages, boosts_in, factor_text, summary, weight_text, why

ROW_PX = 52
GAP_PX = 88
COLORS = 8
MAX_CHARS = 120
STYLE = """
:root{color-scheme:light dark;--bg:#fbfaf8;--card:#fff;--ink:#1d1c1a;--soft:#6c6a65;--line:#e6e2da;--up:#1a7f4b;--down:#b3462f;
--new:#2a5bd7;--c0:#4269d0;--c1:#efb118;--c2:#ff725c;--c3:#6cc5b0;--c4:#3ca951;--c5:#ff8ab7;--c6:#a463f2;--c7:#97bbf5}
@media(prefers-color-scheme:dark){:root{--bg:#161513;--card:#1f1e1b;--ink:#efece6;--soft:#a19d94;--line:#35322c;--up:#5fcf95;
--down:#f0866e;--new:#8fb0ff}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:0}
p{margin:4px 0}.soft{color:var(--soft)}code{font:13px ui-monospace,monospace}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:20px;margin:22px 0}
.lists{display:grid;grid-template-columns:minmax(0,1fr) 88px minmax(0,1fr);margin-top:14px}
.lists h3{font-size:12px;letter-spacing:.06em;text-transform:uppercase;color:var(--soft);margin:0 0 6px}
ol{list-style:none;margin:0;padding:0}li{height:52px;display:flex;gap:10px;align-items:center;border-top:1px solid var(--line);
overflow:hidden}li .n{flex:0 0 22px;text-align:right;color:var(--soft);font-variant-numeric:tabular-nums}
li .t{flex:1;min-width:0}li .t b,li .t span{display:block;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;font-weight:500}
li .t .why{font-style:normal}
li .t span{font-size:12.5px;color:var(--soft);font-weight:400}li .m{flex:none;font-size:13px;font-variant-numeric:tabular-nums}
li img{width:38px;height:38px;object-fit:contain;border-radius:6px;background:#fff}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}
.up{color:var(--up)}.down{color:var(--down)}.new{color:var(--new)}
.facts{display:grid;grid-template-columns:minmax(0,1.2fr) minmax(0,1fr);gap:26px;margin-top:20px}
.facts h3{font-size:13px;margin:0 0 8px}.key{font-size:13px;display:flex;flex-wrap:wrap;gap:2px 12px;margin-top:8px}
svg{display:block;max-width:100%}svg text{fill:var(--ink);font:12.5px system-ui,sans-serif}
svg text.soft{fill:var(--soft)}.track{fill:var(--line)}
.boost{display:grid;grid-template-columns:minmax(0,1fr) 170px 52px;gap:2px 12px;align-items:center;font-size:13px;padding:4px 0}
.boost b{font-weight:400;overflow-wrap:anywhere}.boost div,.boost i{display:block;height:12px;border-radius:6px}
.boost div{background:var(--line)}.boost i{background:var(--new)}
@media(max-width:720px){main{padding:18px 12px 40px}section{padding:14px}.lists{grid-template-columns:minmax(0,1fr)}
.lists>.plain,.lists>svg{display:none}.facts{grid-template-columns:minmax(0,1fr)}.boost{grid-template-columns:minmax(0,1fr) 52px}
.boost b{grid-column:1/-1}li{height:auto;min-height:52px;padding:6px 0}li .t b,li .t span{white-space:normal;overflow-wrap:anywhere}
li .m{max-width:84px;text-align:right}}
"""


def html_page(pages: Sequence[PreviewPage], title: str, note: str) -> str:
    """Return the whole page: a title, a note on its origin, and a section for each subject."""
    body = "".join(_section(page) for page in pages)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="soft">{escape(note)}</p>{body}</main></body></html>\n'
    )


def _section(page: PreviewPage) -> str:
    names = [name for name, _ in shares([*page.plain, *page.shown])]
    colors = {name: f"var(--c{at % COLORS})" for at, name in enumerate(names)}
    plain = "".join(_item(one, page, colors) for one in page.plain)
    lists = (
        f'<div class="lists"><div class="plain"><h3>Plain</h3><ol>{plain}</ol></div>'
        f"{slopes([(row.was, row.now) for row in page.shown], max(len(page.plain), len(page.shown)))}"
        f"<div><h3>{'Personalized' if page.boosts else 'Served'}</h3><ol>"
        f"{''.join(_item(one, page, colors, served=True) for one in page.shown)}</ol></div></div>"
    )
    facts = f'<div class="facts"><div>{_boosts(page)}</div><div>{_categories(page, colors)}{_ages(page)}</div></div>'
    return f"<section><h2>{escape(page.subject)}</h2>{_outcome(page)}{lists}{facts}</section>"


def _outcome(page: PreviewPage) -> str:
    if page.boosts:
        limit = f"; a score is multiplied by at most {page.max_boost:g}" if page.max_boost else ""
        text = f"Personalized by {page.source or 'the sample'}, {boosts_in(page)}{limit}."
        return f"<p>{escape(text)}</p><p class='soft'>{escape(_sentence(summary(page)))}.</p>"
    detail = f": {page.detail}" if page.detail else ""
    return (
        f"<p>This page is the plain one: <b>{escape(page.reason)}</b>{escape(detail)}. "
        f"<code>rewriter explain {escape(page.reason)}</code> explains what to do.</p>"
    )


def _item(row: Row, page: PreviewPage, colors: dict[str, str], *, served: bool = False) -> str:
    image = f'<img src="{escape(row.image, quote=True)}" alt="" loading="lazy">' if _is_image(row.image) else ""
    dot = f'<i class="dot" style="background:{colors[row.category]}"></i>' if row.category else ""
    under = f"{dot}{escape(row.category)}"
    if served and (reason := why(row, page)):
        under = f'{dot}<i class="why" title="{escape(reason, quote=True)}">{escape(reason)}</i>'
    return (
        f'<li><span class="n">{row.now + 1}</span>{image}'
        f'<span class="t"><b title="{escape(row.title, quote=True)}">{escape(row.title)}</b>'
        f"<span>{under}</span></span>{_mark(row, page) if served else ''}</li>"
    )


def _mark(row: Row, page: PreviewPage) -> str:
    factor = factor_text(row.factor) if row.factor is not None and page.boosts and row.factor > 1.0 + NOISE else ""
    if row.propensity is not None:
        return f'<span class="m new">explored · p {row.propensity:.2f}</span>'
    if row.was is None:
        return f'<span class="m new">new {factor}</span>'
    if row.was == row.now:
        return f'<span class="m soft">{factor}</span>'
    steps = row.was - row.now
    kind, arrow = ("up", "▲") if steps > 0 else ("down", "▼")
    return f'<span class="m {kind}">{arrow} {abs(steps)} {factor}</span>'


def slopes(moves: Sequence[tuple[int | None, int]], rows: int) -> str:
    """Return the lines from each hit's former position to its present one, in lists of `rows`; a new hit's line begins half-way.

    moves: (position before, or None; position now) of each hit.
    """
    head = 24
    height = head + rows * ROW_PX
    lines = []
    for was, now in moves:
        to_y = head + (now + 0.5) * ROW_PX
        if was is None:
            color, x, y = "var(--new)", GAP_PX * 0.62, to_y
        else:
            x, y = 4.0, head + (was + 0.5) * ROW_PX
            color = "var(--line)" if was == now else "var(--up)" if was > now else "var(--down)"
        end = GAP_PX - 4
        middle = (x + end) / 2
        lines.append(
            f'<path d="M{x:.0f} {y:.0f}C{middle:.0f} {y:.0f} {middle:.0f} {to_y:.0f} {end} {to_y:.0f}" fill="none"'
            f' stroke="{color}" stroke-width="2"/>'
        )
    return f'<svg width="{GAP_PX}" height="{height}" viewBox="0 0 {GAP_PX} {height}" aria-hidden="true">{"".join(lines)}</svg>'


def _boosts(page: PreviewPage) -> str:
    if not page.boosts:
        return ""
    most = max((page.max_boost or 2.0) - 1.0, *(one.weight for one in page.boosts), 1e-9)
    bars = []
    for boost in page.boosts:
        text = f"{boost.field}: {boost.value}"
        shown = text[:MAX_CHARS] + ("…" if len(text) > MAX_CHARS else "")
        percent = max(1.0, 100.0 * min(1.0, boost.weight / most))
        bars.append(
            f'<div class="boost"><b>{escape(shown)}</b><div><i style="width:{percent:.1f}%"></i></div>'
            f'<span class="soft">{weight_text(boost.weight)}</span></div>'
        )
    return f"<h3>Boosts: weights added to a factor of 1</h3>{''.join(bars)}"


def _categories(page: PreviewPage, colors: dict[str, str]) -> str:
    if not any(row.category for row in (*page.plain, *page.shown)):
        return ""
    parts = []
    for y, name, rows in ((0, "plain", page.plain), (34, "shown", page.shown)):
        x = 60.0
        parts.append(f'<text class="soft" x="0" y="{y + 16}">{name}</text>')
        for category, count in shares(rows):
            long = 340.0 * count / max(1, len(rows))
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{long - 1.5:.1f}" height="24" rx="3" fill="{colors[category]}">'
                f"<title>{escape(category)}: {count}</title></rect>"
            )
            x += long
    key = " ".join(
        f'<span><i class="dot" style="background:{colors[name]}"></i>{escape(name)}</span>'
        for name, _ in shares([*page.plain, *page.shown])[:COLORS]
    )
    return (
        "<h3>Categories</h3>"
        f'<svg viewBox="0 0 400 58" width="400" role="img" aria-label="categories of both pages">{"".join(parts)}</svg>'
        f'<p class="soft key">{key}</p>'
    )


def _ages(page: PreviewPage) -> str:
    before, after = median_age_days(page.plain), median_age_days(page.shown)
    if before is None or after is None:
        return ""
    old, new = ages(before, after)
    return f"<h3>Median age</h3><p>{old} on the plain page, {new} on this one</p>"


def _is_image(address: str) -> bool:
    """Whether an image may be shown: only one from the web, never a script nor a file of the computer that opens the page."""
    try:
        return urlsplit(address).scheme in ("http", "https")
    except ValueError:
        return False


def _sentence(text: str) -> str:
    """Return a text with a capital letter at its beginning. The rest stays: it holds names."""
    text = text.strip()
    return text[:1].upper() + text[1:]
