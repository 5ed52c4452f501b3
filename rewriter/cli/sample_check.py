"""Validation of the queries that a policy's samples render, on the indices themselves.

`_validate/query` parses the query on a shard of each index as a search would, and runs nothing. It finds a decay function on a
field that is not mapped, or a value that a field's type refuses, before a search fails with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rewriter.boost.body import envelope
from rewriter.boost.samples import Sample, fitting
from rewriter.boost.templates import TemplateSet, render_boosts, render_exploration
from rewriter.cli.causes import cause_of, rights_for
from rewriter.client.seam import SearchClient
from rewriter.errors import Fault
from rewriter.index_facts import IndexFacts
from rewriter.settings import PolicySettings
from rewriter.shell.template_files import template_files, template_folder

TIMEOUT_S = 5
MAX_CHARS = 200


def try_samples(
    client: SearchClient, settings: Any, name: str, templates: TemplateSet, facts: Mapping[str, IndexFacts]
) -> tuple[list[Fault], list[str]]:
    """Return the faults of the queries that a policy's samples render, and notes on those not tried or refused by some indices.

    facts: index facts by concrete index of the policy. A query that an index's mapping rules out is not tried there.
    """
    policy: PolicySettings = settings.policies[name]
    folder = template_folder(settings, policy.templates)
    samples = _samples(template_files(folder))
    faults: dict[tuple[str, str], list[str]] = {}
    for index, known in facts.items():
        for label, query in _queries(templates, policy, known, samples):
            try:
                found = client.validate_query(index, query, TIMEOUT_S)
            except client.errors as error:
                meaning = client.fault_of(error)
                remedy = f"; {rights_for(client, 'validate', index=index)}" if meaning.refused else ""
                return [], [f"{index}: {cause_of(error, meaning)}; the samples' queries were not tried on it{remedy}"]
            if not found.get("valid"):
                faults.setdefault((label, _reason(found)), []).append(index)
    found_faults: list[Fault] = []
    notes: list[str] = []
    refusing: dict[str, set[str]] = {}
    for (label, _), indices in faults.items():
        refusing.setdefault(label, set()).update(indices)
    for (label, reason), indices in faults.items():
        what = f"in {', '.join(sorted(indices))}: the server refuses the rendered query: {reason}"
        fault = Fault(f"{folder}: {label}", what)
        if refusing[label] == facts.keys():
            found_faults.append(fault)
        else:
            notes.append(str(fault))
    return found_faults, notes


def _queries(
    templates: TemplateSet, policy: PolicySettings, known: IndexFacts, samples: Mapping[str, Sample]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for label, sample in {**samples, **fitting(policy, known.fields)}.items():
        affinities, session, request = sample.given()
        boosts = render_boosts(templates, affinities, session, request, policy)
        if boosts:
            yield label, {"function_score": {"query": {"match_all": {}}, **envelope(boosts, policy.max_boost)}}
        exploration = render_exploration(templates, request, policy)
        if exploration.filters or exploration.functions:
            query = {"bool": {"must": [{"match_all": {}}], "filter": list(exploration.filters)}}
            bounds = envelope(exploration.functions, policy.max_boost)
            yield f"{label} (exploration)", {"function_score": {"query": query, **bounds}}


def _samples(files: Mapping[str, str]) -> dict[str, Sample]:
    return {
        name: Sample.model_validate(json.loads(text)) for name, text in files.items() if name.startswith("samples/")
    }


def _reason(found: Mapping[str, Any]) -> str:
    explained = found.get("explanations") or [found]
    error = next((one["error"] for one in explained if one.get("error")), "it gives no reason")
    return str(error)[:MAX_CHARS]
