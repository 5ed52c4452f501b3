"""The layout of an OpenSearch server, made from the jars that the OpenSearch project publishes on Maven Central.

It equals the unpacked archive of the distribution, as far as the server needs it:

    lib/      the server and log4j's core
    agent/    the Java agent that replaced the security manager; its manifest puts `opensearch-agent-bootstrap` on the boot
              class path, so that jar must not be on the class path as well
    modules/  one folder per module: its jars and the descriptor that the server reads
    bin/, plugins/  empty; the server would make them, and has no right to

The layout is read-only, shared by all servers of a checkout, and made once. It is built in a temporary directory under a lock and
then renamed, so it is always complete. Its name holds a digest of this file, so that a changed recipe makes a new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rewriter_engines.errors import EngineError, EngineUnavailable

MAVEN_DEADLINE_S = 900


@dataclass(frozen=True, slots=True)
class Module:
    """A folder under modules/: its main class, the artifact it comes from, its jars, and the module it extends.

    policy: the permissions that it needs under the security manager of releases before 3.0.
    """

    name: str
    classname: str
    artifact: str
    jars: tuple[str, ...]
    extends: str = ""
    policy: str = ""


NETTY_POLICY = """\
grant {
  permission java.net.SocketPermission "*", "accept,connect";
  permission java.io.FilePermission "/proc/sys/net/core/somaxconn", "read";
  permission java.util.PropertyPermission "*", "read,write";
  permission java.lang.RuntimePermission "getClassLoader";
  permission java.lang.RuntimePermission "setContextClassLoader";
};
"""
SCRIPT_POLICY = """\
grant {
  permission java.lang.RuntimePermission "createClassLoader";
  permission java.lang.RuntimePermission "getClassLoader";
  permission java.lang.RuntimePermission "accessDeclaredMembers";
  permission java.lang.reflect.ReflectPermission "suppressAccessChecks";
};
"""
MODULES = (
    Module(
        "transport-netty4",
        "org.opensearch.transport.Netty4ModulePlugin",
        "transport-netty4-client",
        ("transport-netty4-client-*", "netty-*", "opensearch-netty4-*"),
        policy=NETTY_POLICY,
    ),
    Module(
        "lang-painless",
        "org.opensearch.painless.PainlessModulePlugin",
        "lang-painless",
        ("lang-painless-*", "opensearch-scripting-painless-spi-*", "asm*", "antlr4-*"),
        policy=SCRIPT_POLICY,
    ),
    Module(
        "mapper-extras",
        "org.opensearch.index.mapper.MapperExtrasModulePlugin",
        "mapper-extras-client",
        ("mapper-extras-client-*",),
    ),
    Module(
        "parent-join", "org.opensearch.join.ParentJoinModulePlugin", "parent-join-client", ("parent-join-client-*",)
    ),
    Module(
        "lang-mustache",
        "org.opensearch.script.mustache.MustacheModulePlugin",
        "lang-mustache-client",
        ("lang-mustache-client-*", "compiler-*"),
        policy=SCRIPT_POLICY,
    ),
    Module(
        "rank-eval", "org.opensearch.index.rankeval.RankEvalModulePlugin", "rank-eval-client", ("rank-eval-client-*",)
    ),
    Module(
        "analysis-common",
        "org.opensearch.analysis.common.CommonAnalysisModulePlugin",
        "analysis-common",
        ("analysis-common-*",),
        extends="lang-painless",
    ),
    Module(
        "search-pipeline-common",
        "org.opensearch.search.pipeline.common.SearchPipelineCommonModulePlugin",
        "search-pipeline-common",
        ("search-pipeline-common-*",),
        extends="lang-painless",
    ),
)


@dataclass(frozen=True, slots=True)
class Release:
    """A version of OpenSearch, and its requirements.

    log4j:      the version of log4j's core that fits it.
    java:       the oldest and newest major version of Java that run it.
    agent:      whether a Java agent guards it; before 3.0 the security manager does, which Java 24 no longer has.
    """

    version: str
    log4j: str
    java: tuple[int, int]
    agent: bool
    modules: tuple[Module, ...] = MODULES

    def without(self, module: str) -> Release:
        """Return the same release without one of its modules."""
        return replace(self, modules=tuple(one for one in self.modules if one.name != module))


OPENSEARCH_3 = Release("3.8.0", "2.25.3", (21, 99), agent=True)
OPENSEARCH_2 = Release(
    "2.19.6",  # its class loader for plugins is published; those of 2.19.2 to 2.19.5 are not
    "2.25.4",
    (17, 23),
    agent=False,
    modules=tuple(
        replace(
            one,
            classname=one.classname.replace("ModulePlugin", "Plugin"),
            jars=tuple(jar for jar in one.jars if jar != "opensearch-netty4-*"),
        )
        for one in MODULES
        if one.name != "search-pipeline-common"
    ),
)
VERSION = OPENSEARCH_3.version

# Dependencies of netty that need native code, which is not installed.
UNUSED_JARS = ("netty-*quic*", "netty-*http3*")
DESCRIPTOR = """\
description={module.name}
version={release.version}
name={module.name}
classname={module.classname}
java.version={release.java[0]}
opensearch.version={release.version}
has.native.controller=false
extended.plugins={module.extends}
custom.foldername=
"""


def lay_out(cache: Path, release: Release = OPENSEARCH_3) -> Path:
    """Return the directory of a server's layout under `cache`, and make it if it does not exist.

    Raises EngineUnavailable if it must be made and Maven is not installed, EngineError if Maven fails.
    """
    recipe = Path(__file__).read_bytes() + repr(release).encode()
    home = cache / f"{release.version}-{hashlib.blake2b(recipe, digest_size=4).hexdigest()}"
    if home.is_dir():
        return home
    if shutil.which("mvn") is None:
        raise EngineUnavailable(
            f"Maven (mvn) is not installed, and no OpenSearch {release.version} is laid out at {home}"
        )
    make_once(home, lambda building: _build(building, release))
    return home


def make_once(target: Path, build: Callable[[Path], None]) -> None:
    """Make the directory `target` once: `build` fills a temporary directory beside it, which is made readable and renamed.

    One process builds while others wait. Directories that a killed process left are removed.
    """
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return
        for left_over in target.parent.glob("building-*"):
            shutil.rmtree(left_over)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
        build(building)
        for path in (building, *building.rglob("*")):  # the server may run as another user, whatever this one's umask
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        building.rename(target)


def _build(home: Path, release: Release) -> None:
    jars = home / "jars"
    core = [("org.opensearch", name, release.version) for name in ("opensearch", "opensearch-plugin-classloader")]
    download(home / "lib", [*core, ("org.apache.logging.log4j", "log4j-core", release.log4j)])
    agent = [("org.opensearch", name, release.version) for name in ("opensearch-agent", "opensearch-agent-bootstrap")]
    plugins = [("org.opensearch.plugin", module.artifact, release.version) for module in release.modules]
    download(jars, [*(agent if release.agent else ()), *plugins])
    for unused in UNUSED_JARS:
        for jar in jars.glob(unused):
            jar.unlink()
    if release.agent:
        for jar in (home / "lib").glob("opensearch-agent-bootstrap-*"):
            jar.unlink()
        copy_jars(jars, ["opensearch-agent-*", "byte-buddy-[0-9]*"], home / "agent")
    for module in release.modules:
        folder = home / "modules" / module.name
        copy_jars(jars, module.jars, folder)
        (folder / "plugin-descriptor.properties").write_text(DESCRIPTOR.format(module=module, release=release))
        if not release.agent and module.policy:
            (folder / "plugin-security.policy").write_text(module.policy)
    (home / "bin").mkdir()
    (home / "plugins").mkdir()
    shutil.rmtree(jars)


def copy_jars(source: Path, patterns: Iterable[str], target: Path) -> None:
    """Copy the jars that match the patterns. Raises EngineError if a pattern matches none."""
    target.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        jars = list(source.glob(f"{pattern}.jar"))
        if not jars:
            raise EngineError(f"Maven downloaded no {pattern}.jar for {target.name}")
        for jar in jars:
            shutil.copy(jar, target)


def download(target: Path, artifacts: Iterable[tuple[str, str, str]]) -> None:
    """Copy the jars of artifacts (group, name, version) and of their dependencies into a directory, with Maven.

    Raises EngineError if Maven fails.
    """
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in artifacts
    )
    pom = target.with_suffix(".pom.xml")
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>local</groupId>'
        f"<artifactId>engine</artifactId><version>1</version><dependencies>{dependencies}</dependencies></project>"
    )
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    try:
        maven = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(pom), *copy],
            capture_output=True,
            text=True,
            check=False,
            timeout=MAVEN_DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"Maven did not download the jars within {MAVEN_DEADLINE_S} s") from None
    pom.unlink()
    if maven.returncode != 0:
        raise EngineError(f"Maven could not download the jars:\n{(maven.stdout + maven.stderr)[-3000:]}")
