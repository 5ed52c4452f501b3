"""The part of `rewriter check` that reads a cluster: its indices, their fields, and the queries that samples render."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from rewriter.boost.templates import TemplateSet
from rewriter.cli.causes import cause_of, own_client, rights_for
from rewriter.cli.sample_check import try_samples
from rewriter.client.seam import SearchArguments, SearchClient
from rewriter.errors import Fault
from rewriter.index_facts import IndexFacts, changed_class, dead_fields, facts_of
from rewriter.parsed_search import parse_search
from rewriter.secret import SecretUrl
from rewriter.settings import PolicySettings, Settings
from rewriter.settings_file import line_of, settings_text
from rewriter.shell.template_files import drafts_of
from rewriter.similar import did_you_mean

TIMEOUT_S = 5
PLAIN_SEARCH = {"query": {"match": {"title": "any text"}}}


@dataclass(slots=True)
class IndexCheck:
    """The result: `found` indices by policy, faults that concern all indices of a policy, and notes on the others.

    reached: whether the cluster answered.
    """

    reached: bool = False
    found: dict[str, list[str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_indices(
    settings: Settings,
    path: Path,
    templates: Mapping[str, TemplateSet],
    names: tuple[str, ...],
    url: str | None,
    trials: Mapping[str, TemplateSet] = MappingProxyType({}),
) -> IndexCheck:
    """Check the indices behind `names`, by default behind the policies' expressions, on the cluster at `url` or in the settings.

    trials: the drafts on trial, by policy.
    path: the settings file, for the positions of faults. An expression is an index, an alias, a data stream or a pattern.
    """
    checked = IndexCheck()
    reach = settings.opensearch.model_copy(update={"hosts": (SecretUrl(url),)}) if url else settings.opensearch
    for name in names:
        if settings.policy_for((name,)) is None:
            checked.faults.append(Fault(f"--index {name}", "no policy matches it", f"see [policies] in {path}"))
    with closing(own_client(reach)) as client:
        try:
            client.info(TIMEOUT_S)
        except client.errors as error:
            fault = client.fault_of(error)
            if not fault.refused:
                checked.notes.append(
                    f"{', '.join(map(str, reach.hosts))}: {cause_of(error, fault)}; no index was checked"
                )
                return checked
            checked.notes.append(f"the cluster's version was refused: {rights_for(client, 'info')}")
        checked.reached = True
        text = settings_text(path)
        for name, policy in settings.policies.items():
            own = [one for one in names if settings.policy_for((one,)) == name] if names else policy.index
            facts = _facts(client, own, checked, f"{path}:{line_of(text, ('policies', name, 'index'))}")
            checked.found[name] = sorted({index for _, index in facts})
            _judge(checked, settings, path, text, name, facts)
            known = {index: one for (_, index), one in facts.items()}
            for given, made in ((settings, templates.get(name)), (drafts_of(settings), trials.get(name))):
                if made is None:
                    continue
                faults, notes = try_samples(client, given, name, made, known)
                checked.faults += faults
                checked.notes += notes
    return checked


Facts = dict[tuple[str, str], IndexFacts]
"""Index facts by expression and by the name of an index behind it."""


def _facts(client: SearchClient, names: tuple[str, ...] | list[str], checked: IndexCheck, where: str) -> Facts:
    facts: Facts = {}
    unread = False
    unreadable: tuple[type[Exception], ...] = (*client.errors, KeyError, TypeError, ValueError)
    for name in names:
        try:
            mappings = client.get_mapping(name, {}, TIMEOUT_S)
            settings = client.get_settings(name, "", {}, TIMEOUT_S)
            found = {
                (name, one): facts_of({one: mappings[one]}, {one: settings[one]})
                for one in mappings
                if not (_is_pattern(name) and _is_system(one)) or name.startswith(".")
            }
        except unreadable as error:
            fault = client.fault_of(error)
            if fault.status != 404:
                rights = f"; {rights_for(client, 'mapping', 'settings', index=name)}" if fault.refused else ""
                checked.notes.append(f"{name}: {cause_of(error, fault)}; it was not checked{rights}")
                unread = True
                continue
            found = {}
        if not found and not _is_pattern(name):
            checked.faults.append(Fault(where, f"no index, alias or data stream is named {name}", "see `_cat/aliases`"))
        elif not found:
            checked.notes.append(f"no index matches {name}")
        facts |= found
    if names and not facts and not unread and all(map(_is_pattern, names)):
        checked.faults.append(Fault(where, "no index matches the policy", "it would never be used"))
    return facts


def _is_system(index: str) -> bool:
    """Whether an index is a system index, which a pattern like `*` leaves out. Hidden indices of data streams are no such."""
    return index.startswith(".") and not index.startswith(".ds-")


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _judge(checked: IndexCheck, settings: Settings, path: Path, text: str, name: str, facts: Facts) -> None:
    """Note the problems of a policy's indices: a fault if all of them have the problem, a note if only some have."""
    policy = settings.policies[name]
    wrong: dict[tuple[tuple[str, ...], str, str], list[str]] = {}
    for (expression, index), known in facts.items():
        for fault in (*dead_fields(policy, known), *changed_class(policy, known)):
            keys = ("policies", name, *_setting_of(policy, fault.where))
            close = "" if fault.where in known.fields else did_you_mean(fault.where, known.fields)
            remedy = " ".join(filter(None, (close, fault.remedy)))
            wrong.setdefault((keys, f"{fault.where} {fault.what}", remedy), []).append(index)
        # A search names an expression, not the index behind it; the policies' patterns are matched with the expression.
        search = parse_search(SearchArguments(expression, PLAIN_SEARCH), settings, {expression: known})
        if search.policy != name:
            wrong.setdefault(
                (("policies", name), f"its searches go to policy {search.policy!r}", "the first match is used"), []
            ).append(index)
        elif search.passed:
            wrong.setdefault(
                (
                    ("policies", name),
                    f"plain searches are passed through: {search.detail}",
                    f"see `rewriter explain {search.passed}`",
                ),
                [],
            ).append(index)
    for (keys, what, remedy), indices in wrong.items():
        fault = Fault(f"{path}:{line_of(text, keys)}", f"in {', '.join(sorted(set(indices)))}: {what}", remedy)
        if len(indices) == len(facts):
            checked.faults.append(fault)
        else:
            checked.notes.append(str(fault))


def _setting_of(policy: PolicySettings, document_field: str) -> tuple[str, ...]:
    if document_field == policy.class_field:
        return ("class_field",)
    for name, setting in policy.fields.items():
        if document_field in setting.of:
            return ("fields", name)
    return ("date_field",) if document_field == policy.date_field else ("item_field",)
