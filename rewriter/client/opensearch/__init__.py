"""opensearch-py behind the seam: `OpenSearch` and `AsyncOpenSearch`, from 2.4 on."""

from rewriter.client.opensearch.client import (
    ASYNC,
    LOGGERS,
    OF_ONE_REQUEST,
    SYNC,
    OpenSearchClient,
    around,
    connect,
    kind_of,
    own_methods,
    unused_methods,
)
from rewriter.client.opensearch.clone import check_clone, cloned

__all__ = (
    "ASYNC",
    "LOGGERS",
    "OF_ONE_REQUEST",
    "SYNC",
    "OpenSearchClient",
    "around",
    "check_clone",
    "cloned",
    "connect",
    "kind_of",
    "own_methods",
    "unused_methods",
)
