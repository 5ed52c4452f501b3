"""Where `rewriter switch` writes: the kill-switch file where the settings name one, else the store's key."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rewriter.decide.switches import Word, parse
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.redis_store import open_store
from rewriter.signals.store import Store

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """The file, or the key `where` in the store."""

    where: str
    file: Path | None = None
    store: Store | None = None

    def read(self) -> str:
        """Return what stands there, "" where nothing does."""
        if self.store is not None:
            return self.store.read_text(self.where) or ""
        return self.file.read_text("utf-8") if self.file and self.file.exists() else ""

    def write(self, text: str) -> None:
        """Put `text` there at once: a reader sees the old text or the new one, never half of it."""
        if self.store is not None:
            self.store.write_text(self.where, text)
        if self.file is not None:
            _replace(self.file.resolve(), text)  # a link stays a link


def place_of(settings: Settings) -> Place:
    """Return where the switches of `settings` are written. Raises ConfigurationError where there is no such place."""
    if settings.switches.file is not None:
        return Place(str(settings.switches.file.absolute()), file=settings.switches.file)
    store = open_store(settings.store.url)
    if store is None or isinstance(store, MemoryStore):
        what = "neither switches.file nor a store that other processes read is set"
        raise ConfigurationError([Fault("switch", what, "set [switches] file")])
    return Place(f"{settings.store.prefix}:switches", store=store)


def edited(text: str, name: str, words: Mapping[str, Word], *, lines: bool, policies: frozenset[str]) -> str:
    """Return `text` saying `words`, of which `name` is the one that changed.

    lines: where `text` is not JSON, its other lines and comments stay as they are, unless one of them hides the words.
    """
    if lines and not text.lstrip().startswith("{"):
        kept = [line for line in text.splitlines() if _switch_of(line) != name]
        own = [f"{name} {said(words[name])}"] if name in words else []
        changed = "\n".join([*kept, *own, ""])
        if parse(changed, "", policies)[0] == words:
            return changed
    return json.dumps(words) + "\n"


def said(word: Word | None) -> str:
    """Return a word as people write it."""
    if word is None:
        return DEFAULT
    return ("on" if word else "off") if isinstance(word, bool) else repr(word)


def _switch_of(line: str) -> str:
    words = line.partition("#")[0].replace("=", " ").replace(":", " ").split()
    return words[0] if words else ""


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
