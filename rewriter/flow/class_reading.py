"""Learning the classes of a query: a search's personalized leg asks for each hit's class, and the next such search knows them.

The caller's own search is not touched, so that a first search for some words does not know its classes; it goes by the counters of
all classes together. Classes are shared as pools of exploration are: by everyone who sends the same search, or by fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewriter.alike import alike
from rewriter.boost.body import WORDS_NAME
from rewriter.explore.scores import score_of
from rewriter.flow.exploration import sharers
from rewriter.flow.steps import SearchContext
from rewriter.index_facts import NUMBERS, WHOLE_VALUES
from rewriter.parsed_search import key_of, search_key
from rewriter.signals.query_classes import classes_in


def classes_key(context: SearchContext) -> str:
    """Return the key under which the classes of a query are kept."""
    return key_of("classes", search_key(context.search), sharers(context))


def known_classes(context: SearchContext) -> tuple[str, ...]:
    """Return the classes of a search's query, or () where they are unknown or the policy has none."""
    if not context.policy.class_field:
        return ()
    return context.core.query_classes.get(classes_key(context), context.clock_s())


def with_classes(context: SearchContext, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the leg's body, which asks for each hit's class where the class's field can be read so."""
    name = _requested(context)
    if name is None:
        return body
    return {**body, "docvalue_fields": [*_listed(body.get("docvalue_fields")), name]}


def learned(context: SearchContext, hits: Sequence[Mapping[str, Any]], *, gated: bool) -> Sequence[Mapping[str, Any]]:
    """Keep the classes of a leg's hits, and return the hits as the caller's own search has them.

    gated: where the server names hits that hold every word, the others do not count.
    """
    name = _requested(context)
    if name is None:
        return hits
    holding = [hit for hit in hits if WORDS_NAME in (hit.get("matched_queries") or ())] if gated else []
    counted = holding or hits
    scores = [score_of(hit) or 0.0 for hit in counted]
    if context.trial:  # its boosts may have changed which hits come first
        return [_without(hit, name) for hit in hits]
    context.core.query_classes.put(classes_key(context), classes_in(counted, name, scores), context.clock_s())
    return [_without(hit, name) for hit in hits]


def _requested(context: SearchContext) -> str | None:
    """Return the field that the leg asks for: none where the caller's own search shows it, or where it has no such values."""
    name, body = context.policy.class_field, context.search.body
    if name is None:
        return None
    kind = context.facts.fields.get(name)
    if kind not in WHOLE_VALUES and kind not in NUMBERS and kind != "boolean":
        return None
    own = [*_listed(body.get("docvalue_fields")), *_listed(body.get("fields")), *_listed(body.get("stored_fields"))]
    named = [one.get("field") if isinstance(one, Mapping) else one for one in own]
    return None if any(isinstance(one, str) and ("*" in one or one == name) for one in named) else name


def _listed(part: Any) -> list[Any]:
    return part if isinstance(part, list) else [] if part is None else [part]


def _without(hit: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    fields = hit.get("fields")
    if not isinstance(fields, Mapping) or name not in fields:
        return hit
    rest = {one: values for one, values in fields.items() if one != name}
    clean = {key: value for key, value in hit.items() if key != "fields"}
    found: Mapping[str, Any] = alike(hit, {**clean, "fields": rest} if rest else clean)
    return found
