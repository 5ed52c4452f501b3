"""`rewriter check`: validate settings, switches and templates, and whether they can act on a cluster's indices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rewriter.boost.templates import TemplateSet
from rewriter.cli.index_check import IndexCheck, check_indices
from rewriter.cli.output import FAULTY, UNHEALTHY, print_json, print_table, say
from rewriter.cli.repeat_check import check_repeats
from rewriter.cli.store_check import StoreCheck, check_stores
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.shell.switch_sources import refuse_wrong_switches
from rewriter.shell.template_files import load_templates
from rewriter.signals.affinities import signal_fields

T = TypeVar("T")


def check(
    settings: Annotated[Path, typer.Argument(help="The settings file.")] = Path("rewriter.toml"),
    index: Annotated[
        list[str] | None, typer.Option(help="Check these indices instead of the policies' patterns.")
    ] = None,
    opensearch: Annotated[str | None, typer.Option(help="URL of the cluster; by default the settings' hosts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, templates and samples, and the indices of a cluster that answers.

    It starts and writes nothing. Every fault is printed with file and line; the exit code is then 2.
    """
    faults: list[Fault] = []
    templates: Mapping[str, TemplateSet] = {}
    indices, stores = IndexCheck(), StoreCheck()
    repeats: Mapping[str, Mapping[str, Any]] = {}
    repeat_notes: list[str] = []
    found = _unless_faulty(faults, partial(Settings.from_toml, settings))
    if found is not None:
        stores = check_stores(found, settings, settings.read_text("utf-8-sig"))
        faults += stores.faults
        _unless_faulty(faults, partial(refuse_wrong_switches, found, os.environ))
        templates = _unless_faulty(faults, partial(load_templates, found)) or {}
        faults += _missing(found, settings)
        indices = check_indices(found, settings, templates, tuple(index or ()), opensearch)
        faults += indices.faults
        repeats, repeat_notes = check_repeats(found)
    notes = [*stores.notes, *indices.notes, *repeat_notes]
    for note in notes:
        say(f"note: {note}")
    for fault in faults:
        say(fault)
    policies = _policies(found, templates, indices, repeats) if found is not None else {}
    if as_json:
        print_json({"settings": settings, "policies": policies, "faults": list(map(asdict, faults)), "notes": notes})
    elif not faults:
        _print_policies(policies)
    if faults:
        raise typer.Exit(FAULTY)
    if opensearch and not indices.reached:
        raise typer.Exit(UNHEALTHY)


def _unless_faulty(faults: list[Fault], make: Callable[[], T]) -> T | None:
    try:
        return make()
    except ConfigurationError as error:
        faults += error.faults
        return None


def _missing(settings: Settings, path: Path) -> list[Fault]:
    """Return the fault of a valid file without a policy: nothing would be personalized, and nothing would report it."""
    if settings.policies:
        return []
    return [Fault(str(path), "there is no policy: nothing will be personalized", "add [policies.NAME] with index = …")]


def _policies(
    settings: Settings,
    templates: Mapping[str, TemplateSet],
    indices: IndexCheck,
    repeats: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        name: {
            "index": policy.index,
            "templates": policy.templates,
            "template_version": templates[name].version if name in templates else None,
            "fields": sorted(signal_fields(policy)),
            "max_boost": policy.max_boost,
            "repeats": repeats.get(name),
            "indices": indices.found.get(name, []),
        }
        for name, policy in settings.policies.items()
    }


def _print_policies(policies: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [["policy", "index", "templates", "version", "fields", "max_boost", "indices found"]]
    for name, policy in policies.items():
        rows.append(
            [
                name,
                ", ".join(policy["index"]),
                policy["templates"],
                policy["template_version"],
                ", ".join(policy["fields"]),
                f"{policy['max_boost']:g}",
                ", ".join(policy["indices"]) or "–",
            ]
        )
    print_table(rows)
