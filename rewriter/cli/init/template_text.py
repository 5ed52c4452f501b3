"""The template set of one policy: boosts, exploration and samples, with values of the index. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rewriter.boost.samples import FITTING
from rewriter.cli.init.choices import Choices, Facet
from rewriter.cli.init.index_profile import IndexProfile

DAY_S = 86_400
FRESH_DAYS = (1, 365)
DEFAULT_FRESH_DAYS = 30

BOOSTS = """\
{# The boosts of one search, a JSON list: one function for each affinity of the visitor.
   An affinity has kind, field, fields, values, weight in [0, 1], scale, source, and filter, the clause that finds its documents.
   The weight below is affinity times the field's scale. The library keeps the sum within max_boost, whatever this file holds. #}
[
{% for a in affinities %}
  {"filter": {{ a.filter }}, "weight": {{ a.weight * a.scale }}}{% if not loop.last %},{% endif %}

{% endfor %}
]
"""
EXPLORATION = """\
{# What the exploration leg changes in the search: {"filter": […], "functions": […]}; {} leaves the search as it is.
   Its hits fill about one position in seven, so that people see more than what they are known to like.
   REASON #}
{
{% if policy.date_field %}
  "functions": [{"exp": { {{ policy.date_field }}: {"origin": "now", "scale": "SCALE", "decay": 0.5} }, "weight": 0.5}]
{% endif %}
}
"""


def template_files(profile: IndexProfile, choices: Choices) -> dict[str, str]:
    """Return the texts of a template set by path within its folder."""
    return {
        "boosts.json.j2": BOOSTS,
        "exploration.json.j2": _exploration(choices),
        **{f"samples/{name}.json": _json(sample) for name, sample in _samples(profile, choices).items()},
    }


def fresh_days(choices: Choices) -> int:
    """Return the age in days at which the preference for what is new falls to half."""
    if not choices.fresh_s:
        return DEFAULT_FRESH_DAYS
    return min(max(round(choices.fresh_s / DAY_S), FRESH_DAYS[0]), FRESH_DAYS[1])


def _exploration(choices: Choices) -> str:
    days = fresh_days(choices)
    if not choices.date.field:
        reason = "The policy names no date_field, so nothing is changed; with one, what is new is preferred."
    elif choices.fresh_s:
        age = f"{choices.fresh_s / DAY_S:,.1f} days"
        reason = f"A document of today is preferred, one of {days} days half as much: a quarter is younger than {age}."
    else:
        reason = f"A document of today is preferred, one of {days} days half as much; the index had no documents to choose that by."
    return EXPLORATION.replace("REASON", reason).replace("SCALE", f"{days}d")


def _samples(profile: IndexProfile, choices: Choices) -> Mapping[str, object]:
    """Return a visitor who comes back, one in a first session, and one of whom nothing is known."""
    item_kind = profile.facts.fields.get(choices.item.field, "keyword")
    item = {
        "kind": "item", "field": "item", "fields": [choices.item.field], "values": [FITTING.get(item_kind, "example")],
        "weight": 0.6, "scale": 1.2 if choices.item.is_boosted else 0.0, "source": "profile",
    }  # fmt: skip
    facets = [_affinity(profile, facet, 0.8 - 0.15 * at, 2) for at, facet in enumerate(choices.facets)]
    first = [_affinity(profile, facet, 0.3, 1) | {"source": "session"} for facet in choices.facets[:1]]
    return {
        "returning": {"affinities": [item, *facets], "session": {"events": 3}},
        "first_session": {"affinities": first, "session": {"events": 1}},
        "unknown": {"affinities": [], "session": {"events": 0}},
    }


def _affinity(profile: IndexProfile, facet: Facet, weight: float, count: int) -> dict[str, object]:
    fallback = FITTING.get(next(iter(profile.facts.kinds(facet.field)), ""), "example")
    return {
        "kind": "attribute", "field": facet.name, "fields": [facet.field], "values": list(facet.values[:count]) or [fallback],
        "weight": round(weight, 2), "scale": 0.3, "source": "profile",
    }  # fmt: skip


def _json(sample: object) -> str:
    return json.dumps(sample, indent=2, ensure_ascii=False) + "\n"
