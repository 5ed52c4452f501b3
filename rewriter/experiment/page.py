"""The report as one self-contained HTML page: no script, no font, no request to anywhere."""

from __future__ import annotations

from html import escape

from rewriter.experiment.charts import Bar, beside, over_days
from rewriter.experiment.summary import Summary
from rewriter.experiment.wording import NAMES, Part, parts_of

STYLE = """
:root{--paper:#fbfaf7;--ink:#1d1d1b;--quiet:#6f6d66;--rule:#dedbd2;--open:#7d7a70;--good:#1c7a4d;--bad:#b23a2a;--band:#1d1d1b1a}
@media(prefers-color-scheme:dark){:root{--paper:#191917;--ink:#eceae4;--quiet:#9b988f;--rule:#3a3935;--open:#a3a096;--good:#5cc08f;--bad:#ec8272;--band:#eceae424}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:860px;padding:40px 24px 80px;background:var(--paper);color:var(--ink)}
body{font:16px/1.55 ui-sans-serif,system-ui,sans-serif}
h1{font-size:15px;font-weight:600;color:var(--quiet);margin:0 0 6px}
.verdict{font-size:30px;line-height:1.25;margin:0 0 8px;text-wrap:balance}
.verdict.helps{color:var(--good)}.verdict.harms{color:var(--bad)}
.about{color:var(--quiet);margin:0 0 32px}
h2{font-size:18px;margin:40px 0 8px;padding-top:16px;border-top:1px solid var(--rule)}
p{margin:0 0 10px;max-width:70ch}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums;margin:8px 0}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--quiet);font-weight:500}
td:not(:first-child){white-space:nowrap}td.text{white-space:normal}
.broken{color:var(--bad);font-weight:600}
svg{width:100%;height:auto;margin:12px 0;font:12px ui-sans-serif,system-ui,sans-serif;fill:var(--ink)}
.quiet{fill:var(--quiet)}.grid{stroke:var(--rule)}.zero{stroke:var(--ink);stroke-dasharray:3 3}
.band{fill:var(--band)}.line{fill:none;stroke:var(--ink);stroke-width:2}
.bar{stroke-width:3;stroke-linecap:round}.bar.open{stroke:var(--open)}.bar.good{stroke:var(--good)}.bar.bad{stroke:var(--bad)}
.dot.open{fill:var(--open)}.dot.good{fill:var(--good)}.dot.bad{fill:var(--bad)}
"""


def html_of(found: Summary, title: str = "Did personalization help?") -> str:
    """Return the page."""
    kind = {"helps": "helps", "harms": "harms"}.get(found.verdict, "open")
    about = (
        f"{found.first_day} to {found.last_day}, {found.people:,} people, {found.searches:,} searches"
        if found.searches
        else "nothing was read"
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {kind}">{escape(found.sentence)}</p>',
        f'<p class="about">{escape(about)}.</p>',
    ]
    body += [
        f"<section><h2>{escape(part.title)}</h2>{_sentences(part)}{_chart(found, part.title)}{_table(part)}</section>"
        for part in parts_of(found)
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _sentences(part: Part) -> str:
    return "".join(f"<p>{escape(one)}</p>" for one in part.sentences)


def _chart(found: Summary, title: str) -> str:
    if title == "The primary measure" and found.primary is not None:
        days = [Bar(one.day, one.lift, one.low, one.high) for one in found.looks]
        return over_days(days, f"Lift of {NAMES[found.primary.name]} by day, with the interval that holds at all looks")
    if title == "Secondary measures":
        return beside(
            [Bar(NAMES[one.name], one.lift, one.low, one.high) for one in found.secondary],
            "Lifts of the secondary measures",
        )
    if title == "Parts":
        return beside(
            [Bar(f"{one.of}: {one.name}", one.lift, one.low, one.high) for one in found.segments], "Lifts by part"
        )
    return ""


def _table(part: Part) -> str:
    if not part.rows:
        return ""
    head, *rows = part.rows
    names = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join(f"<tr>{''.join(_cell(one) for one in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{names}</tr>{lines}</table></div>'


def _cell(text: str) -> str:
    kind = "broken" if text == "broken" else "text" if len(text) > 40 else ""
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
