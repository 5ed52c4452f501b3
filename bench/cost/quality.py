"""Quality of the ways: nDCG@10 on real purchases, to be set beside what each costs the server.

The questions are those of `bench.ndcg`: a household, a product type as query, the products of the type that it bought then. Each
way knows the household's purchases of the weeks before, and has the functions with which its cost is measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from rich.progress import Progress

from bench.cost.scene import FUNCTIONS, HAND_FUNCTIONS, POLICY, Scene, Size
from bench.cost.ways import SCRIPT, enveloped, functions, rescored
from bench.ndcg import BASELINE, LAMBDAMART, Shop, Variant, own_query
from bench.ndcg_table import interval, ndcg
from bench.questions import PastPurchases, Question, drawn
from rewriter import Settings
from rewriter.demo.corpus import LAST_TUNING_WEEK, create_index, load
from rewriter.signals.affinities import profile_half_lives, signal_fields

SEED = 1
Body = Callable[[Mapping[str, Any], list[tuple[str, float]]], dict[str, Any]]


def by_hand(query: Mapping[str, Any], liked: list[tuple[str, float]]) -> dict[str, Any]:
    """Return the search that people write: a function for each item, without a bound."""
    own = functions(dict(liked[:HAND_FUNCTIONS]))[1:]
    return {
        "query": {"function_score": {"query": query, "functions": own, "score_mode": "sum", "boost_mode": "multiply"}}
    }


def _bounded(liked: list[tuple[str, float]]) -> dict[str, float]:
    return {item: min(0.5, 0.1 * weight) for item, weight in liked[:FUNCTIONS]}


def _scripted(query: Mapping[str, Any], liked: list[tuple[str, float]]) -> dict[str, Any]:
    script = {"source": SCRIPT, "params": {"items": _bounded(liked)}}
    return {"query": {"script_score": {"query": query, "script": script}}}


BODIES: Mapping[str, Body] = {
    "by hand": by_hand,
    "function_score, wrap": lambda query, liked: {"query": enveloped(query, _bounded(liked))},
    "function_score, rescore": lambda query, liked: rescored({"query": query}, _bounded(liked)),
    "script_score": _scripted,
}
"""The bodies of the ways without the library. That of `one _msearch` is the rescore's."""
OURS = ("parallel, sync", "rewrite, sync")
"""The page is the same in both modes."""


def quality(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Return the nDCG@10 of each way with its ratio to the plain search, as intervals over households."""
    weeks, index = range(LAST_TUNING_WEEK + 1, 54), f"bench-cost-quality-{uuid4().hex[:6]}"
    corpus = load(popularity_until_week=LAST_TUNING_WEEK)
    questions = drawn(corpus, weeks, size.rounds * size.searches, SEED)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(transient=True, disable=not os.isatty(2)))
        stack.callback(scene.client.indices.delete, index=index, ignore_unavailable=True)
        create_index(scene.client, index, corpus.products.values())
        shop = Shop(scene.client, index, corpus, weeks, questions, SEED)
        pages = {"plain": shop.plain(own_query, progress, BASELINE)}
        known = _purchases(scene, shop)
        for name, body in BODIES.items():
            pages[name] = [_page(scene, index, body(own_query(one.words, 0), _liked(known, one))) for one in questions]
        policy = {name: value for name, value in POLICY.items() if name != "item_repeat_share"}
        own = shop.personalized(Variant("the library", {**policy, "exploration_share": 0.15}), progress).pages
    pages |= {"one _msearch": pages["function_score, rescore"], **dict.fromkeys(OURS, own)}
    at = [number for number, one in enumerate(questions) if one.relevant]
    households = [questions[number].household_id for number in at]
    values = {name: ndcg(some, [one.relevant for one in questions]) for name, some in pages.items()}
    found = {
        name: {"ndcg": interval(of, households, seed=SEED), "ratio": interval(of, households, values["plain"], seed=SEED)}
        for name, of in values.items()
    }  # fmt: skip
    return {"questions": len(questions), "LambdaMART with 66 features": LAMBDAMART, "quality": found}


def _purchases(scene: Scene, shop: Shop) -> PastPurchases:
    settings: Settings = scene.settings("parallel")
    fields = signal_fields(settings.policies["shop"])
    half_lives = profile_half_lives(settings.policies.values(), settings.signals)
    return PastPurchases(shop.corpus, shop.weeks, {one.household_id for one in shop.questions}, fields, half_lives)


def _liked(known: PastPurchases, question: Question) -> list[tuple[str, float]]:
    """Return the items that a household had bought most, with their decayed counts."""
    weights = known.profile(question, 256).weights
    items = [(value[1], weight) for value, weight in weights.items() if value[0] == "item"]
    return sorted(items, key=lambda one: -one[1])


def _page(scene: Scene, index: str, body: Mapping[str, Any]) -> list[str]:
    answer = scene.client.search(index=index, body={**body, "size": 10, "_source": False})
    return [hit["_id"] for hit in answer["hits"]["hits"]]
