"""The targets of `rewriter switch`: the kill-switch file, which nothing overrides, and the store's key, which all machines read."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rewriter.decide.switch_text import others_in, parse, switch_of
from rewriter.decide.switches import Switches, SwitchValue
from rewriter.encodings import decoded_somehow
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.shell.fleet import fleet_key, parse_report, process_of
from rewriter.signals.store import Store

DEFAULT = "default"
LOST = "# the key is lost, and processes still use:"
LOCK_S = 2.0
"""How long a change of the file waits for another one. Then it proceeds: a command that hangs must not keep a switch on."""
LOCK_POLL_S = 0.02
SwitchSource = Literal["file", "store"]
Edit = Callable[[str], str | None]
"""A function from the present text to the new one, or to None to leave the text unchanged."""


@dataclass(frozen=True, slots=True)
class FileTarget:
    """The kill-switch file."""

    path: Path
    source: SwitchSource = "file"

    @property
    def where(self) -> str:
        """The target's name in messages."""
        return str(self.path.absolute())

    def read(self) -> str:
        """Return the file's text, "" if there is no file. Any encoding is accepted, so that it never prevents switching off."""
        return decoded_somehow(self.path.read_bytes()) if self.path.exists() else ""

    def change(self, edit: Edit) -> None:
        """Replace the text by what `edit` returns, in one step: a reader sees the old text or the new one, never a part."""
        path = self.path.resolve()  # the target of a symbolic link is replaced, the link stays
        with _locked(path.parent):
            text = edit(self.read())
            if text is not None:
                _replace(path, text)


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """The key of the store under which processes read switches.

    A store that lost its memory has lost this key, while running processes keep its values. Writing one switch then must not clear
    the others, so the values in the processes' reports replace a missing key.
    """

    store: Store
    key: str
    fleet: str
    source: SwitchSource = "store"

    @property
    def where(self) -> str:
        """The target's name in messages."""
        return f"store key {self.key}"

    def read(self) -> str:
        """Return the key's text, otherwise the values that processes still use, "" if there are none."""
        return self.store.read_text(self.key) or self._kept()

    def change(self, edit: Edit) -> None:
        """Replace the text by what `edit` returns, in one step."""
        self.store.change_text(self.key, lambda text: edit(text or self._kept()))

    def _kept(self) -> str:
        values: dict[str, Counter[SwitchValue]] = defaultdict(Counter)
        for name, text in self.store.announced(self.fleet).items():
            switches = process_of(name, parse_report(text)).switches or Switches()
            for switch, value in switches.values.items():
                values[switch][value] += switches.sources[switch] == self.source
        kept = {switch: votes.most_common(1)[0] for switch, votes in values.items()}
        lines = [f"{switch} {written_as(value)}" for switch, (value, count) in sorted(kept.items()) if count]
        return "\n".join([LOST, *lines]) if lines else ""


SwitchTarget = FileTarget | StoreTarget


def targets_of(settings: Settings, store: Store | None) -> list[SwitchTarget]:
    """Return the targets in the settings, the strongest first. `store` is the one that other processes read, if any."""
    file = settings.switches.file
    targets: list[SwitchTarget] = [] if file is None else [FileTarget(file)]
    if store is not None:
        targets.append(StoreTarget(store, f"{settings.store.prefix}:switches", fleet_key(settings.store.prefix)))
    return targets


def chosen_targets(targets: list[SwitchTarget], only: SwitchSource | None) -> list[SwitchTarget]:
    """Return the targets that a change concerns: all, or `only` one and those that override it.

    Raises ConfigurationError if there is no such target.
    """
    if not targets:
        what = "neither switches.file nor a store that other processes read is set"
        raise ConfigurationError([Fault("switch", what, "set [switches] file, or [store] url")])
    sources = [target.source for target in targets]
    if only is not None and only not in sources:
        what, remedy = {
            "file": ("no kill-switch file is set", "set [switches] file"),
            "store": ("no store that other processes read is set", "set [store] url"),
        }[only]
        raise ConfigurationError([Fault(f"--only {only}", what, remedy)])
    return targets[: sources.index(only) + 1] if only else targets


def edited(
    text: str, names: Collection[str], values: Mapping[str, SwitchValue], *, lines: bool, policies: frozenset[str]
) -> str:
    """Return `text` with the switches' `values`, of which `names` changed. Switches of other services' policies stay.

    lines: whether a text that is not JSON keeps its other lines and comments. It does unless one of them would hide the values.
    """
    if lines and not text.lstrip().startswith("{"):
        kept = [line for line in text.splitlines() if switch_of(line, policies) not in names]
        own = [f"{name} {written_as(values[name])}" for name in names if name in values]
        changed = "\n".join([*kept, *own, ""])
        if parse(changed, "", policies).values == values:
            return changed
    return json.dumps({**others_in(text, policies), **values}) + "\n"


def written_as(value: SwitchValue | None) -> str:
    """Return a value in the form in which people write it: `on`, `off`, a number, `default` for None."""
    if value is None:
        return DEFAULT
    return ("on" if value else "off") if isinstance(value, bool) else repr(value)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make other commands that change a file of this folder wait; proceed without a lock if the file system has none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        until_s = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until_s:
                    time.sleep(LOCK_POLL_S)
                    continue
            except OSError:
                pass  # a file system without locks
            break
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
