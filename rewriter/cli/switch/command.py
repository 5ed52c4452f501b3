"""`rewriter switch`: switch personalization off, or set any other switch, without a deployment.

The value is written to every target in the settings: the kill-switch file, which nothing overrides and which works while the store
is down, and the store's key, which reaches processes on other machines. Each process reads both at least twice a second, and
reports its values in the store. The command waits for these reports, and names processes that do not follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.output import UNHEALTHY, faults_refused, print_line, store_needed
from rewriter.cli.switch.change import STORE_FAILURES, change, notes
from rewriter.cli.switch.fleet import confirm
from rewriter.cli.switch.listing import list_switches
from rewriter.cli.switch.log import log_key, logged, now, print_log, who
from rewriter.cli.switch.target import DEFAULT, SwitchSource, chosen_targets, targets_of
from rewriter.decide.switch_text import canonical, parse
from rewriter.decide.switches import NAMES, SwitchValue
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.redis_store import open_store
from rewriter.signals.store import Store
from rewriter.signals.store_failures import described


def switch(
    name: Annotated[
        str | None,
        typer.Argument(help=f"One of {', '.join(NAMES)}.", show_default=False, autocompletion=lambda: list(NAMES)),
    ] = None,
    value: Annotated[
        str | None, typer.Argument(help=f"on, off or a number; {DEFAULT} removes the override.", show_default=False)
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Set it for this policy alone.")] = None,
    only: Annotated[
        SwitchSource | None, typer.Option(help="Write one target alone. The file reaches the processes that read it.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for processes to follow; 0 does not wait.", min=0)] = 3.0,
    log: Annotated[bool, typer.Option("--log", help="Print the last changes, the latest first.")] = False,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list, or the log, as JSON.")] = False,
) -> None:
    """Set a switch in every process, or list all switches.

    The service follows within a second. Audit lines and the number of processes that follow go to standard error. The exit code is
    1 if a target could not be written or a process does not follow.
    """
    with faults_refused():
        settings = Settings.from_toml(toml)
        with _shared_store(settings) as store:
            if log:
                _print_log(settings, store, name, as_json=as_json)
            elif name is None:
                list_switches(settings, targets_of(settings, store), as_json=as_json)
            else:
                _switch(settings, store, name, value, policy, only, wait)


def _switch(
    settings: Settings,
    store: Store | None,
    switch_name: str,
    value: str | None,
    policy: str | None,
    only: SwitchSource | None,
    wait_s: float,
) -> None:
    if value is None:
        raise ConfigurationError([Fault(switch_name, "needs a value", f"on, off, a number, or {DEFAULT}")])
    policies = frozenset(settings.policies)
    name = canonical(f"{policy}.{switch_name}" if policy else switch_name, policies)
    changed, targets = _value(name, value, policies), chosen_targets(targets_of(settings, store), only)
    at, by = now(), who()
    made = change(targets, only, name, changed, policies, f"{at} {by}")
    for note in notes(made, targets):
        print_line(f"note: {note}")
    followed = True
    if made.written:
        if store is not None and "store" not in made.failed:
            try:
                logged(store, log_key(settings), at, by, name, changed, made.written)
            except STORE_FAILURES as error:
                print_line(f"note: {log_key(settings)}: {described(error)}; this change is not in the log")
        if "store" in made.failed:
            print_line("not confirmed: the store, where processes announce themselves, could not be written")
        elif wait_s:
            followed = confirm(store, settings.store.prefix, made, only, wait_s)
    if made.failed or not followed:
        raise typer.Exit(UNHEALTHY)


def _print_log(settings: Settings, store: Store | None, name: str | None, *, as_json: bool) -> None:
    if name is not None:
        raise ConfigurationError([Fault("--log", "prints the changes of all switches", f"leave out {name!r}")])
    if store is None:
        raise ConfigurationError([Fault("--log", "no store that other processes read is set", "set [store] url")])
    with store_needed():
        print_log(store, log_key(settings), as_json=as_json)


@contextmanager
def _shared_store(settings: Settings) -> Iterator[Store | None]:
    """Open the store that other processes read, if there is one."""
    store = open_store(settings.store.plain_urls[0])
    try:
        yield None if isinstance(store, MemoryStore) else store
    finally:
        if store is not None:
            store.close()


def _value(name: str, value: str, policies: frozenset[str]) -> SwitchValue | None:
    """Return the typed value of a switch from its text, None for `default`. Raises ConfigurationError for a wrong one."""
    if value == DEFAULT:
        return None
    read = parse(json.dumps({name: value}), name, policies)
    if read.faults or read.foreign:
        raise ConfigurationError([*read.faults, *read.foreign])
    return read.values[name]
