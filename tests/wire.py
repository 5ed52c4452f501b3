"""A server of HTTP that answers as it is told, byte by byte where it must: what a client does with it is seen from outside."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

ANSWER: dict[str, Any] = {
    "took": 1,
    "timed_out": False,
    "_shards": {"total": 1, "successful": 1, "failed": 0},
    "hits": {
        "total": {"value": 1, "relation": "eq"},
        "max_score": 1.0,
        "hits": [{"_index": "i", "_id": "1", "_score": 1.0}],
    },
}


class Wire:
    """Answers each request with `reply(request)`: pieces of bytes, sent one by one with `pause_s` between them.

    requests: the head of each request, with names in lower case, and its body.
    """

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.reply: Callable[[dict[str, str]], list[bytes]] = lambda _: whole(ANSWER)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), name="wire", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as read:
            while line := read.readline():
                head = {}
                while (one := read.readline().strip()) != b"":
                    name, _, value = one.decode().partition(":")
                    head[name.lower()] = value.strip()
                body = read.read(int(head.get("content-length", 0)))
                self.requests.append((line.decode().split(" HTTP")[0], head, body))
                for piece in self.reply({":path": line.decode().split(" ")[1], **head}):
                    connection.sendall(piece)
                    if self._stopping.wait(self.pause_s):
                        return


def whole(answer: Any, mimetype: str = "application/json", *, compressed: bool = False) -> list[bytes]:
    """Return an answer in one piece."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    more = ""
    if compressed:
        body, more = gzip.compress(body), "content-encoding: gzip\r\n"
    return [f"HTTP/1.1 200 OK\r\ncontent-type: {mimetype}\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body]


def byte_by_byte(answer: Any) -> list[bytes]:
    """Return an answer whose head comes at once, and whose body drips."""
    (text,) = whole(answer)
    head, _, body = text.partition(b"\r\n\r\n")
    return [head + b"\r\n\r\n", *(body[at : at + 1] for at in range(len(body)))]


def chunk_by_chunk(answer: Any) -> list[bytes]:
    """Return an answer of chunks of one byte."""
    body = json.dumps(answer).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *(b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body))), b"0\r\n\r\n"]


def header_by_header(answer: Any) -> list[bytes]:
    """Return an answer whose head drips."""
    (text,) = whole(answer)
    return [text[at : at + 1] for at in range(len(text))]


def without_end(_: Any = None) -> list[bytes]:
    """Return an answer that goes on and on."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *([b"1\r\n \r\n"] * 100_000)]
