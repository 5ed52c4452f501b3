"""The choice of facets: fields with values that several documents share and that people may prefer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import mean

from rewriter.cli.init.choices import Chosen, Facet, LeftOut
from rewriter.cli.init.fields import why_dead
from rewriter.cli.init.figures import share_of, shown_values
from rewriter.cli.init.index_profile import FieldValues, IndexProfile
from rewriter.cli.init.names import suggests_coded, suggests_facet, suggests_person, suggests_technical
from rewriter.index_facts import NUMBERS
from rewriter.plural import count_of
from rewriter.policy_settings import RESERVED
from rewriter.toml_text import quoted

MAX_FACETS = 4
"""Most facets chosen. Each one adds functions to every search, and all of them share the subject's counters."""
MIN_SHARED = 3.0
"""Fewest documents per value on average: with fewer, a liked value says little about other documents."""
MAX_TOP_SHARE = 0.95
"""Largest share of the documents with one value: above it, the field distinguishes hardly any two documents."""
MIN_COVERAGE = 0.05
MAX_CHARS = 80
"""Longest values on average, in characters: longer ones are texts, not properties."""
LIKE_IDENTIFIERS = re.compile(
    r"\S+@\S+\.\w+|[a-z][a-z0-9+.-]*://.*|/\S*|\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|[0-9a-f]{24,}"
)
"""Addresses of mail, the web and machines, paths, UUIDs and hashes."""


def found_facets(profile: IndexProfile) -> tuple[list[Facet], list[LeftOut]]:
    """Return the fields that look like facets, the best first, and the others."""
    scored: list[tuple[float, Facet]] = []
    left_out: list[LeftOut] = []
    seen: dict[str, str] = {}
    for one in sorted(profile.values.values(), key=lambda one: (one.name in profile.alias_fields, one.name)):
        if dead := why_dead(one.name, profile):
            left_out.append(LeftOut(one.name, dead))
            continue
        if twin := seen.get(profile.source_field(one.name)):
            left_out.append(LeftOut(one.name, f"holds the values of {quoted(twin)}"))
            continue
        if one.name in profile.alias_fields:
            left_out.append(LeftOut(one.name, "is an alias of another field"))
            continue
        why_not, is_possible = _why_no_facet(one, profile)
        if why_not:
            left_out.append(LeftOut(one.name, why_not, is_possible))
            continue
        seen[profile.source_field(one.name)] = one.name
        facet = Facet("", one.name, tuple(value for value, _ in one.top[:3]), _why_facet(one, profile))
        scored.append((_worth(one, profile), facet))
    return [facet for _, facet in sorted(scored, key=lambda pair: (-pair[0], pair[1].field))], left_out


def _why_no_facet(one: FieldValues, profile: IndexProfile) -> tuple[str, bool]:
    """Return why a field is not a facet, or "", and whether it could be counted nevertheless."""
    figures = f"{count_of(one.distinct, 'value')} in {count_of(one.documents, 'document')}"
    if not one.documents:
        return "no document has a value", False
    if suggests_person(one.name):
        return f"{figures}; by its name it identifies people", False
    if sum(LIKE_IDENTIFIERS.fullmatch(value) is not None for value, _ in one.top) * 2 > len(one.top):
        return f"{figures}; most look like addresses, paths or hashes", False
    if one.distinct == 1:
        return "all documents that have a value have the same one", False
    if one.shared_by < MIN_SHARED:
        return f"{figures}, {one.shared_by:.1f} documents a value: it identifies documents and groups hardly any", False
    if one.documents < MIN_COVERAGE * profile.measured:
        return f"only {share_of(one.documents, profile.measured)} of the documents have a value", True
    if (top := one.top[0][1] / one.documents if one.top else 0.0) > MAX_TOP_SHARE:
        return f"{top:.0%} of the documents with a value have the same one", True
    if one.top and mean(len(value) for value, _ in one.top) > MAX_CHARS:
        return f"its values are texts of more than {MAX_CHARS} characters on average", False
    if one.kind in NUMBERS and not suggests_coded(one.name):
        return f"{figures}; a number: most are amounts, of which nobody prefers an exact one", True
    if suggests_technical(one.name):
        return f"{figures}; by its name it describes the record", True
    return "", False


def _why_facet(one: FieldValues, profile: IndexProfile) -> str:
    several = f", {one.per_document:.1f} values a document" if one.per_document > 1.05 else ""
    return (
        f"{count_of(one.distinct, 'value')} in {share_of(one.documents, profile.measured)} of the documents{several},"
        f" {count_of(round(one.shared_by), 'document')} a value; most frequent: {shown_values(one)}"
    )


def _worth(one: FieldValues, profile: IndexProfile) -> float:
    """Return how well a facet distinguishes documents: its coverage times the chance that two documents differ in it."""
    alike = sum((count / one.occurrences) ** 2 for _, count in one.top)
    worth = min(one.documents / max(profile.measured, 1), 1.0) * (1.0 - min(alike, 1.0))
    return worth * (1.5 if suggests_facet(one.name) else 1.0)


def kept_facets(facets: Sequence[Facet], category: Chosen, profile: IndexProfile) -> list[Facet]:
    """Return at most MAX_FACETS facets, the class among them."""
    first = [one for one in facets if profile.source_field(one.field) == category.field]
    return sorted([*first, *(one for one in facets if one not in first)][:MAX_FACETS], key=facets.index)


def with_names(facets: Sequence[Facet]) -> list[Facet]:
    """Give each facet a unique name that the settings accept."""
    taken, named = set(RESERVED), []
    for facet in facets:
        name = setting_name(facet.field, taken)
        taken.add(name)
        named.append(Facet(name, facet.field, facet.values, facet.why))
    return named


def setting_name(field: str, taken: Iterable[str]) -> str:
    """Return an unused name for a field that the settings accept: `brand` for `brand.keyword`."""
    own = re.sub(r"\.(keyword|raw|exact)$", "", field).rpartition(".")[2]
    base = re.sub(r"[^A-Za-z0-9_-]+", "_", own).strip("_")[:56] or "field"
    names = [base, *(f"{base}_{number}" for number in range(2, len(set(taken)) + 3))]
    return next(one for one in names if one not in set(taken))
