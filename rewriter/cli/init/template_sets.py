"""The shipped template sets, each with the settings that belong to it (`settings.toml` in the set's folder)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rewriter.shell.template_files import packaged_templates, template_files

SETS = ("default", "shop", "catalogue", "news", "browse")
SETTINGS_FILE = "settings.toml"


class SetSettings(BaseModel):
    """The settings that belong to a template set.

    about:       what the set is for.
    class_field: whether items are to be counted by class.
    policy, signals: keys of `[policies.NAME]` and `[signals]`.
    attribute, within: keys of a field that is an attribute, and of one that is an attribute within the class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: Annotated[str, Field(min_length=1)]
    class_field: bool = False
    policy: Mapping[str, Any] = {}
    signals: Mapping[str, Any] = {}
    attribute: Mapping[str, Any] = {"scale": 0.3}
    within: Mapping[str, Any] = {"scale": 0.3}


def set_folder(name: str) -> Path:
    """Return the folder of a shipped set."""
    return packaged_templates() / name


def set_settings(name: str) -> SetSettings:
    """Return the settings that belong to a shipped set."""
    return SetSettings.model_validate(tomllib.loads((set_folder(name) / SETTINGS_FILE).read_text("utf-8")))


def set_templates(name: str) -> dict[str, str]:
    """Return the texts of a shipped set's templates by file name, without its samples."""
    return {file: text for file, text in template_files(set_folder(name)).items() if file.endswith(".j2")}
