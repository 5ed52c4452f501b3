"""Template sets on disk: where they are, their texts, and the sets of all policies, compiled and validated."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rewriter.boost.templates import TemplateSet
from rewriter.boost.validation import GIVEN, compile_set
from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.read_file import read_file
from rewriter.settings import Settings
from rewriter.similar import did_you_mean

MAX_FILE_BYTES = 256 * 1024
"""Limit of a template and of a sample: a larger one would take seconds to be compiled or checked."""


def packaged_templates() -> Path:
    """Return the folder of the packaged templates: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent.parent / "templates"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "templates"


def template_files(folder: Path) -> dict[str, str]:
    """Return the texts of one template set by path within its folder: its two templates, and its samples.

    Hidden samples are left out: editors and file systems put such files beside others. Raises ConfigurationError with every file's
    fault.
    """
    if not _is_folder(folder):
        others = [one.name for one in folder.parent.glob("*/")] if _is_folder(folder.parent) else []
        remedies = filter(None, (did_you_mean(folder.name, others), "a template set is templates_dir/NAME"))
        raise ConfigurationError([Fault(str(folder), "is not a folder", " ".join(remedies))])
    files: dict[str, str] = {}
    faults: list[Fault] = []
    samples = (path for path in folder.glob("samples/*.json") if not path.name.startswith("."))
    for path in (*(folder / name for name in GIVEN if os.path.lexists(folder / name)), *sorted(samples)):
        try:
            raw = read_file(path, MAX_FILE_BYTES, "list values in the index, not in a template")
            files[path.relative_to(folder).as_posix()] = decoded(raw)
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(str(path), f"cannot be read: {error}"))
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)
    return files


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder. Path.is_dir raises for one within a locked folder, and for a name that is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def load_templates(settings: Settings) -> dict[str, TemplateSet]:
    """Return each policy's templates, compiled and validated. Raises ConfigurationError with the faults of all of them."""
    loaded: dict[str, TemplateSet] = {}
    faults: list[Fault] = []
    if settings.templates_dir is not None and not _is_folder(settings.templates_dir):
        remedy = "make it, or leave templates_dir out to use the packaged template sets"
        faults.append(Fault(str(settings.templates_dir), "templates_dir names no folder", remedy))
    for name, policy in settings.policies.items():
        folder = template_folder(settings, policy.templates)
        try:
            loaded[name] = compile_set(policy.templates, template_files(folder), policy, time.perf_counter, str(folder))
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)
    return loaded


def drafts_of(settings: Settings) -> Settings:
    """Return the settings of the policies with a draft on trial, each with the draft in place of its live templates.

    For checks. A process loads drafts in the background, and serves without one that has faults.
    """
    drafts = {
        name: policy.model_copy(update={"templates": policy.trial.version})
        for name, policy in settings.policies.items()
        if policy.trial is not None
    }
    return settings.model_copy(update={"policies": drafts})


def template_folder(settings: Settings, name: str) -> Path:
    """Return the folder of a template set: in `templates_dir` if it is there, otherwise among the packaged ones."""
    own = own_folder(settings, name)
    return own if own is not None and (name != "default" or os.path.lexists(own)) else packaged_templates() / name


def own_folder(settings: Settings, name: str) -> Path | None:
    """Return the folder that a template set has in `templates_dir`, if there is any, whether or not it exists."""
    return settings.templates_dir / name if settings.templates_dir else None
