"""`rewriter check`: validate settings, switches and templates, and whether they can act on a cluster's indices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from rewriter.boost.templates import TemplateSet
from rewriter.cli.findings import RULES, Finding, github, sarif
from rewriter.cli.index_check import IndexCheck, check_indices
from rewriter.cli.neighbour_check import check_neighbours
from rewriter.cli.output import FAULTY, UNHEALTHY, print_json, print_line, print_table, refused
from rewriter.cli.rendered_samples import print_rendered, rendered_samples
from rewriter.cli.repeat_check import check_repeats
from rewriter.cli.spread_check import GivenSearches, check_spread
from rewriter.cli.store_check import check_stores
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.settings_file import settings_text
from rewriter.shell.background.switch_sources import refuse_wrong_switches
from rewriter.shell.template_files import drafts_of, load_templates
from rewriter.signals.affinities import signal_fields

T = TypeVar("T")
Form = Literal["text", "json", "github", "sarif"]


def check(
    settings: Annotated[Path, typer.Argument(help="The settings file.")] = Path("rewriter.toml"),
    index: Annotated[
        list[str] | None, typer.Option(help="Check these indices instead of the policies' patterns.")
    ] = None,
    opensearch: Annotated[str | None, typer.Option(help="URL of the cluster; by default the settings' hosts.")] = None,
    output: Annotated[
        Form, typer.Option("--format", help="text, json, github (annotations of a workflow) or sarif (2.1.0).")
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print what the templates render on all samples.")] = False,
    searches: Annotated[
        Path | None,
        typer.Option(help="Logged searches as NDJSON: are their scores steep or flat?", exists=True, dir_okay=False),
    ] = None,
    judged: Annotated[
        Path | None,
        typer.Option(help="Judged searches as NDJSON: the same, with nDCG.", exists=True, dir_okay=False),
    ] = None,
    body: Annotated[
        Path | None,
        typer.Option(help="The search template in Mustache, with {{query}}.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Check settings, templates and samples, and the indices of a cluster that answers.

    It starts and writes nothing. Every fault is printed with file and line; the exit code is then 2.
    """
    output = "json" if as_json else output
    if show and output not in ("text", "json"):
        raise refused([Fault("--show", f"what is rendered is no finding, and --format {output} holds findings alone")])
    given = GivenSearches(searches, judged, body)
    if body is not None and not given:
        raise refused([Fault("--body", "belongs to searches", "give --judged or --searches too")])
    found, indices, checked = _checked(settings, tuple(index or ()), opensearch, given)
    if output != "github":
        for one in checked.findings:
            print_line(f"note: {one}" if one.level == "note" else one)
    rendered = rendered_samples(found) if show and found is not None else iter(())
    if output == "github":
        for line in github(checked.findings, settings):
            typer.echo(line)
    elif output == "sarif":
        print_json(sarif(checked.findings, settings))
    elif output == "json":
        shown = {"rendered": [one.as_dict() for one in rendered]} if show else {}
        notes = [str(one) for one in checked.findings if one.level == "note"]
        faults = [asdict(one.fault) for one in checked.findings if one.level == "error"]
        print_json({"settings": settings, "policies": checked.policies, "faults": faults, "notes": notes, **shown})
    else:
        if not checked.faulty:
            _print_policies(checked.policies)
        print_rendered(rendered)
    if checked.faulty:
        raise typer.Exit(FAULTY)
    if opensearch and not indices.reached:
        raise typer.Exit(UNHEALTHY)


@dataclass(slots=True)
class _Checked:
    """The findings, notes before faults, and what is known of each policy."""

    findings: list[Finding]
    policies: dict[str, Any]

    @property
    def faulty(self) -> bool:
        return any(one.level == "error" for one in self.findings)


def _checked(
    path: Path, names: tuple[str, ...], opensearch: str | None, given: GivenSearches
) -> tuple[Settings | None, IndexCheck, _Checked]:
    faults: dict[str, list[Fault]] = {rule: [] for rule in RULES}
    notes: dict[str, list[str]] = {}
    found = _unless_faulty(faults["settings"], partial(Settings.from_toml, path))
    if found is None:
        return None, IndexCheck(), _Checked(_findings(faults, notes), {})
    stores = check_stores(found, path, settings_text(path))
    faults["store"] += stores.faults
    _unless_faulty(faults["switches"], partial(refuse_wrong_switches, found, os.environ))
    templates = _unless_faulty(faults["templates"], partial(load_templates, found)) or {}
    drafts = drafts_of(found)
    trials = _unless_faulty(faults["templates"], partial(load_templates, drafts)) if drafts.policies else {}
    faults["settings"] += _missing(found, path)
    indices = check_indices(found, path, templates, names, opensearch, trials or {})
    faults["index"] += indices.faults
    repeats, notes["repeats"] = check_repeats(found)
    notes |= {"settings": list(_open_trials(found)), "store": stores.notes, "index": indices.notes}
    notes["neighbours"] = check_neighbours(found)
    spread: dict[str, dict[str, Any]] = {}
    if given and found.policies and indices.reached:
        measured = _unless_faulty(faults["spread"], partial(check_spread, found, given, ",".join(names), opensearch))
        spread, notes["spread"] = measured or ({}, [])
    elif given:
        notes["spread"] = ["the spread of scores was not measured: no policy, or no answer of the cluster"]
    return found, indices, _Checked(_findings(faults, notes), _policies(found, templates, indices, repeats, spread))


def _findings(faults: Mapping[str, list[Fault]], notes: Mapping[str, list[str]]) -> list[Finding]:
    noted = [
        Finding.of_note(rule, text)
        for rule in ("settings", "store", "index", "repeats", "neighbours", "spread")
        for text in notes.get(rule, ())
    ]
    return noted + [Finding(rule, "error", fault) for rule in RULES for fault in faults[rule]]


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


def _open_trials(settings: Settings) -> Iterator[str]:
    for name, policy in settings.policies.items():
        if policy.trial is not None and policy.trial.header is not None:
            served = f"every search with the header {policy.trial.header} is served the draft {policy.trial.version}"
            yield f"policy {name}: {served}, which is for one's own machine"


def _policies(
    settings: Settings,
    templates: Mapping[str, TemplateSet],
    indices: IndexCheck,
    repeats: Mapping[str, Mapping[str, Any]],
    spread: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        name: {
            "index": policy.index,
            "templates": policy.templates,
            "template_version": templates[name].version if name in templates else None,
            "fields": sorted(signal_fields(policy)),
            "max_boost": policy.max_boost,
            "repeats": repeats.get(name),
            "spread": spread.get(name),
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
