"""Lateness of the machine itself: how much longer than requested a thread that only sleeps is kept waiting."""

from __future__ import annotations

import threading
import time
from typing import Self

NAP_S = 0.005


class Lateness:
    """Measures in the background of a `with` block; `worst_ms` is the longest delay so far."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lateness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            slept_s = time.perf_counter()
            time.sleep(NAP_S)
            self.worst_ms = max(self.worst_ms, (time.perf_counter() - slept_s - NAP_S) * 1_000)
