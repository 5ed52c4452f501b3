"""UBI queries and events of a made-up season, as files: what `rewriter report` reads, with lifts and faults planted in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2026, 9, 1, tzinfo=UTC)
Change = Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def made(
    *, seed: int = 1, people: int = 1_500, days: int = 21, holdout: float = 0.5, lift: float = 0.0, history_days: int = 0,
    interleave: float = 0.0, narrow: float = 0.0,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Return queries and events.

    lift: of the chance of a click and of an order of treated searches. interleave: the share of treated searches with two teams, of
    which the personalized one is clicked more by `lift`. narrow: how much of a treated page's categories is one, by the end.
    """
    rng = np.random.default_rng(seed)
    queries: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for person in range(people):
        treated = bool(rng.random() >= holdout)
        rate, liking, buying = rng.gamma(1.5, 0.15), rng.beta(4, 8), rng.beta(1, 20)
        favourite = int(rng.integers(8))
        for day in range(-history_days, days):
            for _ in range(rng.poisson(rate)):
                at = START + timedelta(days=day, seconds=int(rng.integers(80_000)))
                better = 1.0 + lift * (treated and day >= 0)
                number = len(queries)
                hits = [f"p{int(one)}" for one in rng.integers(0, 400, 10)]
                share = narrow * treated * max(0, day) / days
                categories = [f"c{favourite if rng.random() < share else int(rng.integers(8))}" for _ in hits]
                ours: dict[str, Any] = {
                    "form": 1, "arm": "treatment" if treated else "holdout", "unit": f"unit{person}", "holdout": holdout,
                    "experiment": "e1", "variant": "personalized" if treated else "holdout",
                    "reason": "personalized" if treated else "holdout", "policy": "shop", "positions": list(range(10)),
                    "total": 90, "categories": categories, "baseline_ms": 8.0,
                    "intra_list_diversity": round(float(rng.beta(6, 4)), 4),
                    "ages_days": [float(one) for one in rng.integers(0, 200, 10)],
                }  # fmt: skip
                clicked = 0
                if treated:
                    ours |= {"template_version": "v1", "added_ms": float(rng.gamma(2, 2)), "slots": [
                        {"position": 6, "object_id": hits[6], "propensity": round(float(rng.uniform(0.02, 0.3)), 3)}
                    ]}  # fmt: skip
                if rng.random() < min(0.95, liking * better):
                    clicked = int(rng.integers(10))
                    if treated and rng.random() < interleave:
                        ours["teams"] = "PBPBPBPBPB"
                        clicked = 2 * int(rng.integers(5)) + int(rng.random() >= better / (1 + better))
                    events.append(_event("click", number, person, hits[clicked], at + timedelta(seconds=20)))
                if rng.random() < min(0.95, buying * better):
                    price = round(float(rng.lognormal(3, 1)), 2)
                    events.append(
                        _event("purchase", number, person, hits[clicked], at + timedelta(seconds=90), price=price)
                    )
                queries.append({
                    "application": "shop", "query_id": f"q{number}", "client_id": f"client{person}",
                    "user_query": f"w{min(40, rng.zipf(1.6))}",
                    "timestamp": stamp(at), "query_response_id": f"r{number}", "query_response_hit_ids": hits,
                    "query_attributes": {"rewriter": ours},
                })  # fmt: skip
    return queries, events


def _event(action: str, query: int, person: int, object_id: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "action_name": action, "query_id": f"q{query}", "client_id": f"client{person}", "timestamp": stamp(at),
        "event_id": f"{action}-{query}",
        "event_attributes": {"object": {"object_id": object_id}, "position": {"ordinal": 0}, **more},
    }  # fmt: skip


def written(folder: Path, queries: list[dict[str, Any]], events: list[dict[str, Any]]) -> tuple[Path, Path]:
    """Write both as NDJSON and return the paths."""
    paths = folder / "queries.ndjson", folder / "events.ndjson"
    for path, rows in zip(paths, (queries, events), strict=True):
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return paths
