"""The first pages of a newcomer: README, its picture, the lines to install, `make help`, and contacts."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from xml.etree import ElementTree as ET

import pytest

from rewriter.cli.about import CONTACT, PROJECT_URL
from tests.pages import ROOT, blocks

README = ROOT / "README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_wheel_that_readme_installs_is_the_one_that_is_built() -> None:
    (install,) = (block for block in blocks(README, "sh") if "pip install" in block)
    wheels = set(re.findall(r"dist/\S+\.whl", install))
    assert wheels == {f"dist/rewriter-{PROJECT['version']}-py3-none-any.whl"}


def test_readme_fits_about_one_screen() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 80


def test_the_picture_is_small_and_readable_in_light_and_dark() -> None:
    picture = ROOT / "docs" / "page.svg"
    text = picture.read_text("utf-8")
    root = ET.fromstring(text)
    assert root.tag.endswith("}svg")
    assert root.find("{*}title") is not None
    assert "prefers-color-scheme:dark" in text
    assert picture.stat().st_size < 10_000
    light, _, dark = text.partition("@media")
    drawn = {name for classes in re.findall(r'class="([^"]+)"', text) for name in classes.split()}
    for theme in (light, dark):
        assert {name for name in drawn if f".{name}{{" not in theme} == set()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_help_names_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    listed = set(re.findall(r"^make ([a-z-]+) ", shown, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert listed == set(phony.split())


def test_the_address_for_reports_is_the_one_in_the_code() -> None:
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    assert (CONTACT in page) if CONTACT else ("is empty" in page)


def test_the_urls_of_the_package_are_the_one_in_the_code() -> None:
    assert set(PROJECT.get("urls", {}).values()) == ({PROJECT_URL} if PROJECT_URL else set())
