"""The report as one self-contained HTML page without scripts, fonts or requests, for phone and desktop."""

from __future__ import annotations

from html import escape

from rewriter.experiment.charts import Bar, beside, over_days
from rewriter.experiment.style import STYLE
from rewriter.experiment.summary import Summary
from rewriter.experiment.wording import NAMES, Part, parts_of
from rewriter.plural import count_of

NEUTRAL = frozenset({"searches_per_person"})
"""Measures that may rise for a better or for a worse page: people search again after finding something, and after not."""


def html_of(found: Summary, title: str = "Did personalization help?") -> str:
    """Return the page."""
    kind = {"helps": "helps", "harms": "harms"}.get(found.verdict, "open")
    about = (
        f"{found.first_day} to {found.last_day}, {count_of(found.people, 'person')}, {count_of(found.searches, 'search')}"
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
        title = f"Lift of {NAMES[found.primary.name]} by day, with the interval that holds at all looks"
        return _figure(over_days(days, title), title)
    if title == "Secondary measures":
        bars = [Bar(NAMES[one.name], one.lift, one.low, one.high, one.name in NEUTRAL) for one in found.secondary]
        return _figure(beside(bars, title := "Lifts of the secondary measures, with their intervals"), title)
    if title == "Parts":
        parts = [Bar(f"{one.of}: {one.name}", one.lift, one.low, one.high) for one in found.segments]
        return _figure(beside(parts, title := "Lifts by part, with their intervals"), title)
    return ""


def _figure(svg: str, title: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" if svg else ""


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
