"""Can each policy act on the indices that are there: are its fields mapped, are its searches personalised at all?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensearchpy.exceptions import NotFoundError, OpenSearchException

from rewriter.errors import Fault
from rewriter.index_facts import IndexFacts, dead_fields, facts_of
from rewriter.request import read_request
from rewriter.secret import SecretUrl
from rewriter.settings import PolicySettings, Settings
from rewriter.settings_file import line_of
from rewriter.shell.legs import cloned, connect

TIMEOUT_S = 5
PLAIN_SEARCH = {"query": {"match": {"title": "words"}}}


@dataclass(slots=True)
class IndexCheck:
    """What was found: the indices of each policy, faults that hold for all of them, and notes on the rest."""

    reached: bool = False
    found: dict[str, list[str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_indices(settings: Settings, path: Path, names: tuple[str, ...], url: str | None) -> IndexCheck:
    """Look at the indices that `names`, or the policies' patterns, stand for on the cluster at `url` or of the settings."""
    checked = IndexCheck()
    reach = settings.opensearch.model_copy(update={"hosts": (SecretUrl(url),)}) if url else settings.opensearch
    for name in names:
        if settings.policy_for((name,)) is None:
            checked.faults.append(Fault(f"--index {name}", "no policy matches it", f"see [policies] in {path}"))
    with cloned(connect(reach, 1), 1) as client:
        try:
            client.info(request_timeout=TIMEOUT_S)
        except OpenSearchException as error:
            checked.notes.append(f"{', '.join(map(str, reach.hosts))}: {_said(error)}; no index was checked")
            return checked
        checked.reached = True
        for name, policy in settings.policies.items():
            own = [one for one in names if settings.policy_for((one,)) == name] if names else policy.index
            facts = _facts(client, own, checked)
            checked.found[name] = sorted(facts)
            _judge(checked, settings, path, name, facts)
    return checked


def _facts(client: Any, names: tuple[str, ...] | list[str], checked: IndexCheck) -> dict[str, IndexFacts]:
    facts: dict[str, IndexFacts] = {}
    for name in names:
        try:
            mappings = client.indices.get_mapping(index=name, request_timeout=TIMEOUT_S)
            settings = client.indices.get_settings(index=name, flat_settings=True, request_timeout=TIMEOUT_S)
            found = {
                one: facts_of({one: mappings[one]}, {one: settings[one]})
                for one in mappings
                if name.startswith(".") or not one.startswith(".")
            }
        except NotFoundError:
            found = {}
        except (OpenSearchException, KeyError, TypeError, ValueError) as error:
            checked.notes.append(f"{name}: {_said(error)}; it was not checked")
            continue
        if not found:
            checked.notes.append(f"no index is named {name}")
        facts |= found
    return facts


def _judge(checked: IndexCheck, settings: Settings, path: Path, name: str, facts: Mapping[str, IndexFacts]) -> None:
    """What is wrong in every index of a policy is a fault of the policy; what is wrong in some is worth a note."""
    text = path.read_text("utf-8")
    policy = settings.policies[name]
    wrong: dict[tuple[tuple[str, ...], str, str], list[str]] = {}
    for index, known in facts.items():
        for fault in dead_fields(policy, known):
            keys = ("policies", name, *_setting_of(policy, fault.where))
            wrong.setdefault((keys, f"{fault.where} {fault.what}", fault.remedy), []).append(index)
        request = read_request({"index": index, "body": PLAIN_SEARCH}, settings, {index: known})
        if request.policy != name:
            wrong.setdefault(
                (("policies", name), f"its searches go to policy {request.policy!r}", "the first that matches wins"), []
            ).append(index)
        elif request.passed:
            wrong.setdefault(
                (("policies", name), f"plain searches are passed through: {request.detail}", "see docs/shapes.md"), []
            ).append(index)
    for (keys, what, remedy), indices in wrong.items():
        fault = Fault(f"{path}:{line_of(text, keys)}", f"in {', '.join(sorted(indices))}: {what}", remedy)
        if len(indices) == len(facts):
            checked.faults.append(fault)
        else:
            checked.notes.append(str(fault))


def _setting_of(policy: PolicySettings, document_field: str) -> tuple[str, ...]:
    for name, setting in policy.fields.items():
        if document_field in setting.of:
            return ("fields", name)
    return ("date_field",) if document_field == policy.date_field else ("item_field",)


def _said(error: Exception) -> str:
    status = getattr(error, "status_code", "")
    return f"{type(error).__name__} {status}".rstrip() if isinstance(status, int) else type(error).__name__
