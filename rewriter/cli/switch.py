"""`rewriter switch`: turn personalisation off, or any switch to another word, without a deployment.

The word goes to the kill-switch file where the settings name one, since nothing overrides it, else to the store's key. Each
process of the service reads both twice a second.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.switch_place import DEFAULT, Place, edited, place_of, said
from rewriter.cli.verdict import UNHEALTHY, faults_refused, print_json, print_table, say, store_needed
from rewriter.decide.switches import BOOLEANS, OTHERS, SHARES, Switches, Word, combined, from_environment, parse
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.redis_store import open_store

NAMES = ", ".join(BOOLEANS + SHARES + OTHERS)


def switch(
    name: Annotated[str | None, typer.Argument(help=f"One of {NAMES}.", show_default=False)] = None,
    value: Annotated[
        str | None, typer.Argument(help=f"on, off or a number; {DEFAULT} takes the word back.", show_default=False)
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Of this policy alone.")] = None,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Set a switch, or list all of them. The service follows within a second; who changed what goes to standard error."""
    with faults_refused():
        settings = Settings.from_toml(toml)
        if name is None:
            _list(settings, as_json=as_json)
            return
        if value is None:
            raise ConfigurationError([Fault(name, "needs a value", f"on, off, a number, or {DEFAULT}")])
        full_name = f"{policy}.{name}" if policy else name
        word = _word(full_name, value, frozenset(settings.policies))
        place = place_of(settings)
        try:
            with store_needed():
                _change(place, full_name, word, frozenset(settings.policies))
        except OSError as error:
            say(f"{place.where}: {error.strerror}; nothing was changed")
            raise typer.Exit(UNHEALTHY) from None


def _word(name: str, value: str, policies: frozenset[str]) -> Word | None:
    """Return the word that `value` is for a switch, None for its default. Raises ConfigurationError."""
    if value == DEFAULT:
        return None
    words, faults = parse(json.dumps({name: value}), name, policies)
    if faults:
        raise ConfigurationError(faults)
    return words[name]


def _change(place: Place, name: str, word: Word | None, policies: frozenset[str]) -> None:
    text = place.read()
    before, there = parse(text, place.where, policies)
    after = {other: its for other, its in before.items() if other != name}
    if word is not None:
        after[name] = word
    elif name not in before:
        raise ConfigurationError([Fault(place.where, f"says nothing of {name!r}")])
    place.write(edited(text, name, after, lines=place.file is not None, policies=policies))
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    say(f"{now} {who} {place.where}: {name} {said(before.get(name))} -> {said(word)}")
    for fault in there:
        say(f"note: {fault}")
    for other, its in after.items():
        if other.endswith(f".{name}"):
            say(f"note: {other} stays {said(its)}; it wins for its policy")


def _list(settings: Settings, *, as_json: bool) -> None:
    """Print what each switch says here and by whose word; a store that is away leaves its words out."""
    policies = frozenset(settings.policies)
    file, key = settings.switches.file, f"{settings.store.prefix}:switches"
    store = open_store(settings.store.url)
    text, failed = "", False
    if store is not None:
        try:
            with store_needed():
                text = store.read_text(key) or ""
        except typer.Exit:
            failed = True
        store.close()
    heard = {
        "store": parse(text, key, policies),
        "environment": from_environment(os.environ, policies),
        "file": parse(file.read_text("utf-8") if file and file.exists() else "", str(file), policies),
    }
    switches = combined((source, words) for source, (words, _) in heard.items())
    for _, faults in heard.values():
        for fault in faults:
            say(f"note: {fault}")
    rows = _rows(settings, switches)
    if as_json:
        print_json({name: {"is": word, "by": source} for name, word, source in rows})
    else:
        print_table([("switch", "is", "by"), *((name, said(word), source) for name, word, source in rows)])
    if failed:
        raise typer.Exit(UNHEALTHY)


def _rows(settings: Settings, switches: Switches) -> list[tuple[str, Word, str]]:
    defaults: dict[str, Word] = {
        **{name: getattr(settings.switches, name) for name in BOOLEANS},
        **{name: getattr(settings.experiment, name) for name in SHARES},
        **{f"{policy}.{name}": getattr(one, name) for policy, one in settings.policies.items() for name in OTHERS},
    }
    rows = []
    for name in {**defaults, **dict.fromkeys(sorted(switches.words))}:
        policy, _, switch_name = name.rpartition(".")
        default = defaults.get(name, defaults.get(switch_name, True))
        source = switches.sources.get(name) or switches.sources.get(switch_name) or "settings"
        rows.append((name, switches.of(switch_name, policy or None, default), source))
    return rows
