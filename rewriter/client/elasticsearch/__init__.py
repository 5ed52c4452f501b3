"""elasticsearch-py behind the seam: `Elasticsearch` and `AsyncElasticsearch` of 8 (in compatibility mode) and 9."""

from rewriter.client.elasticsearch.client import (
    ASYNC,
    LOGGERS,
    SYNC,
    ElasticsearchClient,
    around,
    connect,
    kind_of,
    own_methods,
    unused_methods,
)
from rewriter.client.elasticsearch.clone import check_clone

__all__ = (
    "ASYNC",
    "LOGGERS",
    "SYNC",
    "ElasticsearchClient",
    "around",
    "check_clone",
    "connect",
    "kind_of",
    "own_methods",
    "unused_methods",
)
