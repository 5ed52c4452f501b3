"""Personalized legs answered in process: the candidates of a search are fetched once, and re-scored for each set of boosts.

Exact for our rescore on an index of one shard, with boosts whose filters are terms of whole values (`term`, `terms`, `bool`): a
candidate's factor is computed as the server computes it, in floats, and a rescore can only move the first `window_size`
candidates. Any other leg goes to the server. The server's `_name` of the gate marks the candidates that hold all words.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewriter.boost.body import WORDS_NAME
from rewriter.client.seam import LegFault, Search
from rewriter.evaluate.answers import Answered, Send

Mask = NDArray[np.bool_]


class _NotExactError(Exception):
    """A leg that is not computed in process."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The first hits of a search with their scores, whether each holds all words, and the hits of each value of a field."""

    hits: Sequence[Mapping[str, Any]]
    scores: NDArray[np.float32]
    gated: Mask
    having: Mapping[tuple[str, str], Mask]


@dataclass(frozen=True, slots=True)
class _Leg:
    """A personalized leg in parts. base: the body without the parts that differ between boosts."""

    base: Mapping[str, Any]
    key: str
    size: int
    window: int
    functions: Sequence[Mapping[str, Any]]
    max_boost: float
    gate: Sequence[Any] | None
    is_named: bool


class Rescoring:
    """Answers searches: legs in process if that is exact, everything else by `send`, each different search once.

    fields: keyword fields that boosts may filter on. computed, sent: the numbers of legs answered in process and by `send`.
    """

    def __init__(self, send: Send, fields: Collection[str]) -> None:
        self._send = send
        self._fields = sorted(set(fields) - {"_id"})
        self._kept: dict[str, _Candidates | None] = {}
        self._answers: dict[str, Answered] = {}
        self.computed = 0
        self.sent = 0

    def __call__(self, searches: Sequence[Search]) -> list[Answered]:
        """Answer searches, as Send."""
        legs = [_leg(one) for one in searches]
        self._fetch([(one, leg) for one, leg in zip(searches, legs, strict=True) if leg is not None])
        found: list[Answered | None] = [self._computed(leg) if leg is not None else None for leg in legs]
        texts = [_text(one) if answer is None else "" for one, answer in zip(searches, found, strict=True)]
        missing = {text: one for text, one in zip(texts, searches, strict=True) if text}
        unknown = {key: one for key, one in missing.items() if key not in self._answers}
        answers = dict(zip(unknown, self._send(list(unknown.values())) if unknown else [], strict=True))
        for text, leg in zip(texts, legs, strict=True):
            if leg is None and text in answers:  # legs differ between trials
                self._answers[text] = answers[text]
        self.computed += sum(answer is not None for answer in found)
        self.sent += sum(leg is not None and answer is None for leg, answer in zip(legs, found, strict=True))
        return [
            answer if answer is not None else answers.get(text) or self._answers[text]
            for text, answer in zip(texts, found, strict=True)
        ]

    def first_scores(self, count: int) -> list[list[float]]:
        """Return the first `count` base scores of each search with at least so many known candidates."""
        known = [one.scores[:count].tolist() for one in self._kept.values() if one is not None]
        return [scores for scores in known if len(scores) == count]

    def _fetch(self, legs: Sequence[tuple[Search, _Leg]]) -> None:
        """Fetch the candidates that are not known yet."""
        missing = {leg.key: (one, leg) for one, leg in legs if leg.key not in self._kept}
        sent = [Search(one.index, _wide(leg, self._fields), one.params, one.headers) for one, leg in missing.values()]
        for key, answer in zip(missing, self._send(sent) if sent else [], strict=True):
            self._kept[key] = None if isinstance(answer, LegFault) else self._candidates(answer)

    def _candidates(self, answer: Mapping[str, Any]) -> _Candidates | None:
        if answer.get("_shards", {}).get("total") != 1:
            return None  # the window is per shard
        hits = answer["hits"]["hits"]
        having: dict[tuple[str, str], Mask] = {}
        for at, hit in enumerate(hits):
            for field, value in _values(hit):
                having.setdefault((field, value), np.zeros(len(hits), bool))[at] = True
        scores = np.array([hit["_score"] or 0.0 for hit in hits], np.float32)
        gated = np.array([WORDS_NAME in (hit.get("matched_queries") or ()) for hit in hits], bool)
        return _Candidates(hits, scores, gated, having)

    def _computed(self, leg: _Leg) -> Mapping[str, Any] | None:
        candidates = self._kept[leg.key]
        if candidates is None:
            return None
        known = {"_id", *self._fields}
        total = np.zeros(len(candidates.hits), np.float64)
        try:
            for function in leg.functions:
                weight = float(np.float32(function["weight"]))
                if set(function) - {"weight", "filter"}:
                    return None
                total += weight * (_mask(function["filter"], candidates, known) if "filter" in function else 1.0)
        except _NotExactError:
            return None
        factors = np.minimum(total, float(np.float32(leg.max_boost))).astype(np.float32)
        acts = candidates.gated if leg.gate is not None else np.ones(len(factors), bool)
        scores = np.where(acts, candidates.scores * factors, candidates.scores)
        order = np.argsort(-scores, kind="stable")[: leg.size]
        named = {"matched_queries": [WORDS_NAME]} if leg.is_named else {}
        hits = [
            {**_plain(candidates.hits[at]), **(named if candidates.gated[at] else {}), "_score": float(scores[at])}
            for at in order.tolist()
        ]
        shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
        top = hits[0]["_score"] if hits else None
        return {"timed_out": False, "_shards": shards, "hits": {"max_score": top, "hits": hits}}


def _leg(search: Search) -> _Leg | None:
    """Return the parts of a personalized leg that only our rescore changes; None for any other search."""
    body = search.body
    rescores = body.get("rescore")
    if not isinstance(rescores, list) or len(rescores) != 1 or "collapse" in body:
        return None
    score = rescores[0].get("query", {}).get("rescore_query", {}).get("function_score", {})
    functions = score.get("functions")
    if not functions or functions[0] != {"weight": 1} or score.get("score_mode") != "sum":
        return None
    gate: Sequence[Any] | None = None
    is_named = False
    if "constant_score" in score["query"]:
        inner = score["query"]["constant_score"]["filter"]
        clause = inner.get("bool") if isinstance(inner, Mapping) else None
        if isinstance(clause, Mapping) and set(clause) <= {"filter", "_name"}:
            gate, is_named = clause["filter"], "_name" in clause
        else:
            gate = [inner]
    elif score["query"] != {"match_all": {}}:
        return None
    base = {name: part for name, part in body.items() if name not in ("rescore", "size", "docvalue_fields")}
    window = int(rescores[0]["window_size"])
    size = int(body.get("size", 10))
    if size > window:
        return None
    key = json.dumps([search.index, sorted(search.params.items()), base, window, gate], sort_keys=True, default=str)
    return _Leg(base, key, size, window, functions, float(score["max_boost"]), gate, is_named)


def _wide(leg: _Leg, fields: Sequence[str]) -> dict[str, Any]:
    """Return the body that fetches a leg's candidates, unchanged in order, with their values and whether they hold all words."""
    query: dict[str, Any] = {"match_all": {}}
    if leg.gate is not None:
        query = {"constant_score": {"filter": {"bool": {"filter": list(leg.gate), "_name": WORDS_NAME}}}}
    score = {"query": query, "functions": [{"weight": 1}], "score_mode": "sum", "boost_mode": "multiply"}
    rescore = {
        "window_size": leg.window,
        "query": {"rescore_query": {"function_score": score}, "score_mode": "multiply"},
    }
    return {**leg.base, "from": 0, "size": leg.window, "rescore": [rescore], "docvalue_fields": list(fields)}


def _values(hit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "_id", str(hit["_id"])
    for field, found in (hit.get("fields") or {}).items():
        for value in found:
            yield field, str(value)


def _plain(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in hit.items() if name != "matched_queries"}


def _mask(clause: Mapping[str, Any], candidates: _Candidates, known: Collection[str]) -> Mask:
    """Return which candidates match a filter. Raises _NotExactError for one that is not computed here."""
    ((name, spec),) = clause.items()
    count = len(candidates.hits)
    if name in ("term", "terms"):
        ((field, given),) = spec.items()
        values = given if isinstance(given, list) else [given["value"] if isinstance(given, Mapping) else given]
        if field not in known or not all(isinstance(value, str) for value in values):
            raise _NotExactError
        found = np.zeros(count, bool)
        for value in values:
            if (own := candidates.having.get((field, value))) is not None:
                found |= own
        return found
    if name == "bool" and set(spec) <= {"filter", "_name"}:
        found = np.ones(count, bool)
        for one in spec["filter"] if isinstance(spec["filter"], list) else [spec["filter"]]:
            found &= _mask(one, candidates, known)
        return found
    if name == "bool" and set(spec) <= {"should", "_name"}:
        found = np.zeros(count, bool)
        for one in spec["should"]:
            found |= _mask(one, candidates, known)
        return found
    raise _NotExactError


def _text(search: Search) -> str:
    return json.dumps([search.index, sorted(search.params.items()), search.body], sort_keys=True, default=str)
