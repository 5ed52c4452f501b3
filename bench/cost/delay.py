"""A TCP proxy that holds each request back for a fixed time, as a cluster's network and shards would: a process of its own.

python -m bench.cost.delay HOST:PORT SECONDS     prints its port, and serves until its standard input ends
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from bench.cost.own_process import OwnProcess


class Delayed(OwnProcess):
    """The proxy's process; `url` leads through it."""

    def __init__(self, upstream_url: str, delay_s: float) -> None:
        super().__init__(__name__, upstream_url.removeprefix("http://").rstrip("/"), str(delay_s))


async def _main(upstream: str, delay_s: float) -> None:
    host, _, port = upstream.rpartition(":")
    under_way: set[asyncio.Task[None]] = set()  # a loop alone holds its tasks weakly

    async def read(reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]], wait_s: float) -> None:
        """Queue what arrives with the time at which it goes on: what was sent in two parts is held back as long as one part is."""
        data = b"?"
        while data:
            try:
                data = await reader.read(2**18)
            except ConnectionError:
                data = b""
            held.put_nowait((asyncio.get_running_loop().time() + wait_s, data))

    async def write(writer: asyncio.StreamWriter, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        with suppress(ConnectionError):
            while (one := await held.get())[1]:
                await asyncio.sleep(max(0.0, one[0] - asyncio.get_running_loop().time()))
                writer.write(one[1])
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        for source, target, wait_s in ((reader, server_writer, delay_s), (server_reader, writer, 0.0)):
            held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            for one in (read(source, held, wait_s), write(target, held)):
                under_way.add(task := asyncio.create_task(one))
                task.add_done_callback(under_way.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2])))
