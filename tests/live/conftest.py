"""What several live tests read and none changes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from opensearchpy import OpenSearch, helpers

from tests.live.shelf import MAPPING, shoes


@pytest.fixture(scope="session")
def products(opensearch: OpenSearch) -> Iterator[str]:
    """An index of three shards with ninety shoes, made once for all tests that only search it."""
    name = f"shelf-{uuid.uuid4().hex[:8]}"
    settings = {"number_of_shards": 3, "number_of_replicas": 0}
    opensearch.indices.create(index=name, body={"settings": settings, "mappings": {"properties": MAPPING}})
    try:
        actions = ({"_index": name, "_id": key, "_source": source} for key, source in shoes(90).items())
        helpers.bulk(opensearch, actions, refresh=True)
        yield name
    finally:
        opensearch.indices.delete(index=name)
