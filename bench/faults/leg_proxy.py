"""An HTTP proxy between the optional legs and OpenSearch that spoils the answers.

It is a process of its own, so that its work is not measured as the library's. `python -m bench.faults.leg_proxy HOST:PORT` prints
its port, reads one mode after the other from standard input, and prints each mode once it is in effect.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

LATE_S = {"slow": 0.2, "later": 0.04}
ERRORS = {"400": "Bad Request", "429": "Too Many Requests", "502": "Bad Gateway", "503": "Service Unavailable"}


class LegProxy:
    """The handle of the proxy's process."""

    def __init__(self, upstream: str) -> None:
        command = [sys.executable, "-m", __name__, upstream]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.url = f"http://127.0.0.1:{self._line()}"

    @contextmanager
    def spoiling(self, mode: str) -> Iterator[None]:
        """Spoil every answer in this way."""
        self._set(mode)
        try:
            yield
        finally:
            self._set("plain")

    def _set(self, mode: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n")
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def spoiled(mode: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return a search's answer as `mode` changes it."""
    hits = answer["hits"]["hits"]
    match mode:
        case "timed_out":
            return answer | {"timed_out": True}
        case "partial shards":
            return answer | {"_shards": answer["_shards"] | {"failed": 1}}
        case "duplicate ids":
            return answer | {"hits": answer["hits"] | {"hits": hits[:1] * len(hits)}}
        case "no hits":
            return {"error": "something else altogether"}
        case _:
            return answer


class _Proxy:
    def __init__(self, upstream: str) -> None:
        self._host, _, port = upstream.rpartition(":")
        self._port = int(port)
        self.mode = "plain"
        self._serving: set[asyncio.Task[None] | None] = set()  # a loop alone holds its tasks weakly

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(task := asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            try:
                while True:
                    head, body = await message(reader)
                    if not await self._answer(head, body, reader, server_reader, server_writer, writer):
                        break
            finally:
                server_writer.close()
        writer.close()
        self._serving.discard(task)

    async def _answer(
        self,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request. Returns False to end the connection."""
        mode = self.mode if b"/_search" in head.partition(b"\r\n")[0] else "plain"
        if mode == "silent":
            await reader.read()  # until its client has given up
            return False
        if mode in ERRORS:
            answer = json.dumps({"error": {"type": "made_up", "reason": "by the proxy"}, "status": int(mode)}).encode()
            status = f"HTTP/1.1 {mode} {ERRORS[mode]}\r\ncontent-type: application/json\r\n"
            writer.write(f"{status}content-length: {len(answer)}\r\n\r\n".encode() + answer)
            return True
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"accept-encoding:")]
        server_writer.write(b"\r\n".join(lines) + body)
        head, body = await message(server_reader)
        if mode in LATE_S:
            await asyncio.sleep(LATE_S[mode])
        if mode == "truncated":
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            return False
        if mode not in ("plain", *LATE_S) and b" 200 " in head.partition(b"\r\n")[0]:
            body = json.dumps(spoiled(mode, json.loads(body))).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()
        return True


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one HTTP message with a content-length, or with chunks: head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
    headers = {name.strip(): value.strip() for name, _, value in lines}
    if headers.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return head.partition(b"\r\n")[0] + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
            body
        ), body
    return head, await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def _main(upstream: str) -> None:
    proxy = _Proxy(upstream)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        proxy.mode = line.strip()
        print(proxy.mode, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
