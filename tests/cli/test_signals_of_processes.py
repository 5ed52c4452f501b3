"""A worker that is told to end does so, whatever its main thread holds when the signal arrives."""

from __future__ import annotations

import subprocess
import sys

HELD = """
import os, signal
from rewriter.cli.ingest import set_by_signals

stopping = set_by_signals(signal.SIGTERM, signal.SIGINT)
with stopping._cond:  # as `stopping.wait` holds it for a moment
    os.kill(os.getpid(), signal.{name})
    print("handled", flush=True)
print(stopping.wait(20))
"""


def test_a_signal_that_arrives_while_the_flag_s_lock_is_held_ends_the_worker() -> None:
    for name in ("SIGTERM", "SIGINT"):
        command = [sys.executable, "-c", HELD.format(name=name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.split() == ["handled", "True"], done.stderr
