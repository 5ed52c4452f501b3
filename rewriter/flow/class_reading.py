"""Learning a query's classes: where they are unknown, a search asks for the class of each hit, and the next such search knows them.

The caller's own search is not touched, so that a first search for some words does not know its classes; it goes by the counters of
all classes together. A subject of whom these have nothing to boost gets no personalized leg; then a small search of its own asks
for the classes; no search waits for it. Classes are shared as pools of exploration are: by everyone who sends the same search, or
by fewer.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from rewriter.alike import alike
from rewriter.boost.all_words import all_words, listed
from rewriter.boost.body import WORDS_NAME, optional_leg
from rewriter.client.seam import LegFault
from rewriter.decide.leg_sizes import hit_shape
from rewriter.explore.scores import score_of
from rewriter.flow.exploration import sharers
from rewriter.flow.legs import leg
from rewriter.flow.steps import Explored, PartStep, SearchContext
from rewriter.index_facts import NUMBERS, WHOLE_VALUES
from rewriter.parsed_search import key_of, search_key
from rewriter.signals.class_items import EveryClass
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.neighbours import near_class
from rewriter.signals.query_classes import FIRST_HITS, classes_in

DEFINING = ("script_fields", "derived", "runtime_mappings")
"""Parts of a body that define fields. A hit shows a script's under the same key as those that are asked for."""


def classes_key(context: SearchContext) -> str:
    """Return the key under which the classes of a query are kept."""
    keys = context.search.keys  # one search, and so one subject
    found = keys.get("classes")
    if found is None:
        found = keys["classes"] = key_of("classes", search_key(context.search), sharers(context))
    return found


def known_classes(context: SearchContext) -> tuple[str, ...]:
    """Return the classes of a search's query, or () where they are unknown or the policy has none."""
    if not context.policy.class_field:
        return ()
    return context.core.query_classes.get(classes_key(context), context.clock_s())


def read_classes(context: SearchContext, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names under which the counters of classes are read: with those of neighbours, where the policy boosts them."""
    return (*classes, *map(near_class, classes)) if NEIGHBOUR in context.fields else classes


def most_counters(context: SearchContext, classes: tuple[str, ...]) -> int:
    """Return how many counters of all classes together are read: `max_counters`, and all that are kept where they have to stand
    for the query's classes, which are unknown.
    """
    signals = context.core.settings.signals
    return signals.max_counters if classes or not context.policy.class_field else signals.kept_counters


def every_class(context: SearchContext, classes: tuple[str, ...]) -> EveryClass | None:
    """Return how the items of all classes are read; None where those of `classes` are, or profiles keep none by class."""
    core = context.core
    if classes or not core.settings.class_field or ITEM not in context.fields:
        return None
    return EveryClass(core.profile_half_lives.of(ITEM), context.snapshot.population.class_names)


def class_to_request(context: SearchContext) -> str | None:
    """Return the field of which a leg asks for each hit's value: the class, where the query's classes are unknown.

    None too where the caller's own search shows the field, as `collapse` by it does, or defines one of this name, where it has no
    such values, or where an index allows a search no further `docvalue_fields`: it would refuse the whole search.
    """
    name, body = context.policy.class_field, context.search.body
    if name is None or name == context.search.collapse_field or known_classes(context):
        return None
    kind = context.facts.fields.get(name)
    if kind not in WHOLE_VALUES and kind not in NUMBERS and kind != "boolean":
        return None
    if any(isinstance(defined := body.get(part), Mapping) and name in defined for part in DEFINING):
        return None
    own = [*listed(body.get("docvalue_fields")), *listed(body.get("fields")), *listed(body.get("stored_fields"))]
    if len(listed(body.get("docvalue_fields"))) >= context.facts.max_docvalue_fields:
        return None
    named = [one.get("field") if isinstance(one, Mapping) else one for one in own]
    return None if any(isinstance(one, str) and ("*" in one or one == name) for one in named) else name


def with_classes(body: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """Return the leg's body, which asks for each hit's class under `name`, if any."""
    return body if name is None else {**body, "docvalue_fields": [*listed(body.get("docvalue_fields")), name]}


def learned(
    context: SearchContext, hits: Sequence[Mapping[str, Any]], name: str | None, *, gated: bool, first: bool = True
) -> Sequence[Mapping[str, Any]]:
    """Keep the classes of a leg's hits, and return the hits as the caller's own search has them.

    name:  the field that the leg asked for.
    gated: where the server names hits that hold every word, the others do not count.
    first: whether these are the first hits; those of a later page tell nothing of the query.
    """
    if name is None:
        return hits
    if first and not context.trial:  # a draft's boosts may have changed which hits come first
        holding = [hit for hit in hits if WORDS_NAME in (hit.get("matched_queries") or ())] if gated else []
        counted = holding or hits
        scores = [score_of(hit) or 0.0 for hit in counted]
        context.core.query_classes.put(classes_key(context), classes_in(counted, name, scores), context.clock_s())
    return [_without(hit, name) for hit in hits]


def claims_classes(context: SearchContext) -> bool:
    """Whether it is this search that asks for its query's classes, which are unknown: one in some seconds does."""
    if class_to_request(context) is None:
        return False
    return context.core.query_classes.claim(classes_key(context), context.clock_s())


def class_search(context: SearchContext) -> Generator[PartStep, Any, Explored]:
    """Ask for the classes of the first hits that hold every word, where it is known which do, and keep them."""
    search, name = context.search, context.policy.class_field
    body = optional_leg(search.body, 0, FIRST_HITS, search.names)
    gate = all_words(body["query"], context.facts).clause if context.policy.all_words else None
    if gate is not None:
        body["query"] = {"bool": {"must": [body["query"]], "filter": [gate]}}
    body = {**with_classes(body, name), "_source": False}
    try:
        response = yield leg(context, body, None, hit_shape(search.indices, body))
    except LegFault as fault:
        return Explored(error=fault.detail)
    learned(context, response["hits"]["hits"], name, gated=False)
    return Explored()


def _without(hit: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    fields = hit.get("fields")
    if not isinstance(fields, Mapping) or name not in fields:
        return hit
    rest = {one: values for one, values in fields.items() if one != name}
    clean = {key: value for key, value in hit.items() if key != "fields"}
    found: Mapping[str, Any] = alike(hit, {**clean, "fields": rest} if rest else clean)
    return found
