"""One `ubi_queries` record of a search, after User Behavior Insights 1.3.0: the query, and the list that the visitor saw.

The plugin records the hits of the caller's own search, not the merged page. This record has the merged list in
`query_response_hit_ids`. Its `query_attributes.rewriter` holds each hit's position, the ranking that chose it, and the arm.
The record holds identifiers (UBI's `client_id`) and typed queries: write it only to the index that holds the team's events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewriter.report import Reason, Report

MAX_HITS = 200
MAX_ID_CHARS = 100
"""Longest identifier that the schema and the plugin's mapping accept, in characters; a longer one is left out."""
MAX_OBJECT_ID_CHARS = 256
MAX_QUERY_CHARS = 1_000
MAX_ATTRIBUTES_CHARS = 20_000
"""Longest `query_attributes` of the application, as JSON; longer ones are left out, and the record says so."""
MAX_DEPTH = 8
FORM = 1
"""Version of the format of `query_attributes.rewriter`."""

WORDS = ("match", "match_phrase", "match_phrase_prefix", "match_bool_prefix")
TEXTS = ("multi_match", "simple_query_string", "query_string", "combined_fields")


@dataclass(frozen=True, slots=True, repr=False)
class UbiFields:
    """UBI's fields of a search, given by the application in the body's `ext.ubi`, or around the search (see `ubi.ubi_query`)."""

    query_id: str | None = None
    user_query: str | None = None
    client_id: str | None = None
    application: str | None = None
    object_id_field: str | None = None
    query_attributes: Mapping[str, Any] | None = None


NOTHING = UbiFields()


@dataclass(frozen=True, slots=True)
class ShownHit:
    """One shown hit: its object id, and its category and age in days if they are known."""

    object_id: str
    category: str | None = None
    age_days: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ShownPage:
    """The parts of one search that its record needs, copied before the search returned.

    from_: the page's first position in the list. total: matches, None where unknown. client_id: None if no person may be named.
    intra_list_diversity: of the first hits, None if their attributes are unknown.
    """

    requested: UbiFields
    query_id: str
    response_id: str
    client_id: str | None
    indices: tuple[str, ...]
    from_: int
    hits: tuple[ShownHit, ...]
    total: int | None
    at_s: float
    report: Report
    intra_list_diversity: float | None = None


def requested_in(body: Any) -> UbiFields:
    """Return the fields of a body's `ext.ubi` that are text."""
    part = body.get("ext") if isinstance(body, Mapping) else None
    ubi = part.get("ubi") if isinstance(part, Mapping) else None
    if not isinstance(ubi, Mapping):
        return NOTHING
    texts = {
        name: value
        for name in ("query_id", "user_query", "client_id", "application", "object_id_field")
        if isinstance(value := ubi.get(name), str) and value
    }
    attributes = ubi.get("query_attributes")
    return UbiFields(**texts, query_attributes=dict(attributes) if isinstance(attributes, Mapping) else None)


def words_of(query: Any, depth: int = 0) -> str:
    """Return the first text that a query looks for, or "": the typed query, if the application does not give it."""
    if depth > MAX_DEPTH:
        return ""
    if isinstance(query, list):
        return next(filter(None, (words_of(one, depth + 1) for one in query[:20])), "")
    if not isinstance(query, Mapping):
        return ""
    for name, spec in list(query.items())[:20]:
        if name in TEXTS and isinstance(spec, Mapping) and isinstance(spec.get("query"), str):
            return str(spec["query"])
        if name in WORDS and isinstance(spec, Mapping):
            for value in spec.values():
                text = value.get("query") if isinstance(value, Mapping) else value
                if isinstance(text, str):
                    return text
        if name not in ("filter", "must_not", "functions") and (found := words_of(spec, depth + 1)):
            return found
    return ""


def record_of(page: ShownPage, timestamp: str) -> dict[str, Any]:
    """Return the record; `timestamp` is `page.at_s` as `strict_date_time`. Identifiers that are too long are left out."""
    requested = page.requested
    found: dict[str, Any] = {
        "application": _short(requested.application),
        "query_id": page.query_id,
        "client_id": _short(page.client_id),
        "user_query": (requested.user_query or "")[:MAX_QUERY_CHARS],
        "object_id_field": _short(requested.object_id_field),
        "timestamp": timestamp,
        "query_response_id": page.response_id,
        "query_response_hit_ids": [hit.object_id for hit in page.hits],
        "indexes": list(page.indices),
        "query_attributes": {**_given(requested.query_attributes), "rewriter": _attributes(page)},
    }
    return {name: value for name, value in found.items() if value is not None}


def _given(attributes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the application's attributes, or a note in their stead where they are too long or no JSON (NaN, a loop)."""
    if not attributes:
        return {}
    try:
        text = json.dumps(attributes, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return {"left_out": "query_attributes are no JSON"}
    if len(text) > MAX_ATTRIBUTES_CHARS:
        return {"left_out": f"query_attributes have {len(text)} characters"}
    copied: dict[str, Any] = json.loads(text)
    return copied


def _attributes(page: ShownPage) -> dict[str, Any]:
    report, exposure = page.report, page.report.exposure
    timings = report.timings_ms
    facts = report.page_facts
    # In shadow mode the report describes the page that would have been shown; the record describes the shown page.
    displayed = report.reason is Reason.PERSONALIZED
    found: dict[str, Any] = {
        "form": FORM,
        "arm": exposure.arm if exposure else None,
        "unit": exposure.unit if exposure else None,
        "holdout": exposure.holdout if exposure else None,
        "experiment": exposure.experiment if exposure else None,
        "variant": report.variant,
        "reason": str(report.reason),
        "policy": report.policy,
        "mode": getattr(report, "mode", None),
        "source": report.source,
        "template_version": report.template_version,
        "trial": report.trial or None,
        "positions": list(range(page.from_, page.from_ + len(page.hits))),
        "total": page.total,
        "boosts": len(report.boosts) or None,
        "kept": facts.kept if facts else None,
        "slots": [
            {
                "position": slot.position,
                "object_id": page.hits[at].object_id,
                "propensity": slot.propensity,
            }
            for slot in report.slots
            if displayed and 0 <= (at := slot.position - page.from_) < len(page.hits)
        ]
        or None,
        "teams": (report.teams or None) if displayed else None,
        "categories": _known(tuple(hit.category for hit in page.hits)),
        "ages_days": _known(tuple(None if hit.age_days is None else round(hit.age_days, 1) for hit in page.hits)),
        "intra_list_diversity": None if page.intra_list_diversity is None else round(page.intra_list_diversity, 4),
        "baseline_ms": _rounded(timings.get("baseline")),
        "added_ms": _rounded(timings.get("added")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _known(values: Sequence[Any]) -> list[Any] | None:
    return list(values) if any(value is not None for value in values) else None


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 2)


def _short(text: str | None) -> str | None:
    return text if text and len(text) <= MAX_ID_CHARS else None
