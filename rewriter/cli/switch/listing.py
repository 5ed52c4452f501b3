"""The list of switches: the value of each on this machine, and its source."""

from __future__ import annotations

import os

import typer

from rewriter.cli.output import UNHEALTHY, print_json, print_line, print_table
from rewriter.cli.switch.change import FAILURES
from rewriter.cli.switch.target import SwitchTarget, written_as
from rewriter.decide.switch_text import from_environment, parse
from rewriter.decide.switches import BOOLEANS, OTHERS, SHARES, Switches, SwitchValue, combined
from rewriter.settings import Settings
from rewriter.signals.store_failures import described


def list_switches(settings: Settings, targets: list[SwitchTarget], *, as_json: bool) -> None:
    """Print all switches. A target that cannot be read is left out, and the exit code is then 1."""
    policies = frozenset(settings.policies)
    texts: dict[str, str] = {}
    failed = False
    for target in targets:
        try:
            texts[target.source] = target.read()
        except FAILURES as error:
            print_line(f"{target.where}: {described(error)}")
            failed = True
    where = {target.source: target.where for target in targets}
    reads = {
        "store": parse(texts.get("store", ""), where.get("store", ""), policies),
        "environment": from_environment(os.environ, policies),
        "file": parse(texts.get("file", ""), where.get("file", ""), policies),
    }
    switches = combined((source, read.values) for source, read in reads.items())
    for read in reads.values():
        for fault in (*read.faults, *read.foreign):
            print_line(f"note: {fault}")
    rows = _rows(settings, switches)
    if as_json:
        print_json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        print_table(
            [("switch", "value", "source"), *((name, written_as(value), source) for name, value, source in rows)]
        )
    if failed:
        raise typer.Exit(UNHEALTHY)


def _rows(settings: Settings, switches: Switches) -> list[tuple[str, SwitchValue, str]]:
    defaults: dict[str, SwitchValue] = {
        **{name: getattr(settings.switches, name) for name in BOOLEANS},
        **{name: getattr(settings.experiment, name) for name in SHARES},
        **{f"{policy}.{name}": getattr(one, name) for policy, one in settings.policies.items() for name in OTHERS},
    }
    rows = []
    for name in {**defaults, **dict.fromkeys(sorted(switches.values))}:
        policy, _, switch_name = name.rpartition(".")
        default = defaults.get(name, defaults.get(switch_name, True))
        source = switches.sources.get(name) or switches.sources.get(switch_name) or "settings"
        rows.append((name, switches.of(switch_name, policy or None, default), source))
    return rows
