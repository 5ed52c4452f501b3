"""The figures of an evaluation as one self-contained HTML page without scripts or requests, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rewriter.experiment.charts import Bar, beside
from rewriter.experiment.style import STYLE
from rewriter.plural import count_of

SLICES = (
    ("all", "every search"),
    ("new", "items that the person had not used before"),
    ("cold", "people with few events"),
    ("first search", "the first search for its words"),
)
MAX_CLASSES = 20
NO_RATIOS = (
    "Too few searches or people, or too little relevant on the pages compared with, for a ratio with an interval."
)


def html_of(figures: Mapping[str, Any], title: str = "Would personalization help?") -> str:
    """Return the page of a run's figures."""
    measure = figures["measure"]
    policies = figures["policies"]
    head = policies[0]["verdict"] if policies else ""
    kind = "helps" if head.startswith("Switch it on") else "harms" if head.startswith("Do not") else "open"
    about = f"{count_of(figures['searches'], 'judged search')} of {count_of(figures['people'], 'person')}, "
    about += f"{count_of(figures['judgments'], 'judgment')}, baseline {measure} "
    about += _number(figures["baseline"]["all"][measure])
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {kind}">{escape(head)}</p>',
        f'<p class="about">{escape(about)}.</p>',
        *(f"<p>⚠ {escape(line)}.</p>" for line in figures["warnings"]),
        _section("Policies", _verdicts(policies)),
        *(_section(f"{measure}: {what}", _slice(policies, part, measure)) for part, what in SLICES),
        _section("Pages", _pages(figures)),
        _section("Searches left out", _left_out(figures["left_out"])),
        *(_section(f"Classes of queries: {one['name']}", _classes(one)) for one in policies if _has_classes(one)),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _verdicts(policies: Sequence[Mapping[str, Any]]) -> str:
    return "".join(
        f"<p><b>{escape(one['name'])}</b>: {escape(one['verdict'])}</p>{_details(one['details'])}" for one in policies
    )


def _details(details: Mapping[str, int]) -> str:
    """Return how many searches were not personalized, or not as they should be, by reason."""
    found = "".join(f"<li>{count:,} × {escape(detail)}</li>" for detail, count in details.items())
    return f"<ul>{found}</ul>" if found else ""


def _left_out(counts: Mapping[str, int]) -> str:
    return "".join(f"<p>Left out: {escape(reason)} ({count:,}).</p>" for reason, count in counts.items())


def _figure(chart: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}</figure>" if chart else ""


def _slice(policies: Sequence[Mapping[str, Any]], part: str, measure: str) -> str:
    known = [(one, one["measures"][part][measure]) for one in policies if one["measures"][part][measure]["searches"]]
    bars = [
        Bar(one["name"], _less_one(row["ratio"]), _less_one(row["ratio_low"]), _less_one(row["ratio_high"]))
        for one, row in known
    ]
    if not bars:
        return ""
    rows = [
        (
            one["name"],
            _number(row["compared"]),
            _number(row["mean"]),
            _interval(row),
            f"{row['searches']:,}",
            f"{row['people']:,}",
        )
        for one, row in known
    ]
    caption = "Change against the baseline (with exploration: against the same policy without), with 95 % intervals"
    plotted = any(one.low is not None for one in bars)
    chart = _figure(beside(bars, caption), caption) if plotted else f"<p>{NO_RATIOS}</p>"
    return chart + _table(("", "compared with", "policy", "difference", "searches", "people"), rows)


def _pages(figures: Mapping[str, Any]) -> str:
    """Return what changes of the pages, and how diverse those compared with and the policy's own are."""
    k = figures["k"]
    changes = [
        (one["name"], _share(one["personalized"]), *(_share(one["page"][name]) for name in ("changed", f"overlap@{k}")))
        for one in figures["policies"]
    ]
    measures = (
        (f"categories@{k}", f"categories@{k}", _number), (f"normalized_entropy@{k}", "normalized entropy", _number),
        (f"intra_list_diversity@{k}", "intra-list diversity", _number),
        ("item_age_median_days", "item age, median (days)", _days), ("item_age_p90_days", "item age, p90 (days)", _days),
        ("young_share", "items younger than 30 days", _share),
    )  # fmt: skip
    diversity = []
    for one in figures["policies"]:
        known = [row for row in measures if one["page"][row[0]] is not None]
        for at, (name, text, shown) in enumerate(known):
            title = "" if at else one["name"]
            diversity.append((title, text, shown(one["page"][f"baseline_{name}"]), shown(one["page"][name])))
    return _table(("", "personalized", "pages changed", f"overlap@{k}"), changes) + (
        _table(("", "measure", "compared with", "policy"), diversity) if diversity else ""
    )


def _has_classes(one: Mapping[str, Any]) -> bool:
    return not (one["explores"] or one["placebo"] or one["variation_of"]) and any(
        row["name"] for row in one.get("classes", ())
    )


def _classes(one: Mapping[str, Any]) -> str:
    named = [row for row in one["classes"] if row["name"]][:MAX_CLASSES]
    bars = [Bar(row["name"], row["difference"], row["low"], row["high"]) for row in named]
    rows = [(row["name"], f"{row['searches']:,}", f"{row['people']:,}", _interval(row), row["effect"]) for row in named]
    few = sum(row["searches"] for row in one["classes"] if not row["name"])
    note = f"<p>{count_of(few, 'search', 'are')} of classes with too few people to tell.</p>" if few else ""
    caption = "Difference in the measure, with intervals that hold for all classes together"
    chart = _figure(beside(bars, caption, "+.2f"), caption)
    return chart + _table(("class", "searches", "people", "difference", "effect"), rows) + note


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    columns = f' class="named" style="--columns:{len(names) - 1}"' if not names[0] else ""
    return f'<div class="wide"><table{columns}><tr>{head}</tr>{body}</table></div>'


def _interval(row: Mapping[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return _number(row["difference"])
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def _less_one(value: float | None) -> float | None:
    return None if value is None else value - 1.0


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _days(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
