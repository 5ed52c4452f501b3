"""A server that answers every search at once with made-up hits, in a process of its own: for what the client's side alone shows.

python -m bench.cost.stub     prints its port, and serves until its standard input ends
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bench.cost.own_process import OwnProcess

INDEX = "products"
MATCHES = 10_000
MAPPING = {"title": {"type": "text"}, "brand": {"type": "keyword"}}


class Stub(OwnProcess):
    """The server's process, and its `url`."""

    def __init__(self) -> None:
        super().__init__(__name__)


def answer(path: str, body: bytes) -> dict[str, Any]:
    """Return the server's answer to a request."""
    if path.endswith("_search"):
        return found(json.loads(body))
    if "_mapping" in path:
        return {INDEX: {"mappings": {"properties": MAPPING}}}
    if "_settings" in path:
        return {INDEX: {"settings": {"index.number_of_replicas": "0"}}}
    return {"version": {"number": "3.8.0", "distribution": "opensearch"}}


def found(search: dict[str, Any]) -> dict[str, Any]:
    """Return a search's answer: as many hits as it asks for, scores that fall with the rank."""
    first, size = int(search.get("from", 0)), int(search.get("size", 10))
    hits = [
        {"_index": INDEX, "_id": f"{n}", "_score": 1e6 - n, "_source": {"title": f"product {n}", "brand": f"b{n % 50}"}}
        for n in range(first, min(first + size, MATCHES))
    ]
    total = {"value": MATCHES, "relation": "gte"}
    return {
        "took": 1, "timed_out": False, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
        "hits": {"total": total, "max_score": 1e6, "hits": hits},
    }  # fmt: skip


class _Http(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].decode("latin-1")
            fields = [line.partition(":") for line in head.split("\r\n")[1:]]
            length = next((int(value) for name, _, value in fields if name.lower() == "content-length"), 0)
            start = end + 4
            if len(self._data) < start + length:
                return
            body, self._data = self._data[start : start + length], self._data[start + length :]
            text = json.dumps(answer(head.split(" ")[1].partition("?")[0], body)).encode()
            line = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
            self._transport.write(line.encode() + text)


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Http, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
