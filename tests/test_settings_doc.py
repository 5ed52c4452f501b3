"""docs/settings.md shows every default: its file equals no file at all."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from rewriter import Settings
from rewriter.settings import FieldSettings, PolicySettings, TrialSettings
from tests.schema_files import FOLDER, made, text

PAGE = (Path(__file__).parents[1] / "docs" / "settings.md").read_text("utf-8")
SHOWN = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]


def test_the_file_shown_is_the_defaults() -> None:
    shown = tomllib.loads(SHOWN)
    assert shown.pop("templates_dir") == "templates"
    assert Settings.model_validate(shown) == Settings()


def test_every_key_is_shown() -> None:
    sections: list[type[BaseModel]] = [PolicySettings, FieldSettings, TrialSettings]
    sections += [type(value) for value in dict(Settings()).values() if isinstance(value, BaseModel)]
    keys = {key for section in sections for key in section.model_fields} - {"fields"}
    assert {key for key in keys if not re.search(rf"^(# )?{key} = ", SHOWN, re.MULTILINE)} == set()


@pytest.mark.parametrize("name", made())
def test_the_wheel_holds_the_schema_that_is_made(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == text(made()[name]), "run `make docs`, or python -m tests.schema_files"
