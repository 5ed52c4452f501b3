"""Attributes within the class that a policy does not count yet, and that `rewriter tune` may add to it.

They are facets by the rules of `rewriter init`. A facet of which documents of one class have nearly always the same value is left
out: within the class it tells nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rewriter.cli.init.facets import found_facets, setting_name
from rewriter.cli.init.found_index import found_index, named_indices
from rewriter.cli.init.index_profile import measure
from rewriter.client.seam import SearchClient
from rewriter.evaluate.space import MAX_ADDED
from rewriter.settings import PolicySettings
from rewriter.signals.events import leaf, texts

if TYPE_CHECKING:
    from rewriter.evaluate.past import Past

LEAST_IN_CLASS = 1.5
"""Fewest values of a facet within one class, in the mean over documents."""
MOST_CONSIDERED = 12
"""Most facets whose values are read."""


def fields_within_class(
    client: SearchClient, index: str, policy: PolicySettings, others: Iterable[PolicySettings] = ()
) -> dict[str, tuple[str, str]]:
    """Return signal fields of the class field and one facet each, by name: those that the policy does not have.

    others: the other policies of the settings, whose names mean other fields. Raises the client's errors.
    """
    if not policy.class_field:
        return {}
    profile = measure(client, found_index(client, named_indices(index)), int(time.time() * 1000), lambda *_: None)
    if policy.class_field not in profile.values:
        return {}  # a text: profiles keep nothing by the class of its sub-field
    has = {field.of for field in policy.fields.values()}
    taken = {"item", *policy.fields, *(name for other in others for name in other.fields)}
    found: dict[str, tuple[str, str]] = {}
    for facet in found_facets(profile)[0]:
        of = (policy.class_field, facet.field)
        if facet.field == policy.class_field or of in has or len(found) == MOST_CONSIDERED:
            continue
        name = setting_name(f"{_short(policy.class_field)}_{_short(facet.field)}", taken)
        taken.add(name)
        found[name] = of
    return found


def telling(added: Mapping[str, tuple[str, str]], past: Past) -> dict[str, tuple[str, str]]:
    """Return the first MAX_ADDED of the fields whose facet has several values within a class, in the history's documents."""
    return dict([one for one in added.items() if _in_class(past, *one[1]) >= LEAST_IN_CLASS][:MAX_ADDED])


def _in_class(past: Past, class_field: str, facet: str) -> float:
    values: dict[str, set[str]] = {}
    documents: dict[str, int] = {}
    for document in filter(None, past.documents):
        for name in texts(leaf(document, class_field))[:1]:
            documents[name] = documents.get(name, 0) + 1
            values.setdefault(name, set()).update(texts(leaf(document, facet)))
    count = sum(documents.values())
    return sum(len(values[name]) * number for name, number in documents.items()) / count if count else 0.0


def _short(field: str) -> str:
    return field.removesuffix(".keyword").rpartition(".")[2]
