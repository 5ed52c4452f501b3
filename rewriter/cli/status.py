"""`rewriter status`: how a rewriter with these settings stands, seen from this machine."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.switch_place import said
from rewriter.cli.verdict import UNHEALTHY, faults_refused, print_json, print_table
from rewriter.settings import OpenSearchSettings, Settings
from rewriter.shell.legs import cloned, connect
from rewriter.shell.status import Status
from rewriter.shell.sync import Rewriter

FIRST_ROUND_S = 15.0
POLL_S = 0.05
TIMEOUT_S = 5
NOWHERE = logging.NullHandler()


def status(
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build a rewriter from the settings, let it look around once, and print what it sees.

    The exit code is 0 where all is well, 1 where something is not, 2 where the settings have faults.
    """
    logging.getLogger("rewriter").addHandler(NOWHERE)  # a word that it hears first is no news
    with faults_refused():
        rewriter = Rewriter.from_settings(toml)
    with rewriter:
        seen = _first_round(rewriter)
    engine, answers = _engine(rewriter.settings.opensearch)
    problems = [
        *([] if answers else [f"opensearch: {engine}"]),
        *([] if seen.rounds else [f"store or cluster kept the background waiting for more than {FIRST_ROUND_S:g} s"]),
        *seen.problems,
        *_fleet_problems(seen),
    ]
    if as_json:
        print_json(seen.as_dict() | {"healthy": not problems, "problems": problems, "opensearch": engine})
    else:
        print_table(_rows(rewriter.settings, seen, engine, problems))
    if problems:
        raise typer.Exit(UNHEALTHY)


def _first_round(rewriter: Rewriter) -> Status:
    until_s = time.monotonic() + FIRST_ROUND_S
    while not (seen := rewriter.status()).rounds and time.monotonic() < until_s:
        time.sleep(POLL_S)
    return seen


def _fleet_problems(seen: Status) -> list[str]:
    """Return what other processes say is wrong with them; what they say may be anything."""
    breakers = {name: said.get("breaker") for name, said in seen.fleet.items()}
    return [
        f"process {name}: breaker {breaker.get('state')}: {breaker.get('why')}"
        for name, breaker in sorted(breakers.items())
        if isinstance(breaker, dict) and breaker.get("state") != "closed"
    ]


def _engine(settings: OpenSearchSettings) -> tuple[str, bool]:
    with cloned(connect(settings, 1), 1) as client:
        try:
            return f"ok, {client.info(request_timeout=TIMEOUT_S)['version']['number']}", True
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            return type(error).__name__, False


def _rows(settings: Settings, seen: Status, engine: str, problems: list[str]) -> list[tuple[str, str]]:
    breaker, lag = seen.breaker, seen.lag
    rows = [
        ("status", "not healthy" if problems else "healthy"),
        *(("", problem) for problem in problems),
        ("opensearch", f"{engine} ({', '.join(settings.opensearch.hosts)})"),
        ("store", seen.store or "none: no signals are read"),
        ("signals", f"{seen.population_values:,} values in the population, {len(seen.segments)} segments"),
        ("lag", "no pipeline has reported" if lag["seconds"] is None else f"{lag['seconds']:.1f} s"),
        ("breaker", f"{breaker['state']} {breaker['why']}".rstrip()),
    ]
    if seen.fleet:
        states = Counter(str((said.get("breaker") or {}).get("state")) for said in seen.fleet.values())
        rows.append(("processes", ", ".join(f"{count} with breaker {state}" for state, count in states.items())))
    rows += [(f"switch {name}", f"{said(one['is'])} by {one['by']}") for name, one in sorted(seen.switches.items())]
    for name, policy in settings.policies.items():
        fields = ", ".join(seen.policies[name]["fields"]) or "none"
        rows.append(
            (
                f"policy {name}",
                f"{', '.join(policy.index)} · {policy.templates} {seen.templates[name]} · fields {fields}",
            )
        )
    return rows
