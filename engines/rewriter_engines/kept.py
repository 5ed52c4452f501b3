"""The engines that one user keeps running between commands: where they are, and how they are started and ended.

A folder of the user holds `lock`, which the keeper locks and signs as long as it lives, `state`, which it writes once its engines
answer, and `log`. The lock shows which keeper lives; a process id alone does not, since ids are reused.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rewriter_engines.errors import EngineError

LOCK, STATE, LOG = "lock", "state", "log"
POLL_S = 0.05
END_DEADLINE_S = 40.0
LOG_TAIL_CHARS = 3_000
TAKEN = 3
_keepers: list[subprocess.Popen[bytes]] = []
"""Those that this process started. They outlive it; while it lives, it is their parent, and reaps those that ended."""


@dataclass(frozen=True, slots=True)
class Order:
    """The engines to start. engine: `auto`, `opensearch`, `elasticsearch` or `osmem`; port 0 means any free port."""

    engine: str
    hours: float
    search_port: int
    store_port: int


@dataclass(frozen=True, slots=True)
class Server:
    """One server: its product and version, its URL on 127.0.0.1, and its process id."""

    name: str
    version: str
    url: str
    process: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The engines that a keeper, the process `process`, keeps until `until_s` (seconds since the epoch).

    why_no_opensearch: where osmem-server stands in, what this machine lacks for a real OpenSearch.
    """

    process: int
    until_s: float
    search: Server
    store: Server
    why_no_opensearch: str = ""


def folder_of(name: str) -> Path:
    """Return the folder of a set of engines, made now where it is not there.

    Raises EngineError where it belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir(), f"rewriter-engines-{os.getuid()}", name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (folder.parent, folder):
        if path.is_symlink() or path.stat().st_uid != os.getuid():
            raise EngineError(f"{path} belongs to somebody else; remove it or set TMPDIR")
    return folder


def keeper_of(folder: Path) -> int | None:
    """Return the process id of the keeper that lives, or None."""
    try:
        lock = (folder / LOCK).open("r+")
    except FileNotFoundError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            signed = lock.read().strip()
            return int(signed) if signed.isdigit() else None
    return None


def kept_in(folder: Path) -> Kept | None:
    """Return the engines that a living keeper keeps, or None, also while it still starts them."""
    keeper = keeper_of(folder)
    try:
        found = json.loads((folder / STATE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    kept = Kept(**found | {"search": Server(**found["search"]), "store": Server(**found["store"])})
    return kept if kept.process == keeper else None


def start(folder: Path, order: Order, on_wait: Callable[[float], None]) -> tuple[Kept, bool]:
    """Return the engines, and whether they were started now: a keeper that lives keeps those that it has.

    on_wait: called while they start, with the seconds so far.

    Raises EngineError where they do not come up. The keeper outlives this process; on an exception, Ctrl-C included, it is ended.
    """
    if kept := kept_in(folder):
        return kept, False
    with (folder / LOG).open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "rewriter_engines.keeper", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _keepers.append(keeper)  # several threads may do so at once: nothing here loses what another one added
    for ended in [one for one in _keepers if one.poll() is not None]:
        with suppress(ValueError):
            _keepers.remove(ended)
    assert keeper.stdin is not None
    with keeper.stdin as order_pipe:
        order_pipe.write(json.dumps(asdict(order)).encode())
    started_s = time.monotonic()
    try:
        while (kept := kept_in(folder)) is None:
            _refuse_ended(keeper.poll(), folder)
            on_wait(time.monotonic() - started_s)
            time.sleep(POLL_S)
    except BaseException:
        keeper.terminate()
        raise
    return kept, kept.process == keeper.pid


def end(folder: Path) -> int | None:
    """End the keeper by its process id, and with it both engines; return the id, or None where none lived.

    Raises EngineError where it does not end in time.
    """
    keeper = keeper_of(folder)
    if keeper is None:
        return None
    os.kill(keeper, signal.SIGTERM)
    late_at = time.monotonic() + END_DEADLINE_S
    while keeper_of(folder) == keeper:
        if time.monotonic() > late_at:
            raise EngineError(f"process {keeper} did not end within {END_DEADLINE_S:g} s; see {folder / LOG}")
        time.sleep(POLL_S)
    return keeper


def _refuse_ended(code: int | None, folder: Path) -> None:
    """Raise EngineError if the keeper ended without engines, or left the folder to another one that did."""
    if code == TAKEN and keeper_of(folder) is None:
        raise EngineError("another `rewriter engines up` failed; try again")
    if code not in (None, TAKEN):
        log = (folder / LOG).read_text(errors="replace").strip()
        raise EngineError(log[-LOG_TAIL_CHARS:] or "the engines did not come up, and logged nothing")
