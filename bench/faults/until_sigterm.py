"""A process that searches until SIGTERM: `python -m bench.faults.until_sigterm OPENSEARCH STORE INDEX sync|async`.

It ends as services do: sync by SystemExit raised in the search that is under way, async by cancelling the task that searches.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from typing import Any

from opensearchpy import AsyncOpenSearch, OpenSearch

from bench.faults.scene import BODIES, PREFIX, SUBJECTS, subject
from rewriter import AsyncRewriter, Rewriter, Settings

SEARCHES_A_LINE = 20


def _settings() -> Settings:
    return Settings.model_validate({"store": {"prefix": PREFIX}, "experiment": {"holdout": 0.0}})


def _ended(*_: Any) -> None:
    raise SystemExit(0)


def _sync(url: str, store: str, index: str) -> None:
    signal.signal(signal.SIGTERM, _ended)
    with OpenSearch(url) as client, Rewriter(client, store, _settings()) as rewriter:
        while True:
            for number in range(SEARCHES_A_LINE):
                rewriter.search(index=index, body=BODIES[0], subject=subject(number % SUBJECTS))
            print("searching", flush=True)


async def _async(url: str, store: str, index: str) -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with AsyncOpenSearch(url) as client, AsyncRewriter(client, store, _settings()) as rewriter:
        while True:
            for number in range(SEARCHES_A_LINE):
                await rewriter.search(index=index, body=BODIES[0], subject=subject(number % SUBJECTS))
            print("searching", flush=True)


if __name__ == "__main__":
    opensearch_url, store_url, index_name, shell = sys.argv[1:]
    if shell == "sync":
        _sync(opensearch_url, store_url, index_name)
    else:
        with suppress(asyncio.CancelledError):
            asyncio.run(_async(opensearch_url, store_url, index_name))
