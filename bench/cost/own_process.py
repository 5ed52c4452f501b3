"""A small server of the bench in a process of its own: a module that prints its port, and serves until its standard input ends."""

from __future__ import annotations

import subprocess
import sys
from typing import Self


class OwnProcess:
    """The process of a module's server, and its `url`."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
