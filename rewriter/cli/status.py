"""`rewriter status`: print the state of the service, seen from this machine.

The command builds a rewriter of its own, which reads store, cluster, switches and templates once. The state of the service's
processes (breakers, permits, quarantine, arms) comes from the reports that they write into the store. A problem of any process
counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.causes import cause_of, own_client, quiet
from rewriter.cli.dead_letters import dead_letter_rows
from rewriter.cli.neighbour_check import check_neighbours
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_table
from rewriter.cli.status_fleet import problems_of, sums, table, unwell
from rewriter.cli.store_check import unwritable
from rewriter.cli.switch.target import written_as
from rewriter.decide.switches import Switches
from rewriter.plural import count_of
from rewriter.settings import OpenSearchSettings, Settings
from rewriter.shell.fleet import process_of
from rewriter.shell.status import Status
from rewriter.shell.sync import Rewriter
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.repeats import in_words

FIRST_ROUND_S = 15.0
POLL_S = 0.05
TIMEOUT_S = 5
MAX_INDICES = 8
NOWHERE = logging.NullHandler()


def status(
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build a rewriter from the settings, read everything once, and print the state of the service.

    The exit code is 0 without problems, 1 with problems, 2 with faults in the settings.
    """
    logging.getLogger("rewriter").addHandler(NOWHERE)  # the first read of a switch would be logged as a change
    with faults_refused():
        rewriter = Rewriter.from_settings(toml)
    quiet(rewriter.settings.opensearch)
    with rewriter:
        seen = _first_round(rewriter)
    seen = replace(seen, notes=(*seen.notes, *check_neighbours(rewriter.settings)))
    engine, answers = _engine(rewriter.settings.opensearch)
    hosts = ", ".join(map(str, rewriter.settings.opensearch.hosts))
    problems = [
        *([] if answers else [f"opensearch {hosts}: {engine}"]),
        *([] if seen.rounds else [f"store and cluster could not both be read within {FIRST_ROUND_S:g} s"]),
        *(
            one
            for one in seen.problems
            if answers or not (one.startswith("facts of ") and engine.startswith(one.rpartition(": ")[2]))
        ),
        *(unwritable(rewriter.settings) if seen.store == "ok" else []),
    ]
    fleet = [process_of(name, report) for name, report in sorted(seen.fleet.items())]
    everywhere = [*problems, *problems_of(fleet)]
    letters, letter_rows = dead_letter_rows(rewriter.settings)
    if as_json:
        print_json(seen.as_dict() | letters | {"healthy": not everywhere, "problems": everywhere, "opensearch": engine})
    else:
        shown = [*problems, *([unwell(fleet)] if unwell(fleet) else [])]
        print_table(_rows(rewriter.settings, seen, engine, answers, shown, [*letter_rows, *sums(fleet, seen.store)]))
        if fleet:
            typer.echo()
            print_table(table(fleet, _switches(seen)))
    if everywhere:
        raise typer.Exit(UNHEALTHY)


def _first_round(rewriter: Rewriter) -> Status:
    until_s = time.monotonic() + FIRST_ROUND_S
    while not (seen := rewriter.status()).rounds and time.monotonic() < until_s:
        time.sleep(POLL_S)
    return seen


def _switches(seen: Status) -> Switches:
    return Switches({name: one["value"] for name, one in seen.switches.items()})


def _engine(settings: OpenSearchSettings) -> tuple[str, bool]:
    client = own_client(settings)
    try:
        return f"ok, {client.info(TIMEOUT_S)['version']['number']}", True
    except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
        return cause_of(error, client.fault_of(error)), False
    finally:
        client.close()


def _rows(
    settings: Settings, seen: Status, engine: str, answers: bool, problems: list[str], fleet: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    rows = [
        ("status", "not healthy" if problems else "healthy"),
        *(("", problem) for problem in problems),
        *(("note", note) for note in seen.notes),
        (
            settings.opensearch.client,
            f"{engine if answers else 'no answer'} ({', '.join(map(str, settings.opensearch.hosts))})",
        ),
        ("store", _store(settings, seen.store)),
        *_signals(seen),
        *fleet,
    ]
    rows += [
        (f"switch {name}", f"{written_as(one['value'])} by {one['source']}")
        for name, one in sorted(seen.switches.items())
    ]
    for name, policy in settings.policies.items():
        fields = ", ".join(seen.policies[name]["fields"]) or "none"
        rows.append(
            (
                f"policy {name}",
                f"{', '.join(policy.index)} · {policy.templates} {seen.templates[name]} · fields {fields}",
            )
        )
        if ITEM in seen.policies[name]["fields"] and _is_read(seen):
            rows.append(("", in_words(seen.policies[name]["repeats"], policy.item_scale, policy.item_use)))
    indices = sorted(seen.indices.items())
    rows += [(f"index {name}", _facts(facts)) for name, facts in indices[:MAX_INDICES]]
    if len(indices) > MAX_INDICES:
        rows.append(("", f"and {count_of(len(indices) - MAX_INDICES, 'more index')}: --json shows all"))
    return rows


def _is_read(seen: Status) -> bool:
    """Return whether what the store holds is known: it answers, or nothing is asked of one."""
    return seen.store is None or seen.store == "ok"


def _signals(seen: Status) -> list[tuple[str, str]]:
    if not _is_read(seen):
        return [(name, "unknown: the store does not answer") for name in ("signals", "lag")]
    held = f"{count_of(seen.population_values, 'value')} in the population, {count_of(len(seen.segments), 'segment')}"
    lag_s = seen.lag["seconds"]
    return [("signals", held), ("lag", "no pipeline has reported" if lag_s is None else f"{lag_s:.1f} s")]


def _store(settings: Settings, store: str | None) -> str:
    if store is None:
        return "none: no signals are read"
    where = str(settings.store.url or "as given")
    if store == "ok":
        return f"ok ({where})"
    return "no answer" if where in store else f"no answer ({where})"  # the problem may name it


def _facts(facts: Mapping[str, int]) -> str:
    replicas = facts["replicas"]
    return f"{count_of(replicas, 'replica')}, max_result_window {facts['max_result_window']:,}"
