"""The template set of one policy: a shipped set's templates with the ages of the index, and samples with its values. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rewriter.boost.samples import FITTING
from rewriter.cli.init.choices import Choices, Facet
from rewriter.cli.init.index_profile import IndexProfile

DAY_S, HOUR_S = 86_400, 3_600
FRESH_DAYS = (1, 365)
DEFAULT_FRESH_DAYS = 30
HALF_AT = re.compile(r'(?<=\{% set half_at = ")[^"]*(?=" %\})')
"""The age at which a shipped template's preference for new items falls to half, the only value that an index may set."""


def template_files(
    profile: IndexProfile,
    choices: Choices,
    shipped: Mapping[str, str],
    attribute: Mapping[str, Any],
    median_age_s: float | None,
) -> dict[str, str]:
    """Return the texts of a template set by path within its folder.

    shipped:      the templates of the set that was chosen, by file name.
    attribute:    the settings of its attributes.
    median_age_s: of items when they were used, where it is known.
    """
    age = half_at(choices, median_age_s)
    return {
        **{file: HALF_AT.sub(age, text) if age else text for file, text in shipped.items()},
        **{f"samples/{name}.json": _json(sample) for name, sample in _samples(profile, choices, attribute).items()},
    }


def half_at(choices: Choices, median_age_s: float | None) -> str:
    """Return the age at which the preference for new items falls to half, or "" if it is unknown: then the set's own age holds.

    It is twice the median age of items when they are used; else the age of the newest quarter of the documents.
    """
    if median_age_s is not None:
        age_s = 2 * median_age_s
        return f"{max(round(age_s / HOUR_S), 1)}h" if age_s < 2 * DAY_S else f"{_days(age_s)}d"
    return f"{fresh_days(choices)}d" if choices.fresh_s else ""


def fresh_days(choices: Choices) -> int:
    """Return the age in days at which the preference for new items falls to half."""
    if not choices.fresh_s:
        return DEFAULT_FRESH_DAYS
    return _days(choices.fresh_s)


def _days(age_s: float) -> int:
    return min(max(round(age_s / DAY_S), FRESH_DAYS[0]), FRESH_DAYS[1])


def _samples(profile: IndexProfile, choices: Choices, attribute: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a returning visitor, one in a first session, and an unknown one."""
    item_kind = profile.facts.fields.get(choices.item.field, "keyword")
    item = {
        "kind": "item", "field": "item", "fields": [choices.item.field], "values": [FITTING.get(item_kind, "example")],
        "weight": 0.6, "scale": 1.2 if choices.item.is_boosted else 0.0, "source": "profile",
    }  # fmt: skip
    facets = [
        _affinity(profile, facet, 0.8 - 0.15 * at, 2, attribute["scale"]) for at, facet in enumerate(choices.facets)
    ]
    first = [
        _affinity(profile, facet, 0.3, 1, attribute["scale"]) | {"source": "session"} for facet in choices.facets[:1]
    ]
    return {
        "returning": {"affinities": [item, *facets], "session": {"events": 3}},
        "first_session": {"affinities": first, "session": {"events": 1}},
        "unknown": {"affinities": [], "session": {"events": 0}},
    }


def _affinity(profile: IndexProfile, facet: Facet, weight: float, count: int, scale: float) -> dict[str, object]:
    fallback = FITTING.get(next(iter(profile.facts.kinds(facet.field)), ""), "example")
    return {
        "kind": "attribute", "field": facet.name, "fields": [facet.field], "values": list(facet.values[:count]) or [fallback],
        "weight": round(weight, 2), "scale": scale, "source": "profile",
    }  # fmt: skip


def _json(sample: object) -> str:
    return json.dumps(sample, indent=2, ensure_ascii=False) + "\n"
