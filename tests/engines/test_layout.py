"""A layout is made once, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rewriter_engines.errors import EngineError, EngineUnavailable
from rewriter_engines.layout import MODULES, OPENSEARCH_2, OPENSEARCH_3, VERSION, lay_out

# What Maven would bring, as far as the recipe asks for it: one jar for every pattern, and some that must not stay.
JARS = [
    *(pattern.replace("*", "1.jar") for module in MODULES for pattern in module.jars),
    *(
        f"{name}-{VERSION}.jar"
        for name in ("opensearch", "opensearch-agent", "opensearch-agent-bootstrap", "byte-buddy-1")
    ),
    "netty-codec-native-quic-1.jar",
]
MAVEN = """#!/bin/sh
for argument in "$@"; do case $argument in -DoutputDirectory=*) target=${{argument#*=}};; esac; done
echo "$target" >>{calls}
mkdir -p "$target"
for jar in {jars}; do : >"$target/$jar"; done
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that brings empty jars, and the file in which it notes each call."""
    noted = tmp_path / "calls"
    install_maven(tmp_path, MAVEN.format(calls=noted, jars=" ".join(JARS)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return noted


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir()
    return made


def install_maven(tmp_path: Path, script: str) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir(exist_ok=True)
    maven.write_text(script)
    maven.chmod(0o755)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_what_the_server_needs_is_there(calls: Path, cache: Path) -> None:
    previous = os.umask(0o077)
    try:
        home = lay_out(cache)
    finally:
        os.umask(previous)
    assert names(home) == {"lib", "agent", "modules", "bin", "plugins"}
    assert names(home / "modules") == {module.name for module in MODULES}
    assert "opensearch-agent-bootstrap-3.8.0.jar" in names(home / "agent")
    assert "opensearch-agent-bootstrap-3.8.0.jar" not in names(home / "lib")
    assert "netty-codec-native-quic-1.jar" not in names(home / "modules" / "transport-netty4")
    descriptor = (home / "modules/analysis-common/plugin-descriptor.properties").read_text()
    assert "classname=org.opensearch.analysis.common.CommonAnalysisModulePlugin\n" in descriptor
    assert "extended.plugins=lang-painless\n" in descriptor
    assert all(path.stat().st_mode & 0o055 == (0o055 if path.is_dir() else 0o044) for path in (home, *home.rglob("*")))


def test_it_is_made_once(calls: Path, cache: Path) -> None:
    assert lay_out(cache) == lay_out(cache)
    assert len(calls.read_text().splitlines()) == 2


def test_other_modules_make_another(calls: Path, cache: Path) -> None:
    assert lay_out(cache) != lay_out(cache, replace(OPENSEARCH_3, modules=MODULES[:1]))


def test_a_release_before_3_has_no_agent_but_policies(calls: Path, cache: Path) -> None:
    home = lay_out(cache, OPENSEARCH_2)
    assert home.name.startswith(f"{OPENSEARCH_2.version}-")
    assert not (home / "agent").exists()
    assert "SocketPermission" in (home / "modules/transport-netty4/plugin-security.policy").read_text()
    descriptor = (home / "modules/lang-painless/plugin-descriptor.properties").read_text()
    assert (
        "classname=org.opensearch.painless.PainlessPlugin\njava.version=17\nopensearch.version=2.19.6\n" in descriptor
    )


def test_two_at_the_same_time_make_one(calls: Path, cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, other = pool.map(lay_out, [cache, cache])
    assert one == other
    assert len(calls.read_text().splitlines()) == 2


def test_a_half_finished_one_is_swept_away(calls: Path, cache: Path) -> None:
    (cache / "building-killed" / "lib").mkdir(parents=True)
    home = lay_out(cache)
    assert names(cache) == {home.name, "lock"}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'Could not resolve host: repo.maven.apache.org'; exit 1", "Could not resolve host"),
        (
            'for a in "$@"; do case $a in -DoutputDirectory=*) mkdir -p "${a#*=}";; esac; done',
            "downloaded no opensearch-agent-",
        ),
    ],
)
def test_a_maven_that_fails_leaves_no_layout(tmp_path: Path, calls: Path, cache: Path, script: str, says: str) -> None:
    install_maven(tmp_path, f"#!/bin/sh\n{script}\n")
    with pytest.raises(EngineError, match=says):
        lay_out(cache)
    assert not list(cache.glob(f"{VERSION}*"))


def test_without_maven_it_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineUnavailable, match=r"Maven \(mvn\) is not installed"):
        lay_out(cache)
