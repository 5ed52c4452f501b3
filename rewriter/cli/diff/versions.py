"""The two versions of a diff: folders, template sets or git revisions, loaded as settings."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rewriter.boost.validation import BOOSTS_FILE
from rewriter.cli.render import alone
from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.shell.template_files import load_templates

GIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Version:
    """One version.

    label:     the given name: a folder, or a revision with its commit.
    templates: the version of each policy's template set.
    """

    label: str
    settings: Settings
    templates: dict[str, str]


def opened(given: str, toml: Path, policy: str | None, scratch: Path) -> Version:
    """Return the version that a folder or a git revision holds.

    toml:    the present settings file. Another version's file has the same name, and in a revision the same path.
    policy:  compare only this policy. A folder that is a template set needs it, unless there is one policy.
    scratch: an empty folder, into which a revision is extracted.
    Raises ConfigurationError with the faults of settings and templates, or for a name that is neither folder nor revision.
    """
    folder = Path(given)
    if (folder / toml.name).is_file():
        return _version(given, folder / toml.name, Settings.from_toml(folder / toml.name), policy)
    if (folder / BOOSTS_FILE).is_file():
        return _of_template_set(given, folder, toml, policy)
    if folder.is_dir():
        raise ConfigurationError([Fault(given, f"holds neither {toml.name} nor {BOOSTS_FILE}")])
    base = toml.resolve().parent
    commit = _git(base, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}")
    if commit is None:
        raise ConfigurationError([Fault(given, "is neither a folder nor a git revision of the settings' repository")])
    revision = commit.decode().strip()
    path = _extracted(given, revision, toml, scratch)
    return _version(f"{given} ({revision[:10]})", path, Settings.from_toml(path), policy)


def _version(label: str, path: Path, settings: Settings, policy: str | None) -> Version:
    if policy is not None:
        settings, _ = alone(settings, path, policy)
    return Version(label, settings, {name: made.version for name, made in load_templates(settings).items()})


def _of_template_set(given: str, folder: Path, toml: Path, policy: str | None) -> Version:
    """Return the present settings with another template set for one policy."""
    settings = Settings.from_toml(toml)
    if policy is None and len(settings.policies) != 1:
        there = ", ".join(settings.policies)
        raise ConfigurationError([Fault(given, "is a template set; which policy uses it?", f"give --policy: {there}")])
    name = policy or next(iter(settings.policies))
    settings, chosen = alone(settings, toml, name)
    whole = folder.resolve()
    changed = {"templates_dir": whole.parent, "policies": {name: chosen.model_copy(update={"templates": whole.name})}}
    return _version(given, toml, settings.model_copy(update=changed), name)


def _extracted(given: str, revision: str, toml: Path, scratch: Path) -> Path:
    """Extract the settings file of a revision, and its templates, and return the path of the file."""
    whole = toml.resolve()
    top = _git(whole.parent, "rev-parse", "--show-toplevel")
    root = Path(top.decode().rstrip("\n")).resolve() if top else whole.parent
    relative = whole.relative_to(root)
    text = _git(root, "show", f"{revision}:{relative.as_posix()}")
    if text is None:
        raise ConfigurationError([Fault(given, f"the revision has no {relative.as_posix()}")])
    wanted = [relative.as_posix()]
    try:
        named = tomllib.loads(decoded(text)).get("templates_dir")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        named = None  # reading the settings names the fault
    if isinstance(named, str):
        templates = Path(os.path.normpath(whole.parent / named))
        if not templates.is_relative_to(root):
            raise ConfigurationError([Fault(given, f"its templates_dir {named} lies outside of the repository")])
        wanted.append(templates.relative_to(root).as_posix())
    packed = _git(root, "archive", "--format=tar", revision, "--", *wanted)
    if packed is None:
        raise ConfigurationError([Fault(given, f"the revision lacks one of {', '.join(wanted)}")])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / relative


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return the output of a git command, or None if it fails or git is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
