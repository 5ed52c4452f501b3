"""The engine under the live suites: OpenSearch, or Elasticsearch with TEST_ENGINE=elasticsearch.

The suites talk to the server by opensearch-py, which both servers understand; the rewriter is put around the engine's own client.
`SKIPPED` names each row that the Elasticsearch from Maven Central cannot run, with the module that it lacks, and `DIFFERENT` each
row in which the two servers differ, with the difference (the table of docs/elasticsearch.md). No other row may be skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter import Rewriter
from rewriter.client.seam import SearchClient

IS_ELASTICSEARCH = os.environ.get("TEST_ENGINE") == "elasticsearch"

SUITES = tuple(
    f"tests/live/test_{name}.py"
    for name in (
        "shapes", "query_form", "index_facts", "objects", "object_lookups", "promises", "right_answers", "several_shards",
        "mixed_indices", "large_documents", "msearch", "store_down", "elasticsearch",
    )
)  # fmt: skip
"""The suites that run on Elasticsearch: shapes, bounds, pages, fallbacks, and the look-ups of ingest."""

TYPES: Mapping[str, str] = {
    "flat_object": "x-pack",
    "wildcard": "x-pack",
    "constant_keyword": "x-pack",
    "unsigned_long": "x-pack",
    "match_only_text": "mapper-extras",
    "rank_feature": "mapper-extras",
    "rank_features": "mapper-extras",
    "scaled_float": "mapper-extras",
    "search_as_you_type": "mapper-extras",
    "token_count": "mapper-extras",
    "join": "parent-join",
}
"""Field types that the server lacks, by the module that has them. `flat_object` is OpenSearch's; Elasticsearch's is `flattened`."""

SKIPPED: Mapping[str, str] = {
    "*test_shapes.py::test_every_ratio_lies_in_bounds*body11-*": "lang-painless",
    "*test_shapes.py::test_every_ratio_lies_in_bounds*body15-*": "lang-painless",
    "*test_query_form.py::test_queries_that_are_flat_by_their_form_are_flat*query8*": "lang-painless",
    "*test_mixed_indices.py::test_a_body_that_one_hit_breaks_is_held_alone*script_fields*": "lang-painless",
    "*test_right_answers.py::test_no_name_of_ours_at_any_depth*has_child*": "parent-join",
    "*test_object_lookups.py::*data stream*": "data-streams",
    "*test_object_lookups.py::test_an_id_is_found_in_a_field_of_each_type[[]wildcard*": "x-pack",
    "*test_object_lookups.py::test_an_id_is_found_in_a_field_of_each_type[[]unsigned_long*": "x-pack",
    "*test_object_lookups.py::test_an_id_is_found_in_a_field_of_each_type[[]flat*": "x-pack",
    "*test_object_lookups.py::test_an_id_is_found_in_a_field_of_each_type[[]scaled_float*": "mapper-extras",
    "*test_object_lookups.py::test_of_a_constant_keyword_*": "x-pack",
}
DIFFERENT: Mapping[str, str] = {
    "*test_shapes.py::test_the_server_refuses_a_rescore_here*collapse*": "`collapse` beside `rescore` is accepted",
    "*test_shapes.py::test_the_server_refuses_what_cannot_be_read*retriever*": "`retriever` is a key of a body",
    "*test_shapes.py::test_the_server_refuses_what_cannot_be_read*collapse*": "`collapse` beside `rescore` is accepted",
    "*test_index_facts.py::test_facts_of_a_real_index_and_its_alias": "no search pipelines, and no setting of a default one",
    "*test_mixed_indices.py::test_a_role_without_rights_*": "the rights have other names (tests/live/test_elasticsearch.py)",
}


def left_out(node_id: str) -> str:
    """Return why a row is not run on Elasticsearch, "" where it is."""
    for pattern, module in SKIPPED.items():
        if fnmatchcase(node_id, pattern):
            return f"Elasticsearch lacks the module {module}"
    return next((f"differs: {what}" for pattern, what in DIFFERENT.items() if fnmatchcase(node_id, pattern)), "")


def supported(properties: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a mapping's properties without fields of types that the server lacks."""
    found: dict[str, Any] = {}
    for name, one in (properties or {}).items():
        if IS_ELASTICSEARCH and one.get("type") in TYPES:
            continue
        found[name] = {**one, "properties": supported(one["properties"])} if "properties" in one else one
    return found


def storable(properties: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without values of fields that the server lacks the type of."""
    kept = supported(properties)
    return {name: value for name, value in source.items() if name in kept or name not in properties}


def runnable(*bodies: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return bodies that are drawn from, without those of scripts where the server lacks `lang-painless`."""
    return tuple(one for one in bodies if not IS_ELASTICSEARCH or '"script' not in json.dumps(one))


def search_client(url: str, connections: int = 10, **options: Any) -> Any:
    """Return the client of the engine at `url` that the rewriter is put around."""
    if not IS_ELASTICSEARCH:
        return OpenSearch(hosts=[url], pool_maxsize=connections, timeout=30, **options)
    from elasticsearch import Elasticsearch

    return Elasticsearch(url, connections_per_node=connections, request_timeout=30, **options)


def async_search_client(url: str, connections: int = 10, **options: Any) -> Any:
    """The same, for an event loop."""
    if not IS_ELASTICSEARCH:
        return AsyncOpenSearch(hosts=[url], pool_maxsize=connections, timeout=30, **options)
    from elasticsearch import AsyncElasticsearch

    return AsyncElasticsearch(url, connections_per_node=connections, request_timeout=30, **options)


def url_of(client: OpenSearch) -> str:
    """Return where a client's server is."""
    host = client.transport.hosts[0]
    return f"http://{host['host']}:{host['port']}"


class Intercepted:
    """A client of the optional legs whose searches a subclass sees."""

    def __init__(self, seam: SearchClient) -> None:
        self.seam = seam

    def __getattr__(self, name: str) -> Any:
        return getattr(self.seam, name)


def intercept(rewriter: Rewriter, legs: Any) -> None:
    """Have a rewriter send its legs by `legs`, which remains its owner's to close."""
    assert rewriter._runtime is not None
    rewriter._runtime.legs._client, rewriter._runtime.legs._owned = legs, False
