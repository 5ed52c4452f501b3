"""Confirmation that processes follow a change of a switch, from the reports that they write into the store.

A process that searches reports regularly, and at once after a switch has changed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rewriter.cli.output import print_line
from rewriter.cli.switch.change import STORE_FAILURES, Change
from rewriter.cli.switch.target import SwitchSource, written_as
from rewriter.decide.switches import Switches
from rewriter.errors import Fault
from rewriter.plural import count_of
from rewriter.shell.background.refresh import ANNOUNCE_PERIOD_S, SWITCHES_PERIOD_S
from rewriter.shell.fleet import ProcessReport, fleet_key, parse_report, process_of
from rewriter.signals.commands import ANNOUNCED_S, MAX_ANNOUNCED
from rewriter.signals.store import Store
from rewriter.signals.store_failures import described

POLL_S = 0.1
NAMED = 20
NO_PROCESS = f"no process has announced itself in the last {ANNOUNCED_S} s"
SILENT = "it has ended, or does not reach the store"
REMEDIES = {
    "file": "its kill-switch file overrides the change: change that file, and correct its faults",
    "environment": "restart it without that variable, or write a kill-switch file that it reads",
    "store": "it has not read the key since the change",
    "": "it has read none of the targets",
}


@dataclass(frozen=True, slots=True)
class FleetReports:
    """The fleet's reports at one time, by process.

    texts: the reports' JSON.
    why:   why a process does not follow, None if it follows.
    """

    texts: Mapping[str, str]
    why: Mapping[str, Fault | None]

    @property
    def follow(self) -> int:
        """The number of processes that follow."""
        return sum(not why for why in self.why.values())


def confirm(store: Store | None, prefix: str, made: Change, only: SwitchSource | None, wait_s: float) -> bool:
    """Wait until each process that reported itself follows, `wait_s` at most. Print how many do, and name those that do not.

    Returns False if one does not. After a change of the file alone, only processes on this machine are waited for.
    """
    if store is None:
        print_line("not confirmed: there is no store where processes announce themselves")
        return True
    machine = socket.gethostname() if only == "file" else ""
    began_s = time.monotonic()
    first: FleetReports | None = None
    while True:
        try:
            seen = _read_reports(store, prefix, made)
            failure = ""
        except STORE_FAILURES as error:
            seen, failure = FleetReports({}, {}), described(error)
        first = first or (None if failure else seen)
        here, elsewhere = _split(seen, machine)
        waited_s = time.monotonic() - began_s
        if (not failure and here.follow == len(here.why)) or waited_s >= wait_s:
            break
        time.sleep(POLL_S)
    if failure:
        print_line(f"not confirmed: the store does not answer: {failure}")
        return True
    return _print_followers(
        here, elsewhere, machine, first if waited_s >= ANNOUNCE_PERIOD_S + SWITCHES_PERIOD_S else None
    )


def why_not(made: Change, process: ProcessReport) -> Fault | None:
    """Return why a process does not follow a change, or None if it follows."""
    switches = process.switches
    if switches is None:
        return Fault(process.name, "its report holds no switches that can be read")
    policy, _, general = made.name.rpartition(".")
    rules = general if policy and made.name not in switches.values else made.name
    against = []
    if made.value is None:
        against += [made.name] if made.name in switches.values else []
    else:
        against += [rules] if switches.values.get(rules) != made.value else []
        if not policy:
            against += [
                other
                for other, its in switches.values.items()
                if other.endswith(f".{made.name}") and its != made.value and (other, its) not in made.stays
            ]
    if not against:
        return None
    differences = ", ".join(f"{one} {value_by(switches, one)}" for one in against)
    return Fault(process.name, differences, REMEDIES.get(switches.sources.get(against[0], ""), ""))


def value_by(switches: Switches, name: str) -> str:
    """Return a switch's value and source, as texts for people: `off by file`."""
    value = switches.values.get(name)
    return "as set by its settings" if value is None else f"{written_as(value)} by {switches.sources[name]}"


def _read_reports(store: Store, prefix: str, made: Change) -> FleetReports:
    texts = store.announced(fleet_key(prefix))
    return FleetReports(texts, {one: why_not(made, process_of(one, parse_report(text))) for one, text in texts.items()})


def _split(seen: FleetReports, machine: str) -> tuple[FleetReports, FleetReports]:
    """Return the reports of the processes on `machine` ("" for all), and those of the others."""
    here = {one: why for one, why in seen.why.items() if not machine or one.startswith(f"{machine}:")}
    return FleetReports(seen.texts, here), FleetReports(
        seen.texts, {one: why for one, why in seen.why.items() if one not in here}
    )


def _print_followers(here: FleetReports, elsewhere: FleetReports, machine: str, first: FleetReports | None) -> bool:
    """Print how many processes follow and who does not. Returns whether all do.

    first: the first reports, if they are so old that every running process has reported again since.
    """
    others = f"; elsewhere in {elsewhere.follow} of {len(elsewhere.why)}" if elsewhere.why else ""
    if not here.why:
        print_line(f"not confirmed: {NO_PROCESS}{f' on {machine}' if machine else ''}{others}")
        return True
    latest = f" that announced themselves last, of {MAX_ANNOUNCED} at most" if len(here.texts) >= MAX_ANNOUNCED else ""
    where = f" on {machine}" if machine else ""
    print_line(f"in effect in {here.follow} of {count_of(len(here.why), 'process')}{where}{latest}{others}")
    behind = [(one, why) for one, why in sorted(here.why.items()) if why is not None]
    for one, why in behind[:NAMED]:
        is_silent = first is not None and first.texts.get(one) == here.texts[one]
        print_line(Fault(why.where, f"{why.what}, and has not reported since", SILENT) if is_silent else why)
    if len(behind) > NAMED:
        print_line(f"and {len(behind) - NAMED} more: `rewriter status` shows all")
    return not behind
