"""The sources of switches: the kill-switch file, the environment, the store's key, OpenFeature. Each keeps its last good values.

The file is read whole at each poll, so nothing depends on mtimes, inodes or symlinks. A new text takes effect once two polls in a
row have read the same, so a writer that truncates the file first is never read halfway. Deleting the file clears its switches. If
its whole folder disappears, or the file cannot be read, the source has failed and its last values stay; so they do if the file is a
link and what it leads to disappears.

A process that starts has no last values. If a source cannot be read then, or its kill switch cannot be understood, every search is
the caller's own until it can: personalization may have been switched off. The process never refuses to start.

A missing key in the store changes nothing: a store that lost its memory must not switch on what was switched off. To clear the
store's switches, write `personalization on` or `{}`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path

from rewriter.decide.switch_text import SwitchesRead, from_environment, parse, unreadable
from rewriter.decide.switches import KILL, Switches, SwitchValue, combined
from rewriter.encodings import decoded_somehow
from rewriter.errors import ConfigurationError, Fault
from rewriter.read_file import read_file
from rewriter.settings import Settings
from rewriter.shell.background.flag_source import FlagSource

MAX_FILE_BYTES = 64 * 1024

_log = getLogger("rewriter")


def refuse_wrong_switches(settings: Settings, environment: Mapping[str, str]) -> None:
    """Raise ConfigurationError with every fault of the switches in file and environment. For `rewriter check`."""
    policies = frozenset(settings.policies)
    faults = from_environment(environment, policies).faults
    if settings.switches.file is not None:
        text, fault = read_switch_file(settings.switches.file)
        faults = faults + ([fault] if fault else parse(text, str(settings.switches.file), policies).faults)
    if faults:
        raise ConfigurationError(faults)


class SwitchSources:
    """The values of each source, weakest first, and their present faults. One thread or task calls each method."""

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
        self._accepted: str | None = None
        self._seen: str | None = None

    @property
    def faults(self) -> list[Fault]:
        """The present faults of the sources."""
        return [fault for read in list(self._read.values()) for fault in read.faults]

    @property
    def notes(self) -> list[Fault]:
        """The switches that are ignored and are no fault: those of other services' policies."""
        return [fault for read in list(self._read.values()) for fault in read.foreign]

    def read_local(self, environment: Mapping[str, str]) -> None:
        """Read the file and the environment, and the latest values of the flag provider. None of them waits."""
        if self._flags is not None:
            self._take("openfeature", self._flags.read())
        self._take("environment", from_environment(environment, self._policies))
        if self._file is not None:
            self._read_file(self._file)

    def take_store_value(self, text: str, key: str) -> None:
        """Take over the text under the store's key `key`."""
        self._take("store", parse(text, f"store key {key}", self._policies))

    def combine_sources(self, before: Switches) -> Switches:
        """Return the combined switches. Each change against `before` is logged with its source."""
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
        if text != self._accepted and (seen == text or self._accepted is None):
            self._accepted = text
        if text == self._accepted:
            self._take("file", parse(text, str(path), self._policies))

    def _take(self, source: str, read: SwitchesRead) -> None:
        """Take over a source's values. If some could not be understood, the source's last good values stay beside the new ones."""
        values = read.values
        if read.unclear:
            # The first read has no last values, and the text may have been meant to switch off.
            last = self._values[source] if source in self._read else _off(read.unclear)
            values = {**last, **values}
        self._log(source, read)
        self._read[source], self._values[source] = read, values

    def _log(self, source: str, read: SwitchesRead) -> None:
        """Log each fault once."""
        before = self._read.get(source, SwitchesRead())
        for fault in read.faults:
            if fault not in before.faults:
                _log.error("%s", fault)
        for fault in read.foreign:
            if fault not in before.foreign:
                _log.warning("ignored: %s", fault)
        if source not in self._read and read.unclear:
            _log.error(
                "not personalized: the switches of the %s cannot be understood, and may contain `%s off`", source, KILL
            )


def read_switch_file(path: Path) -> tuple[str, Fault | None]:
    """Return the text of a kill-switch file in whatever encoding, "" if there is no file; or the fault why it cannot be read."""
    try:
        return decoded_somehow(read_file(path, MAX_FILE_BYTES, "write `personalization off`")), None
    except FileNotFoundError:
        if os.path.lexists(path):  # what it leads to may be on a volume that is not there for the moment
            return "", Fault(str(path), "is a link that leads nowhere", "mend it, or remove it")
        if path.parent.is_dir():
            return "", None
        return "", Fault(str(path), "its folder does not exist", "make it, so that the kill switch can be written")
    except OSError as error:
        return "", Fault(str(path), f"cannot be read: {error.strerror}", "make it readable, or remove it")
    except ConfigurationError as error:
        return "", error.faults[0]


def _off(unclear: frozenset[str]) -> dict[str, SwitchValue]:
    """Return the kill switches among these names, each as off."""
    return {name: False for name in unclear if name.rpartition(".")[2] == KILL}


def _printable(value: SwitchValue | None) -> str:
    return "default" if value is None else ("off", "on")[value] if isinstance(value, bool) else f"{value:g}"
