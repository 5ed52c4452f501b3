"""Ninety shoes as documents, and the searches that live tests send for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opensearchpy import OpenSearch, TransportError

from rewriter import Settings
from rewriter.boost.body import optional_leg
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys

MATCH: dict[str, Any] = {"match": {"title": "red shoe"}}
MAPPING: dict[str, Any] = {
    "title": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
    "brand": {"type": "keyword"},
    "colour": {"type": "keyword"},
    "price": {"type": "integer"},
    "hidden": {"type": "keyword", "index": False, "doc_values": False},
    "offers": {"type": "nested", "properties": {"shop": {"type": "keyword"}}},
}


def shoes(count: int, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Sources by id: `count` shoes of three brands and four colours, each with its own price."""
    return {
        f"{prefix}{number}": {
            "title": " ".join(["shoe"] * (1 + number % 4) + ["red"] * (number % 3) + [f"model{number}"]),
            "brand": ("nike", "puma", "asics")[number % 3],
            "colour": ("red", "blue", "green", "black")[number % 4],
            "price": 10 + number,
            "hidden": "x",
            "offers": [{"shop": "a"}],
        }
        for number in range(count)
    }


def settings_of(index: str) -> Settings:
    """Settings in which boosts act strongly, and nothing is late."""
    policy = {"index": index, "item_repeat_share": 1.0, "browse": True, "max_boost": 10, "item_scale": 20}
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {"shelf": policy},
        }
    )


def liking_7() -> MemoryStore:
    """A store in which Ann likes the shoe "7"."""
    made = MemoryStore()
    made.write(Keys().profile("ann"), Counters({("item", "7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    return made


def search(client: OpenSearch, index: str, body: Mapping[str, Any], **params: Any) -> dict[str, Any]:
    """As a leg would, but for every match, so that scores can be compared whatever the order."""
    every = optional_leg(body, 0, 100) | {"track_total_hits": True}
    found: dict[str, Any] = client.search(index=index, body=every, params=params)
    return found


def scores(response: Mapping[str, Any]) -> dict[str, float]:
    """Score by id, in the order of the page."""
    return {hit["_id"]: hit["_score"] for hit in response["hits"]["hits"]}


def refused(client: OpenSearch, index: str, body: Mapping[str, Any], **params: Any) -> str:
    """What the server says when it refuses a search."""
    with pytest.raises(TransportError) as error:
        client.search(index=index, body=dict(body), params=params)
    return str(error.value.info)


def flat_settings(client: OpenSearch, index: str) -> dict[str, Any]:
    """`GET index/_settings?flat_settings=true`."""
    found: dict[str, Any] = client.indices.get_settings(index=index, params={"flat_settings": "true"})
    return found
