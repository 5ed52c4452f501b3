"""JSON Schema of what templates render, for editors and for tests of a team's own.

It states what `functions.read_functions` accepts, but for two limits that JSON Schema cannot state: clauses may be nested eight
deep, and a token `{"$affinity": n}`, which stands for the clause of affinity n, must name one of the subject's affinities.
"""

from __future__ import annotations

from typing import Any

from rewriter.boost.functions import DECAYS, LEAF_QUERIES, MAX_CLAUSE_DEPTH, MAX_FUNCTIONS, NAME, OF_CONSTANT, OF_NESTED
from rewriter.signals.affinities import TOKEN

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
WEIGHT = "Added to a factor of 1. It is cut to max_boost − 1; a function of weight 0 is left out."


def boosts_schema() -> Schema:
    """Return the JSON Schema of what `boosts.json.j2` renders: a list of functions."""
    return {
        "$schema": DIALECT,
        "title": "boosts.json.j2",
        "description": "What a boosts template renders: functions, each of which adds at most its weight to a hit's factor.",
        **_functions(random=False),
        "$defs": _definitions(random=False),
    }


def exploration_schema() -> Schema:
    """Return the JSON Schema of what `exploration.json.j2` renders: the exploration leg's changes of the caller's search."""
    filters = {
        "type": "array",
        "maxItems": MAX_FUNCTIONS,
        "items": {"$ref": "#/$defs/clause"},
        "description": "Filters added to the search.",
    }
    return {
        "$schema": DIALECT,
        "title": "exploration.json.j2",
        "description": "What an exploration template renders: filters and functions of the exploration leg.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"filter": filters, "functions": _functions(random=True)},
        "$defs": _definitions(random=True),
    }


def _functions(*, random: bool) -> Schema:
    kinds = ["weighted", *sorted(DECAYS | ({"random_score"} if random else set()))]
    return {
        "type": "array",
        "maxItems": MAX_FUNCTIONS,
        "items": {"oneOf": [{"$ref": f"#/$defs/{one}"} for one in kinds]},
    }


def _definitions(*, random: bool) -> Schema:
    weight = {"type": "number", "minimum": 0, "description": WEIGHT}
    clause = {"$ref": "#/$defs/clause"}
    weighted = _object({"filter": clause, "weight": weight}, "filter", "weight")
    scored = {
        name: _object({name: {"type": "object"}, "filter": clause, "weight": weight}, name, "weight")
        for name in sorted(DECAYS | ({"random_score"} if random else set()))
    }
    return {"weighted": weighted, **scored, "clause": _clause()}


def _clause() -> Schema:
    clause = {"$ref": "#/$defs/clause"}
    clauses = {"anyOf": [clause, {"type": "array", "items": clause}]}
    spec = _object(
        {
            **dict.fromkeys(("filter", "must", "should", "must_not"), clauses),
            "minimum_should_match": {},
            "boost": {},
            NAME: {},
        }
    )
    properties: Schema = {name: {"type": "object"} for name in sorted(LEAF_QUERIES)}
    properties["bool"] = spec
    properties["nested"] = _object({**{key: {} for key in sorted(OF_NESTED)}, "query": clause}, "query")
    properties["constant_score"] = _object({**{key: {} for key in sorted(OF_CONSTANT)}, "filter": clause}, "filter")
    properties["terms"] = {"type": "object", "additionalProperties": {"not": {"type": "object"}}}
    script = {"type": "object", "required": ["minimum_should_match_script"]}
    properties["terms_set"] = {"type": "object", "additionalProperties": {"not": script}}
    properties[TOKEN] = {
        "type": "integer",
        "minimum": 0,
        "description": "The clause of affinity n, as {{ a.filter }} prints it.",
    }
    return {
        "type": "object",
        "description": f"One query clause, nested {MAX_CLAUSE_DEPTH} deep at most. It runs no script and reads no other index.",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": properties,
    }


def _object(properties: Schema, *required: str) -> Schema:
    found: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**found, "required": list(required)} if required else found
