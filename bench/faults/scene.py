"""A shop of 200 shoes and 50 people, each with items that only they like, and the check of an answer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch, helpers

from rewriter import Reason, Report, Settings, Subject
from rewriter.signals.counters import Counters, Value
from rewriter.signals.store import Keys, Store

SUBJECTS = 50
ITEMS_EACH = 4
MAX_BOOST = 1.5
PREFIX = "faults"
BODIES: tuple[dict[str, Any], ...] = tuple(
    {"query": {"match": {"title": title}}, "size": size, "aggs": {"brands": {"terms": {"field": "brand"}}}}
    for title, size in (("shoe", 10), ("red shoe", 20), ("shoe model7", 10), ("shoe red model11", 12))
)


HEDGE_MS = 50.0
"""In `rewrite`: fixed, so that it is known of each search when it was late."""


def settings(folder: Path, index: str, *, open_s: float, mode: str = "parallel", **signals: Any) -> Settings:
    """Return the settings of every trial, with a kill-switch file and templates of their own in `folder`."""
    rewrites = {"mode": "rewrite", "hedge_ms": HEDGE_MS, "parallel_share": 0.0} if mode == "rewrite" else {}
    templates = folder / "templates" / "own"
    if not templates.exists():
        shutil.copytree(Path(__file__).parents[2] / "templates" / "default", templates)
    return Settings.model_validate(
        {
            "store": {"prefix": PREFIX},
            "signals": signals,
            "switches": {"file": folder / "switches"},
            "experiment": {"holdout": 0.0},
            "breaker": {"open_s": open_s},
            "templates_dir": folder / "templates",
            "policies": {
                "shop": {
                    "index": index,
                    "templates": "own",
                    "max_boost": MAX_BOOST,
                    "item_repeat_share": 1.0,
                    "category_field": "brand",
                    **rewrites,
                }
            },
        }
    )


@contextmanager
def shop(client: OpenSearch, index: str) -> Iterator[None]:
    """Make the index, and remove it."""
    properties = {"title": {"type": "text"}, "brand": {"type": "keyword"}}
    body = {"settings": {"index": {"number_of_replicas": 0}}, "mappings": {"properties": properties}}
    client.indices.create(index=index, body=body)
    try:
        sources = (
            {"title": " ".join(["shoe"] * (1 + n % 4) + ["red"] * (n % 3) + [f"model{n}"]), "brand": f"b{n % 7}"}
            for n in range(SUBJECTS * ITEMS_EACH)
        )
        helpers.bulk(
            client, ({"_index": index, "_id": str(n), "_source": one} for n, one in enumerate(sources)), refresh=True
        )
        yield
    finally:
        client.indices.delete(index=index, ignore_unavailable=True)


def subject(number: int) -> Subject:
    """Return one of the people."""
    return Subject(f"user-{number}", f"session-{number}")


def likes(number: int) -> frozenset[str]:
    """Return the items that only this one of the people likes."""
    return frozenset(str(number * ITEMS_EACH + n) for n in range(ITEMS_EACH))


def write_signals(store: Store) -> None:
    """Write the signals of all people: half of the items into the profile, half into the session."""
    keys, now_s = Keys(PREFIX), time.time()
    for number in range(SUBJECTS):
        items = sorted(likes(number))
        for base, part in (
            (keys.profile(f"user-{number}"), items[::2]),
            (keys.session(f"session-{number}"), items[1::2]),
        ):
            weights: dict[Value, float] = {("item", item): 5.0 for item in part}
            store.write(base, Counters(weights, {"item": 10.0}, now_s, now_s, 10.0), None)


class Judge:
    """The check of answers against those of the plain client."""

    def __init__(self, client: OpenSearch, index: str) -> None:
        self.plain = [_lasting(client.search(index=index, body=body)) for body in BODIES]
        every = [client.search(index=index, body=body | {"size": 1000}) for body in BODIES]
        self._base = [{hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]} for answer in every]

    def fault(self, body: int, who: int, answer: Any, report: Report) -> str:
        """Return the fault of an answer, or ""."""
        answer = _lasting(answer)
        if strangers := {boost.value for boost in report.boosts} - likes(who):
            return f"boosts of somebody else: {sorted(strangers)}"
        if report.reason is not Reason.PERSONALIZED:
            return "" if answer == self.plain[body] else f"{report.reason}, and not the plain answer"
        plain, base = self.plain[body], self._base[body]
        if _envelope(answer) != _envelope(plain):
            return "not the baseline's envelope"
        hits = answer["hits"]["hits"]
        ids = [hit["_id"] for hit in hits]
        if len(ids) != len(plain["hits"]["hits"]) or len(set(ids)) != len(ids):
            return "not a full page of different hits"
        if any(
            one not in base or not 1 - 1e-6 <= hit["_score"] / base[one] <= MAX_BOOST + 1e-6
            for one, hit in zip(ids, hits, strict=True)
        ):
            return "a score out of bounds"
        if any(
            hit["_score"] / base[one] > 1 + 1e-6 and one not in likes(who) for one, hit in zip(ids, hits, strict=True)
        ):
            return "boosted what somebody else likes"
        return ""


def _lasting(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an answer that are the same at each repetition."""
    return {key: value for key, value in getattr(answer, "body", answer).items() if key != "took"}


def _envelope(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"hits": {key: value for key, value in answer["hits"].items() if key not in ("hits", "max_score")}}
