"""opensearch-py behind the seam: `OpenSearch` and `AsyncOpenSearch`, from 2.4 on."""

from rewriter.client.opensearch.client import (
    ASYNC,
    CLONES_SEARCH,
    LOGGERS,
    OF_ONE_REQUEST,
    SYNC,
    OpenSearchClient,
    around,
    connect,
    kind_of,
)
from rewriter.client.opensearch.clone import CLASSES, SEARCHING, check_clone, cloned

__all__ = (
    "ASYNC",
    "CLASSES",
    "CLONES_SEARCH",
    "LOGGERS",
    "OF_ONE_REQUEST",
    "SEARCHING",
    "SYNC",
    "OpenSearchClient",
    "around",
    "check_clone",
    "cloned",
    "connect",
    "kind_of",
)
