"""Where switches come from: the kill-switch file, the environment, the store's key, OpenFeature. Each keeps its last good value.

The file. It is read whole at each poll, so that no rule about mtimes, inodes or symlinks has to hold, and a new text is believed
once two polls in a row have read the same: a writer that truncates first and writes then is never caught in between. No file says
nothing, so removing it releases its switches; a folder that is gone, or a file that cannot be read, is a failure of the source.

A process that starts has no last good value. Where a source cannot be read then, or its kill switch cannot be understood, the
process serves everybody the caller's own search until it can: somebody may have switched off. It never refuses to start.

The store's key. A key that is missing says nothing new: a store that lost its memory must not switch on what somebody switched
off. Write `personalization on`, or `{}`, to release it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from stat import S_ISFIFO

from rewriter.decide.switch_text import SwitchesRead, from_environment, parse, unreadable
from rewriter.decide.switches import KILL, Switches, SwitchValue, combined
from rewriter.encodings import decoded_somehow
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.shell.flag_source import FlagSource

MAX_FILE_BYTES = 64 * 1024

_log = getLogger("rewriter")


def refuse_wrong_switches(settings: Settings, environment: Mapping[str, str]) -> None:
    """Raise ConfigurationError with every fault of the switches as they stand: for `rewriter check`, before anything starts."""
    policies = frozenset(settings.policies)
    faults = from_environment(environment, policies).faults
    if settings.switches.file is not None:
        text, fault = read_switch_file(settings.switches.file)
        faults = faults + ([fault] if fault else parse(text, str(settings.switches.file), policies).faults)
    if faults:
        raise ConfigurationError(faults)


class SwitchSources:
    """The values of each source, weakest first, and what is wrong with them now. One thread or task for each method."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.switches.file
        self._policies = frozenset(settings.policies)
        self._values: dict[str, dict[str, SwitchValue]] = {
            "openfeature": {},
            "store": {},
            "environment": {},
            "file": {},
        }
        domain = settings.switches.openfeature
        self._flags = None if domain is None else FlagSource(domain, settings.policies)
        self._read: dict[str, SwitchesRead] = {}
        self._believed: str | None = None
        self._seen: str | None = None

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with a source now."""
        return [fault for read in list(self._read.values()) for fault in read.faults]

    @property
    def notes(self) -> list[Fault]:
        """What is ignored, and no fault: switches of other services' policies."""
        return [fault for read in list(self._read.values()) for fault in read.foreign]

    def read_local(self, environment: Mapping[str, str]) -> None:
        """Read the file and the environment, and what the flag provider last said. None of them waits for anybody."""
        if self._flags is not None:
            self._take("openfeature", self._flags.read())
        self._take("environment", from_environment(environment, self._policies))
        if self._file is not None:
            self._read_file(self._file)

    def take_store_value(self, text: str, key: str) -> None:
        """Take in what stands under the store's key."""
        self._take("store", parse(text, f"store key {key}", self._policies))

    def combine_sources(self, before: Switches) -> Switches:
        """Return what the sources add up to; each change leaves a line in the log, for whoever asks later who did it."""
        found = combined(self._values.items())
        for name in sorted({**before.values, **found.values}):
            was, now = before.values.get(name), found.values.get(name)
            if was != now:
                _log.warning(
                    "switch %s: %s -> %s (%s)",
                    name,
                    _printable(was),
                    _printable(now),
                    found.sources.get(name, "settings"),
                )
        return found

    def _read_file(self, path: Path) -> None:
        text, fault = read_switch_file(path)
        if fault:
            self._take("file", unreadable(fault))
            self._seen = None
            return
        seen, self._seen = self._seen, text
        if text != self._believed and (seen == text or self._believed is None):
            self._believed = text
        if text == self._believed:
            self._take("file", parse(text, str(path), self._policies))

    def _take(self, source: str, read: SwitchesRead) -> None:
        """Take in what a source says: what was understood counts, and where something was not, the last good values stay."""
        values = read.values
        if read.unclear:
            # At the first reading there are none, and whoever wrote may have wanted to switch off.
            last = self._values[source] if source in self._read else _off(read.unclear)
            values = {**last, **values}
        self._log(source, read)
        self._read[source], self._values[source] = read, values

    def _log(self, source: str, read: SwitchesRead) -> None:
        """Log what is wrong, once."""
        before = self._read.get(source, SwitchesRead())
        for fault in read.faults:
            if fault not in before.faults:
                _log.error("%s", fault)
        for fault in read.foreign:
            if fault not in before.foreign:
                _log.warning("ignored: %s", fault)
        if source not in self._read and read.unclear:
            _log.error(
                "not personalized: the switches of the %s cannot be understood, and may say `%s off`", source, KILL
            )


def read_switch_file(path: Path) -> tuple[str, Fault | None]:
    """Return what a kill-switch file says, "" where there is none, or why it cannot be read. Its encoding is found out."""
    try:
        with open(path, "rb", opener=_opened) as file:  # Path.open takes no opener
            if S_ISFIFO(os.fstat(file.fileno()).st_mode):
                return "", Fault(str(path), "is a pipe, which may never say anything", "make it a file, or remove it")
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if path.parent.is_dir():
            return "", None
        return "", Fault(str(path), "its folder does not exist", "make it, so that the kill switch can be written")
    except OSError as error:
        return "", Fault(str(path), f"cannot be read: {error.strerror}", "make it readable, or remove it")
    if len(raw) > MAX_FILE_BYTES:
        return "", Fault(str(path), f"has more than {MAX_FILE_BYTES:,} bytes", "write `personalization off`")
    return decoded_somehow(raw), None


def _opened(path: str, flags: int) -> int:
    """Open a file without waiting: a pipe would be opened once somebody writes to it, and the kill switch be dead until then."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _off(unclear: frozenset[str]) -> dict[str, SwitchValue]:
    """Return the kill switches among these as off."""
    return {name: False for name in unclear if name.rpartition(".")[2] == KILL}


def _printable(value: SwitchValue | None) -> str:
    return "as set" if value is None else ("off", "on")[value] if isinstance(value, bool) else f"{value:g}"
