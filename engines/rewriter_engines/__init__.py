"""Search engines and stores that the demo, the tests and the bench start and stop: nothing here is needed to use the library.

`Osmem` and `Valkey` come from PyPI; `OpenSearchServer` and `ElasticsearchServer` are the real ones, from Maven Central's
jars. Each is running when its constructor returns, listens on 127.0.0.1 at a port of its own, is closed by `with` or `close()`,
and ends with this process.
"""

from rewriter_engines.elasticsearch import ElasticsearchServer
from rewriter_engines.errors import EngineError, EngineUnavailable
from rewriter_engines.opensearch import OpenSearchServer
from rewriter_engines.osmem import Osmem
from rewriter_engines.valkey import Valkey
from rewriter_engines.valkey_cluster import ValkeyCluster

__all__ = [
    "ElasticsearchServer",
    "EngineError",
    "EngineUnavailable",
    "OpenSearchServer",
    "Osmem",
    "Valkey",
    "ValkeyCluster",
]
