"""Suggestions for faults of templates: the name that was probably meant. For checks, not for the request path."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from jinja2 import Environment

from rewriter.boost.functions import DECAYS, LEAF_QUERIES
from rewriter.settings import PolicySettings
from rewriter.signals.affinities import Affinity
from rewriter.similar import did_you_mean

CLAUSES = LEAF_QUERIES | {"bool", "nested", "constant_score"}
FUNCTION_KEYS = frozenset({"filter", "weight", "random_score"}) | DECAYS
OF_DICTS = frozenset({"events", "indices", "from", "size", "body"})
"""Keys of `session` and `request`."""

_Known = Callable[[Environment], Collection[str]]
FORMS: tuple[tuple[re.Pattern[str], _Known], ...] = (
    (re.compile(r"Affinity object' has no attribute '(\w+)'"), lambda _: Affinity._fields),
    (re.compile(r"PolicySettings object' has no attribute '(\w+)'"), lambda _: PolicySettings.model_fields),
    (re.compile(r"dict object' has no attribute '(\w+)'"), lambda _: OF_DICTS),
    (re.compile(r"No filter named '(\w+)'"), lambda jinja: jinja.filters),
    (re.compile(r"No test named '(\w+)'"), lambda jinja: jinja.tests),
    (re.compile(r"the query `(\w+)` is not allowed"), lambda _: CLAUSES),
    (re.compile(r"'(\w+)' not allowed here; only"), lambda _: FUNCTION_KEYS),
)
"""The wording of a fault, in Jinja2 or in `functions`, and the names that could have been meant."""


def suggested(what: str, jinja: Environment) -> str:
    """Return "did you mean NAME?" for a fault's text that quotes a misspelled name, otherwise ""."""
    for form, known in FORMS:
        if found := form.search(what):
            return did_you_mean(found[1], known(jinja))
    return ""
