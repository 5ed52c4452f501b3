"""The search engine under the faults: its server, and the clients of the load. On Elasticsearch only the legs' faults are made."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Literal

from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter_engines import ElasticsearchServer, OpenSearchServer

EngineName = Literal["opensearch", "elasticsearch"]
ENGINES: tuple[EngineName, ...] = ("opensearch", "elasticsearch")
TIMEOUT_S = 10.0


def url_of(engine: EngineName, stack: ExitStack) -> str:
    """Return the URL of OPENSEARCH_URL or ELASTICSEARCH_URL, else of a server that ends with `stack`. Raises EngineUnavailable."""
    if given := os.environ.get(f"{engine.upper()}_URL"):
        return given
    server = OpenSearchServer() if engine == "opensearch" else ElasticsearchServer()
    return stack.enter_context(server).url


def client(engine: EngineName, url: str, connections: int, **options: Any) -> Any:
    """Return a client for threads."""
    if engine == "opensearch":
        return OpenSearch(url, pool_maxsize=connections, timeout=TIMEOUT_S, **options)
    from elasticsearch import Elasticsearch  # noqa: PLC0415  where it is the engine

    return Elasticsearch(url, connections_per_node=connections, request_timeout=TIMEOUT_S, **options)


def async_client(engine: EngineName, url: str, connections: int, **options: Any) -> Any:
    """Return a client for the event loop."""
    if engine == "opensearch":
        return AsyncOpenSearch(url, pool_maxsize=connections, timeout=TIMEOUT_S, **options)
    from elasticsearch import AsyncElasticsearch  # noqa: PLC0415  where it is the engine

    return AsyncElasticsearch(url, connections_per_node=connections, request_timeout=TIMEOUT_S, **options)


def is_search(target: Any) -> bool:
    """Whether a request's target is a search."""
    return isinstance(target, str) and target.partition("?")[0].endswith("/_search")
