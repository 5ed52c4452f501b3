"""Where switches come from: the kill-switch file, the environment, the store's key. Each keeps its last good word.

The file. It is read whole at each poll, so that no rule about mtimes, inodes or symlinks has to hold, and a new text is believed
once two polls in a row have read the same: a writer that truncates first and writes then is never caught in between. No file says
nothing, so taking it away releases the switch; a folder that is gone, or a file that cannot be read, is a failure of the source.

The store's key. A key that is missing says nothing new: a store that lost its memory must not switch on what somebody switched
off. Write `personalization on`, or `{}`, to release it.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path

from rewriter.decide.switches import Switches, Word, combined, from_environment, parse
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings

MAX_FILE_BYTES = 64 * 1024

_log = getLogger("rewriter")


def refuse_wrong_switches(settings: Settings, environment: Mapping[str, str]) -> None:
    """Raise ConfigurationError with every fault of the switches as they stand at start."""
    policies = frozenset(settings.policies)
    faults = from_environment(environment, policies)[1]
    if settings.switches.file is not None:
        text, wrong = _text_of(settings.switches.file)
        faults += [wrong] if wrong else parse(text, str(settings.switches.file), policies)[1]
    if faults:
        raise ConfigurationError(faults)


class SwitchSources:
    """The words of each source, weakest first, and what is wrong with them now. One thread or task for each method."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.switches.file
        self._policies = frozenset(settings.policies)
        self._words: dict[str, dict[str, Word]] = {"store": {}, "environment": {}, "file": {}}
        self._faults: dict[str, list[Fault]] = {}
        self._believed: str | None = None
        self._seen: str | None = None

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with a source now."""
        return [fault for faults in list(self._faults.values()) for fault in faults]

    def read_local(self, environment: Mapping[str, str]) -> None:
        """Read the file and the environment."""
        self._hear("environment", *from_environment(environment, self._policies))
        if self._file is not None:
            self._read_file(self._file)

    def hear_store(self, text: str, key: str) -> None:
        """Take in what stands under the store's key."""
        self._hear("store", *parse(text, f"store key {key}", self._policies))

    def told(self, before: Switches) -> Switches:
        """Return what the sources add up to; each change leaves a line in the log, for whoever asks later who did it."""
        found = combined(self._words.items(), map(str, self.faults))
        for name in sorted({**before.words, **found.words}):
            was, now = before.words.get(name), found.words.get(name)
            if was != now:
                _log.warning(
                    "switch %s: %s -> %s (%s)", name, _said(was), _said(now), found.sources.get(name, "settings")
                )
        return found

    def _read_file(self, path: Path) -> None:
        text, wrong = _text_of(path)
        if wrong:
            self._faults["file"] = [wrong]
            self._seen = None
            return
        seen, self._seen = self._seen, text
        if text != self._believed and (seen == text or self._believed is None):
            self._believed = text
        if text == self._believed:
            self._hear("file", *parse(text, str(path), self._policies))

    def _hear(self, source: str, words: dict[str, Word], faults: list[Fault]) -> None:
        if faults:
            # What was understood counts, what was not keeps its last good word.
            words = {**self._words[source], **words}
            self._faults[source] = faults
        else:
            self._faults.pop(source, None)
        self._words[source] = words


def _text_of(path: Path) -> tuple[str, Fault | None]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            return "", Fault(str(path), f"has more than {MAX_FILE_BYTES:,} bytes", "write `personalization off`")
        return raw.decode(), None
    except FileNotFoundError:
        if path.parent.is_dir():
            return "", None
        return "", Fault(str(path), "its folder does not exist", "make it, so that the kill switch can be written")
    except UnicodeDecodeError:
        return "", Fault(str(path), "is not UTF-8", "write `personalization off`")
    except OSError as error:
        return "", Fault(str(path), f"cannot be read: {error.strerror}")


def _said(word: Word | None) -> str:
    return "as set" if word is None else ("off", "on")[word] if isinstance(word, bool) else f"{word:g}"
