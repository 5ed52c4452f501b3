"""The transaction that writes several new files or none: it stages them beside their targets, and removes all if one fails."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rewriter.errors import ConfigurationError, Fault


def refuse_existing(folder: Path, names: Mapping[str, str]) -> None:
    """Raise ConfigurationError with every file that exists already."""
    there = [folder / name for name in names if os.path.lexists(folder / name)]
    if there:
        raise ConfigurationError(
            [Fault(str(path), "exists", "--force replaces it, --to names another folder") for path in there]
        )


@contextmanager
def staged(folder: Path, files: Mapping[str, str]) -> Iterator[Path]:
    """Write files into a new folder within `folder`, for a block that reads them; the new folder is removed afterwards.

    files: texts by relative path. Raises ConfigurationError if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".rewriter-init-", dir=folder))
    except OSError as error:
        raise ConfigurationError(
            [Fault(str(folder), error.strerror or "cannot be written", "--to names another folder")]
        ) from None
    try:
        for name, text in files.items():
            path = stage / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def put(stage: Path, folder: Path, names: Mapping[str, str], *, force: bool) -> list[Path]:
    """Move staged files to their targets in `folder`, in the order of `names`; return the paths. A file is replaced atomically.

    Raises ConfigurationError if one cannot be moved; every file is then as it was before.
    """
    put_there: list[Path] = []
    before: dict[Path, Path] = {}
    made: list[Path] = []
    target = folder
    try:
        for at, name in enumerate(names):
            target = folder / name
            made += _make_parents(target)
            if force and os.path.lexists(target):
                before[target] = stage / f"before-{at}"
                shutil.copy2(target, before[target], follow_symlinks=False)
                (stage / name).replace(target)
            else:
                _link(stage / name, target)
            put_there.append(target)
    except BaseException as error:
        _take_back(put_there, before, made)
        if not isinstance(error, OSError):  # Ctrl-C
            raise
        what = "exists" if isinstance(error, FileExistsError) else error.strerror or "cannot be written"
        raise ConfigurationError([Fault(str(target), what, "nothing was written")]) from None
    return put_there


def _link(source: Path, target: Path) -> None:
    """Move a file to a path that is free. Raises FileExistsError if the path exists by now."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        source.rename(target)


def _make_parents(target: Path) -> list[Path]:
    """Make the folders above a file; return the new ones, the outermost first."""
    missing = [parent for parent in target.parents if not parent.exists()][::-1]
    for parent in missing:
        parent.mkdir()
    return missing


def _take_back(put_there: list[Path], before: dict[Path, Path], made: list[Path]) -> None:
    for target in put_there:
        if target in before:
            before[target].replace(target)
        else:
            target.unlink()
    for folder in reversed(made):
        folder.rmdir()
