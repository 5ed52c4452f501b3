"""The layout of an Elasticsearch: made once, whole or not at all, from what Maven and the compiler give."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from rewriter_engines import elasticsearch_layout
from rewriter_engines.elasticsearch_layout import ELASTICSEARCH_9, MISSING_MODULES, lay_out_elasticsearch
from rewriter_engines.errors import EngineError, EngineUnavailable
from rewriter_engines.java import Java, find_java

JARS = ("elasticsearch-1.jar", "transport-netty4-1.jar", "netty-common-1.jar", "elasticsearch-ssl-config-1.jar")
BRIDGE = "elasticsearch-entitlement-bridge-1.jar"
MAVEN = """#!/bin/sh
for argument in "$@"; do case $argument in -DoutputDirectory=*) target=${{argument#*=}};; esac; done
echo "$target" >>{calls}
mkdir -p "$target"
cp {jars}/*.jar "$target"
"""
JAVAC = """#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = -d ] && target=$2; shift; done
mkdir -p "$target" && : >"$target/$(basename "$1" .java).class"
"""


@pytest.fixture
def bin_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that brings jars, of which one has a descriptor, and a compiler that makes empty classes."""
    jars, made = tmp_path / "jars", tmp_path / "bin"
    jars.mkdir()
    made.mkdir()
    for name in (*JARS, BRIDGE):
        with zipfile.ZipFile(jars / name, "w") as jar:
            jar.writestr("META-INF/es-plugins/transport-netty4/plugin-descriptor.properties", "name=transport-netty4\n")
    for name, script in (("mvn", MAVEN.format(calls=tmp_path / "calls", jars=jars)), ("javac", JAVAC)):
        (made / name).write_text(script)
        (made / name).chmod(0o755)
    (tmp_path / "libzstd.so.1").touch()
    monkeypatch.setattr(elasticsearch_layout, "_zstd", lambda: tmp_path / "libzstd.so.1")
    monkeypatch.setenv("PATH", f"{made}:{os.environ['PATH']}")
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir()
    return made


def test_what_the_server_needs_is_there(bin_: Path, cache: Path) -> None:
    home = lay_out_elasticsearch(cache, Java(bin_ / "java"))
    assert home.name.startswith(f"elasticsearch-{ELASTICSEARCH_9}-")
    assert {path.name for path in home.iterdir()} == {"lib", "modules", "plugins"}
    assert (home / "modules/transport-netty4/plugin-descriptor.properties").read_text() == "name=transport-netty4\n"
    assert (home / "lib/entitlement-bridge" / BRIDGE).exists()
    assert (home / "lib/platform/linux-x64/libzstd.so").exists()
    with zipfile.ZipFile(home / "lib/entitlement-agent/agent.jar") as agent:
        assert b"Agent-Class: Agent" in agent.read("META-INF/MANIFEST.MF")
    descriptor = (home / "plugins/root/plugin-descriptor.properties").read_text()
    assert f"elasticsearch.version={ELASTICSEARCH_9}\n" in descriptor
    assert (home / "lib/start-arguments/StartArguments.class").exists()


def test_it_is_made_once(bin_: Path, cache: Path, tmp_path: Path) -> None:
    java = Java(bin_ / "java")
    assert lay_out_elasticsearch(cache, java) == lay_out_elasticsearch(cache, java)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_a_compiler_that_fails_leaves_no_layout(bin_: Path, cache: Path) -> None:
    (bin_ / "javac").write_text("#!/bin/sh\necho 'cannot find symbol'; exit 1\n")
    with pytest.raises(EngineError, match=r"could not compile Agent\.java(.|\n)*cannot find symbol"):
        lay_out_elasticsearch(cache, Java(bin_ / "java"))
    assert not list(cache.glob("elasticsearch-*"))


def test_without_maven_it_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineUnavailable, match=r"Maven \(mvn\) is not installed, and no Elasticsearch"):
        lay_out_elasticsearch(cache, Java(Path("/nowhere/java")))


def test_a_runtime_without_a_compiler_is_no_jdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"25\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setattr("rewriter_engines.java._installed", lambda: iter([java]))
    monkeypatch.setattr("rewriter_engines.java.usable", lambda _: True)
    assert find_java().path == java
    with pytest.raises(EngineUnavailable, match=r"java has no javac\); install one, or set JAVA_HOME"):
        find_java(compiler=True)


def test_each_missing_module_names_what_is_missing_with_it() -> None:
    assert {"lang-painless", "mapper-extras", "parent-join", "analysis-common"} <= set(MISSING_MODULES)
    assert all(MISSING_MODULES.values())
