"""Servers with another protocol than Redis: each answers every chunk it receives with the same bytes."""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

GARBAGE = b"\x00\xff<html>502 Bad Gateway</html>\r\n" * 4
HALF_A_REPLY = b"*6\r\n$9\r\nitem\x1f1"


@contextmanager
def answering(reply: bytes, *, then_close: bool) -> Iterator[str]:
    """Run such a server on a free port; yield its host:port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65_536):
                self.request.sendall(reply)
                if then_close:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None:
            """Ignore errors of a client that has disconnected, which the fault intends."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name="bad-store")
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
