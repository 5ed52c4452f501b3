"""A resolver for two host names: the store's, which can be slow or fail, and the search engine's, which resolves at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STORE, SEARCH = "store.rewriter.test", "search.rewriter.test"


class Resolver:
    """Resolves both to 127.0.0.1, `STORE` after `delay_s`, or not at all."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.fails = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace the process's resolver."""
        real = socket.getaddrinfo

        def resolve(host: Any, *rest: Any, **named: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name not in (STORE, SEARCH):
                return real(host, *rest, **named)
            if name == STORE:
                time.sleep(self.delay_s)
                if self.fails:
                    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return real("127.0.0.1", *rest, **named)

        socket.getaddrinfo = resolve
        try:
            yield
        finally:
            socket.getaddrinfo = real

    @contextmanager
    def slow(self, delay_s: float) -> Iterator[None]:
        """Delay each look-up by `delay_s`."""
        self.delay_s = delay_s
        try:
            yield
        finally:
            self.delay_s = 0.0

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Let each look-up fail."""
        self.fails = True
        try:
            yield
        finally:
            self.fails = False
