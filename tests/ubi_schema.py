"""What UBI 1.3.0 asks of a query and of an event, as JSON Schema: its limits and types, without its prose."""

from __future__ import annotations

from typing import Any

SHORT = {"type": "string", "maxLength": 100}
OBJECT_ID = {"anyOf": [{"type": "string", "maxLength": 256}, {"type": "integer"}]}

QUERY: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["user_query"],
    "properties": {
        "application": SHORT,
        "query_id": SHORT,
        "client_id": SHORT,
        "user_query": {"type": "string"},
        "query_attributes": {"type": "object"},
        "object_id_field": SHORT,
        "timestamp": {"type": "string", "format": "date-time"},
        "query_response_id": {"type": "string"},
        "query_response_hit_ids": {"type": "array", "items": {"type": "string"}},
    },
}

EVENT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["action_name", "timestamp"],
    "properties": {
        "application": SHORT,
        "action_name": SHORT,
        "query_id": SHORT,
        "session_id": SHORT,
        "client_id": SHORT,
        "user_id": SHORT,
        "timestamp": {"type": "string", "format": "date-time"},
        "message_type": SHORT,
        "message": {"type": "string", "maxLength": 1024},
        "event_attributes": {
            "type": "object",
            "required": ["position"],
            "properties": {
                "object": {"type": "object", "required": ["object_id"], "properties": {"object_id": OBJECT_ID}},
                "position": {"type": "object", "anyOf": [{"required": ["ordinal"]}, {"required": ["xy"]}]},
            },
        },
    },
}

QUERIES_MAPPING: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "timestamp": {"type": "date"},
        "query_id": {"type": "keyword", "ignore_above": 100},
        "query": {"type": "text"},
        "query_response_id": {"type": "keyword", "ignore_above": 100},
        "query_response_hit_ids": {"type": "keyword"},
        "user_query": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
        "query_attributes": {"type": "flat_object"},
        "client_id": {"type": "keyword", "ignore_above": 100},
        "indexes": {"type": "keyword"},
    },
}
"""The fields of the plugin's own `ubi_queries`."""
