"""One previewed page as data: the plain page beside the personalized one, and each hit's move with its size and cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from rewriter.cli.titles import likely_titles
from rewriter.explore.scores import Hit, identity, number_of, score_of
from rewriter.report import Report

DAY_S = 86_400.0
MAX_CHARS = 200
MILLISECONDS_FROM = 1e11
"""A larger number is a date in milliseconds since the epoch, a smaller one in seconds."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a hit's `_source` that a preview shows; "" for none."""

    title: str = ""
    category: str = ""
    date: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One hit of a page.

    was:        its position on the plain page (from 0), None if the plain page lacks it.
    factor:     its score ÷ its base score, or what its boosts add up to where the plain page lacks it; None if unknown.
    boosts:     positions in the page's list of boosts, of those that it matches.
    propensity: the probability of its draw, if it is in an exploration slot.
    """

    id: str
    title: str
    category: str
    age_days: float | None
    image: str
    now: int
    was: int | None
    factor: float | None = None
    boosts: tuple[int, ...] = ()
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class UsedBoost:
    """One boost: the document field, its values as text, its weight (added to a factor of 1) and its source."""

    field: str
    value: str
    weight: float
    source: str


@dataclass(frozen=True, slots=True)
class PreviewPage:
    """The page of one subject. `reason` is `personalized`, or why the page is the plain one."""

    subject: str
    reason: str
    detail: str
    source: str | None
    max_boost: float | None
    plain: tuple[Row, ...]
    shown: tuple[Row, ...]
    boosts: tuple[UsedBoost, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)

    @property
    def stayed(self) -> int:
        """The number of the page's hits that the plain page shows too."""
        return sum(row.was is not None for row in self.shown)


def page_of(
    subject: str, plain: Mapping[str, Any], shown: Mapping[str, Any], report: Report, fields: Fields, now_s: float
) -> PreviewPage:
    """Return the served page beside the plain one. `now_s`: seconds since the epoch, for ages."""
    before = {identity(hit): at for at, hit in enumerate(_hits(plain))}
    scores = {identity(hit): score_of(hit) for hit in _hits(plain)}
    slots = {slot.position: slot.propensity for slot in report.slots}
    reasons = {(move.id, move.now): move for move in report.moves}
    rows = []
    for at, hit in enumerate(_hits(shown)):
        move = reasons.get((str(hit.get("_id")), at))
        factor = None if at in slots else _factor(score_of(hit), scores.get(identity(hit)))
        if factor is None and move is not None:
            factor = move.factor
        rows.append(
            _row(hit, at, before.get(identity(hit)), fields, now_s, factor, move.boosts if move else (), slots.get(at))
        )
    return PreviewPage(
        subject,
        str(report.reason),
        report.detail,
        report.source,
        report.factor_limit_used,
        tuple(_row(hit, at, at, fields, now_s) for at, hit in enumerate(_hits(plain))),
        tuple(rows),
        tuple(UsedBoost(one.field, one.value, one.weight, one.source) for one in report.boosts),
    )


def titled(hits: Sequence[Hit], fields: Fields, body: Any) -> Fields:
    """Return the fields; without a given title field, the likeliest one for this search body that the hits have."""
    if fields.title:
        return fields
    found = next((name for name in likely_titles(body) if any(text_at(hit, name) for hit in hits)), "")
    return Fields(found, fields.category, fields.date, fields.image)


def shares(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the categories of a page with the number of their hits, the most frequent first."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.category or "–"] = counts.get(row.category or "–", 0) + 1
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def median_age_days(rows: Sequence[Row]) -> float | None:
    """Return the median age of a page's hits in days, None if no date is known."""
    ages = [row.age_days for row in rows if row.age_days is not None]
    return median(ages) if ages else None


def _row(
    hit: Hit,
    now: int,
    was: int | None,
    fields: Fields,
    now_s: float,
    factor: float | None = None,
    boosts: tuple[int, ...] = (),
    propensity: float | None = None,
) -> Row:
    at_s = _seconds(_value(hit, fields.date))
    return Row(
        str(hit.get("_id")),
        text_at(hit, fields.title) or str(hit.get("_id")),
        text_at(hit, fields.category),
        None if at_s is None else (now_s - at_s) / DAY_S,
        text_at(hit, fields.image),
        now,
        was,
        factor,
        boosts,
        propensity,
    )


def _hits(response: Mapping[str, Any]) -> Sequence[Hit]:
    return response["hits"]["hits"]  # type: ignore[no-any-return]


def _value(hit: Hit, field: str) -> Any:
    """Return the value of `_source` at a path, the first of a list; None if there is none."""
    if not field:
        return None
    source = hit.get("_source")
    found: Any = source.get(field) if isinstance(source, Mapping) and field in source else source
    if found is source:
        for part in field.split("."):
            found = found[0] if isinstance(found, list) and found else found
            found = found.get(part) if isinstance(found, Mapping) else None
    return found[0] if isinstance(found, list) and found else found


def text_at(hit: Hit, field: str) -> str:
    """Return the value of `_source` at a path as text, "" if there is no text."""
    value = _value(hit, field)
    return "" if value is None or isinstance(value, (Mapping, list)) else str(value)[:MAX_CHARS]


def _factor(score: float | None, base: float | None) -> float | None:
    return score / base if score is not None and base else None


def _seconds(value: Any) -> float | None:
    """Return a date in seconds since the epoch: ISO 8601, or a number of seconds or milliseconds."""
    number = number_of(value)
    if number is None and isinstance(value, str):
        if value.isdigit() and len(value) > len("20261231"):
            number = float(value)
        else:
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                return None
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if number is None:
        return None
    return number / 1000.0 if abs(number) >= MILLISECONDS_FROM else number
