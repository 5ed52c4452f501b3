"""A script that runs one server as long as its parent process lives.

Usage: guard.py USER REMOVE GRACE_S COMMAND...    (USER and REMOVE may be empty)

`process.ServerProcess` runs it, and explains it. The script prints the server's process id on standard output and waits. When
standard input ends, because the parent closed it or died in any way, the server gets SIGTERM, SIGKILL after GRACE_S seconds, and
the directory REMOVE is removed. If the server ends by itself, the directory stays, so that the parent can read the log in it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading


def start(command: list[str], user: str) -> subprocess.Popen[bytes]:
    """Start the server. Its output goes to standard error, which is the log."""
    if not user:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    group = pwd.getpwnam(user).pw_gid
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, user=user, group=group, extra_groups=[]
    )


def end_with_parent(server: subprocess.Popen[bytes], grace_s: float, parent_gone: threading.Event) -> None:
    """Wait for the end of standard input, then end the server, even if it was paused with SIGSTOP."""
    while os.read(0, 1):
        pass
    parent_gone.set()
    with contextlib.suppress(ProcessLookupError):
        server.terminate()
        server.send_signal(signal.SIGCONT)
    try:
        server.wait(grace_s)
    except subprocess.TimeoutExpired:
        server.kill()


def main(user: str, remove: str, grace_s: str, *command: str) -> None:
    """Start the server, print its process id, wait for the end of the server or of the parent, and clean up."""
    server = start(list(command), user)
    os.write(1, f"{server.pid}\n".encode())
    parent_gone = threading.Event()
    threading.Thread(target=end_with_parent, args=(server, float(grace_s), parent_gone), daemon=True).start()
    status = server.wait()
    if remove and parent_gone.is_set():
        shutil.rmtree(remove, ignore_errors=True)
    # Not sys.exit(): the thread may still be in its read, and an orderly exit of the interpreter would wait for it.
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main(*sys.argv[1:])
