"""The fields on which a boost finds nothing, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rewriter.cli.init.choices import LeftOut
from rewriter.cli.init.figures import plain
from rewriter.cli.init.index_profile import IndexProfile
from rewriter.index_facts import WHOLE_VALUES, dead_fields
from rewriter.settings import FieldSettings, PolicySettings
from rewriter.toml_text import quoted


def why_dead(name: str, profile: IndexProfile) -> str:
    """Return why a boost on a field would find nothing, or ""."""
    policy = PolicySettings(index=("x",), fields={"f": FieldSettings(of=(name,))})
    found = [fault for fault in dead_fields(policy, profile.facts) if fault.where == name]
    return f"{found[0].what} ({found[0].remedy})" if found else ""


def why_dead_date(name: str, profile: IndexProfile) -> str:
    """Return why a decay function on a date would fail or find nothing, or ""."""
    for parent, kind in profile.facts.fields.items():
        if kind == "nested" and name.startswith(f"{parent}."):
            return f"lies in the nested objects of {plain(parent)}"
    policy = PolicySettings(index=("x",), date_field=name)
    return next((fault.what for fault in dead_fields(policy, profile.facts) if fault.where == name), "")


def unusable(profile: IndexProfile) -> Iterator[LeftOut]:
    """Yield the fields that were not measured and could have been facets, had they been mapped otherwise."""
    known = {*profile.values, *profile.dates}
    for fault in profile.unmeasured:
        known.add(fault.where)
        yield LeftOut(fault.where, fault.what)
    for name in (*profile.facts.fields, *profile.facts.differing):
        kinds = set(profile.facts.kinds(name))
        if name in known or name.startswith("_") or kinds & {"object"}:
            continue
        if "nested" in kinds:
            yield LeftOut(
                name, "holds nested objects, on whose fields a boost finds nothing; copy what matters to a keyword"
            )
        elif "flat_object" in kinds:
            yield LeftOut(
                name, f"is a flat object; name one of its keys, as `of = [{quoted(name + '.KEY')}]`", is_possible=False
            )
        elif kinds & WHOLE_VALUES:
            dead = why_dead(name, profile)
            yield LeftOut(name, dead or "has no doc values, so its values cannot be counted here", not dead)


def texts_without_keyword(facts_fields: Mapping[str, str]) -> list[str]:
    """Return the text fields without a keyword sub-field, on which no boost can act."""
    return [
        name
        for name, kind in sorted(facts_fields.items())
        if kind in ("text", "match_only_text")
        and not any(other.startswith(f"{name}.") and its in WHOLE_VALUES for other, its in facts_fields.items())
        and name.rpartition(".")[0] not in facts_fields
    ]
