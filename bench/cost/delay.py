"""A TCP proxy that holds each request back for a fixed time, as a cluster's network and shards would: a process of its own.

python -m bench.cost.delay HOST:PORT SECONDS     prints its port, and serves until its standard input ends
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Self


class Delayed:
    """The proxy's process; `url` leads through it."""

    def __init__(self, upstream_url: str, delay_s: float) -> None:
        command = [sys.executable, "-m", __name__, upstream_url.removeprefix("http://").rstrip("/"), str(delay_s)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


async def _main(upstream: str, delay_s: float) -> None:
    host, _, port = upstream.rpartition(":")
    under_way: set[asyncio.Task[None]] = set()  # a loop alone holds its tasks weakly

    async def piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        try:
            while data := await reader.read(2**18):
                if wait_s:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        for one in (piped(reader, server_writer, delay_s), piped(server_reader, writer, 0.0)):
            under_way.add(task := asyncio.create_task(one))
            task.add_done_callback(under_way.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2])))
