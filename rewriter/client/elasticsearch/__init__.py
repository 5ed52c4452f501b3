"""elasticsearch-py behind the seam: `Elasticsearch` and `AsyncElasticsearch` of 8 (in compatibility mode) and 9."""

from rewriter.client.elasticsearch.client import (
    ASYNC,
    LOGGERS,
    SYNC,
    ElasticsearchClient,
    around,
    connect,
    kind_of,
)

__all__ = ("ASYNC", "LOGGERS", "SYNC", "ElasticsearchClient", "around", "connect", "kind_of")
