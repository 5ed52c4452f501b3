"""elasticsearch-py behind the seam: `Elasticsearch` and `AsyncElasticsearch` of 8 (in compatibility mode) and 9."""

from rewriter.client.elasticsearch.client import (
    ASYNC,
    CLONES_SEARCH,
    LOGGERS,
    SEARCHING,
    SYNC,
    ElasticsearchClient,
    around,
    connect,
    kind_of,
)
from rewriter.client.elasticsearch.clone import CLASSES, check_clone

__all__ = (
    "ASYNC",
    "CLASSES",
    "CLONES_SEARCH",
    "LOGGERS",
    "SEARCHING",
    "SYNC",
    "ElasticsearchClient",
    "around",
    "check_clone",
    "connect",
    "kind_of",
)
