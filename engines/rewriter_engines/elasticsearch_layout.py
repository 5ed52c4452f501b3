"""The layout of an Elasticsearch server, made from the jars that Elastic publishes on Maven Central.

    lib/                        the server, which runs on the module path, with its entitlements on
    lib/entitlement-bridge/     the jar that is patched into `java.base`
    lib/entitlement-agent/      an agent that hands the server its Instrumentation; compiled here
    lib/tools/ansi-console/     a console loader that answers "no terminal"; compiled here
    lib/start-arguments/        the class that writes the arguments which the server reads from standard input; compiled here
    lib/platform/               the system's libzstd, which the server loads by name from this folder
    modules/transport-netty4/   the one module that Maven Central has; its descriptor and policy lie inside its jar
    plugins/root/               the answer to `GET /`, whose module Maven Central lacks; compiled here

`MISSING_MODULES` lists what a server laid out like this lacks beside the distribution.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

from rewriter_engines.errors import EngineError, EngineUnavailable
from rewriter_engines.java import Java
from rewriter_engines.layout import copy_jars, download, make_once

ELASTICSEARCH_9 = "9.5.3"

MISSING_MODULES: Mapping[str, str] = {
    "lang-painless": "scripts: `script_score`, `script_fields`, `script` filters",
    "mapper-extras": "`rank_feature`, `scaled_float`, `search_as_you_type`, `match_only_text`",
    "parent-join": "`join` fields, `has_child` and `has_parent` queries",
    "analysis-common": "analyzers of languages, stemmers, synonyms, n-grams",
    "lang-mustache": "search templates",
    "rank-eval": "`_rank_eval`",
    "reindex": "`_reindex`, update and delete by query",
    "percolator": "percolate queries",
    "x-pack": "security, licenses, ES|QL, `wildcard`, `constant_keyword`, `flattened`, `unsigned_long`, `version`, async search",
    "data-streams": "data streams",
}
"""The modules of the distribution that Maven Central does not have, and what a server without them lacks."""

SOURCES = Path(__file__).with_name("elasticsearch_java")
COMPILE_DEADLINE_S = 120
DESCRIPTOR = """\
description=GET /
version=1
name=root
classname=RootPlugin
java.version=21
elasticsearch.version={version}
"""
PLATFORMS = ("linux-x64", "linux-aarch64")


def lay_out_elasticsearch(cache: Path, jdk: Java, version: str = ELASTICSEARCH_9) -> Path:
    """Return the directory of a laid-out server under `cache`, made now where it is not there.

    Raises EngineUnavailable where it has to be made and Maven or libzstd are not installed, EngineError where Maven or the
    compiler fails.
    """
    recipe = b"".join(path.read_bytes() for path in (Path(__file__), *sorted(SOURCES.iterdir()))) + version.encode()
    home = cache / f"elasticsearch-{version}-{hashlib.blake2b(recipe, digest_size=4).hexdigest()}"
    if home.is_dir():
        return home
    if shutil.which("mvn") is None:
        raise EngineUnavailable(f"Maven (mvn) is not installed, and no Elasticsearch {version} is laid out at {home}")
    zstd = _zstd()
    make_once(home, lambda building: _build(building, jdk, version, zstd))
    return home


def _build(home: Path, jdk: Java, version: str, zstd: Path) -> None:
    lib, jars = home / "lib", home / "jars"
    download(lib, [("org.elasticsearch", "elasticsearch", version)])
    download(
        jars,
        [
            ("org.elasticsearch.plugin", "transport-netty4", version),
            ("org.elasticsearch", "elasticsearch-entitlement-bridge", version),
        ],
    )
    copy_jars(jars, ["elasticsearch-entitlement-bridge-*"], lib / "entitlement-bridge")
    module = home / "modules" / "transport-netty4"
    copy_jars(jars, ["transport-netty4-*", "netty-*", "elasticsearch-ssl-config-*"], module)
    shutil.rmtree(jars)
    _unpack_descriptor(next(module.glob("transport-netty4-*.jar")), module)
    for platform in PLATFORMS:
        (lib / "platform" / platform).mkdir(parents=True)
        shutil.copy(zstd, lib / "platform" / platform / "libzstd.so")
    compiler = _Compiler(jdk, home / "classes", f"{lib}/*")
    compiler.jar(
        "Agent", lib / "entitlement-agent" / "agent.jar", "Agent-Class: Agent\nCan-Retransform-Classes: true\n"
    )
    compiler.jar("AnsiConsoleLoader", lib / "tools" / "ansi-console" / "console.jar")
    compiler.jar("RootPlugin", home / "plugins" / "root" / "root.jar")
    (home / "plugins" / "root" / "plugin-descriptor.properties").write_text(DESCRIPTOR.format(version=version))
    shutil.copytree(compiler.compiled("StartArguments"), lib / "start-arguments")
    shutil.rmtree(home / "classes")


def _unpack_descriptor(jar: Path, module: Path) -> None:
    """Copy the descriptor and the entitlement policy of a module out of its jar."""
    prefix = f"META-INF/es-plugins/{module.name}/"
    with zipfile.ZipFile(jar) as opened:
        found = [name for name in opened.namelist() if name.startswith(prefix) and not name.endswith("/")]
        if not found:
            raise EngineError(f"{jar.name} holds no descriptor of {module.name}")
        for name in found:
            (module / name.removeprefix(prefix)).write_bytes(opened.read(name))


class _Compiler:
    """Compiles the classes of `elasticsearch_java`, each into a folder of its own under `classes`."""

    def __init__(self, jdk: Java, classes: Path, classpath: str) -> None:
        self._javac = jdk.path.with_name("javac")
        self._classes = classes
        self._classpath = classpath

    def compiled(self, name: str) -> Path:
        """Compile one class, and return the folder that holds what came of it."""
        target = self._classes / name
        command = [str(self._javac), "-cp", self._classpath, "-d", str(target), str(SOURCES / f"{name}.java")]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise EngineError(f"javac did not compile {name}.java within {COMPILE_DEADLINE_S} s") from None
        if run.returncode:
            raise EngineError(f"javac could not compile {name}.java:\n{(run.stdout + run.stderr)[-3000:]}")
        return target

    def jar(self, name: str, target: Path, manifest: str = "") -> None:
        """Compile one class into a jar whose manifest holds these lines."""
        classes = self.compiled(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(target, "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\n{manifest}\n")
            for path in sorted(classes.rglob("*.class")):
                jar.write(path, path.relative_to(classes).as_posix())


def _zstd() -> Path:
    """Return the system's libzstd. Raises EngineUnavailable where there is none."""
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        known = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        known = ""
    found = re.search(r"libzstd\.so\.1 .*=> (\S+)", known)
    if found and Path(found[1]).is_file():
        return Path(found[1])
    raise EngineUnavailable("libzstd.so.1, which Elasticsearch loads, is not installed (Debian: libzstd1)")
