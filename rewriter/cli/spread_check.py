"""The part of `rewriter check` that sends given searches, to tell how much boosts can do with the scores of the team's own query.

Scores that are steep leave boosts little: the least bare weight in the query's own `function_score` is then suggested with which
they are not. Others leave more to boosts with a weight that takes two fifths of their spread, which is tried on judged searches.
There, nDCG is measured with and without the weight. Nothing is applied, and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rewriter.cli.causes import client_of
from rewriter.cli.diff.logged import read_logged
from rewriter.cli.evaluate.inputs import CONNECTIONS, TIMEOUT_S, Inputs
from rewriter.cli.extras import of_extra
from rewriter.client.seam import Search
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.bare_weight import NONE_HELPS, PlainPage, Suggestion, plain_pages, suggested
from rewriter.evaluate.bodies import bodies_of, holds_words, with_words
from rewriter.evaluate.spread import Spread, in_words, spread_of, steep_from
from rewriter.plural import count_of
from rewriter.secret import SecretUrl
from rewriter.settings import Settings

MOST, SEED, K = 500, 1, 10
TAKEN = 0.4
"""The part of the spread that a weight takes from scores that are not steep: on Complete Journey, where it was chosen, by 1.5."""


@dataclass(frozen=True, slots=True)
class GivenSearches:
    """The files of searches: logged ones, or judged ones; and the search template of those that are words alone."""

    logged: Path | None
    judged: Path | None
    body: Path | None

    def __bool__(self) -> bool:
        return self.logged is not None or self.judged is not None


@dataclass(frozen=True, slots=True)
class _GradedSearch:
    """One search, its grades by id, {} for one that is not judged, and the number of its person."""

    search: Search
    relevant: Mapping[str, float] = field(default_factory=dict)
    person: int = 0


def check_spread(
    settings: Settings, given: GivenSearches, index: str, url: str | None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the spread of scores by policy, and notes. Raises ConfigurationError for unsound files, and for a failing server.

    index: of searches that name none, by default the first policy's. url: of another cluster than the settings'.
    """
    if given.logged is not None and given.judged is not None:
        raise ConfigurationError([Fault("--searches and --judged", "are both given", "give one of them")])
    if url:
        reach = settings.opensearch.model_copy(update={"hosts": (SecretUrl(url),)})
        settings = settings.model_copy(update={"opensearch": reach})
    from rewriter.evaluate.answers import sender  # noqa: PLC0415  for this part alone

    found: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    with of_extra("check --judged", "evaluate"), client_of(settings.opensearch, TIMEOUT_S, CONNECTIONS) as client:
        name, first = next(iter(settings.policies.items()))
        inputs = Inputs(client, settings, [], [], given.body, index or ",".join(first.index))
        searched, left_out = _read(given, inputs), Counter[str]()
        if len(searched) > MOST:
            notes.append(
                f"{MOST:,} of {count_of(len(searched), 'search')} are drawn at random for the spread of scores"
            )
            searched = Random(SEED).sample(searched, MOST)
        groups: dict[str, list[_GradedSearch]] = {}
        for one in searched:
            own_index = one.search.index == inputs.index and not index
            policy = name if own_index else settings.policy_for(tuple(one.search.index.split(",")))
            if policy is None or "sort" in one.search.body:
                left_out["no policy matches their index" if policy is None else "they are sorted"] += 1
            else:
                groups.setdefault(policy, []).append(one)
        for policy, own in groups.items():
            found[policy], text = _measured(sender(client), own, settings.policies[policy].max_boost)
            notes.append(f"policy {policy}: {text}")
    notes += [f"left out of the spread of scores: {count:,}, since {why}" for why, count in left_out.items()]
    return found, notes


def _read(given: GivenSearches, inputs: Inputs) -> list[_GradedSearch]:
    rendered = inputs.rendered()
    if given.judged is not None:
        from rewriter.evaluate.readers import read_judged  # noqa: PLC0415  with the extra

        judged = read_judged(given.judged).searches
        people: dict[Any, int] = {}
        return [
            _GradedSearch(
                Search(one.index or inputs.index, body), one.relevant, people.setdefault(one.subject.unit, len(people))
            )
            for one, body in zip(judged, bodies_of(judged, rendered, str(given.body)), strict=True)
        ]
    if rendered is not None and not holds_words(rendered):
        what = "renders a body that does not hold the words"
        raise ConfigurationError([Fault(str(given.body), what, 'write "{{query}}" where they belong')])
    assert given.logged is not None
    logged = read_logged(given.logged, None if rendered is None else lambda words: with_words(rendered, words))
    return [_GradedSearch(Search(one.index or inputs.index, one.body)) for one in logged]


def _measured(send: Any, searched: Sequence[_GradedSearch], max_boost: float) -> tuple[dict[str, Any], str]:
    """Return the figures of a policy's searches, and what they mean."""
    searches = [one.search for one in searched]
    pages = plain_pages(send, searches)
    failed = sum(page is None for page in pages)
    spread = spread_of(page.scores for page in pages if page is not None)
    figures: dict[str, Any] = {"searches": len(searched), "failed": failed, "spread": None, "bare_weight": None}
    failures = f"; failed searches: {failed:,}" if failed else ""
    if spread is None:
        return figures, f"the spread of scores is not known: no search has {K} hits that score above 0{failures}"
    kind = spread.kind(max_boost)
    figures["spread"] = {"kind": kind, "ratio": round(spread.ratio, 4), "searches": spread.searches}
    text = f"{in_words(spread, max_boost)}, over {_counted(spread)}{failures}"
    is_judged = any(one.relevant for one in searched)
    if kind == "flat" or (kind == "even" and not is_judged):
        return figures, text
    lessened = steep_from(max_boost) if kind == "steep" else 1.0 + (1.0 - TAKEN) * (spread.ratio - 1.0)
    found = suggested(send, searches, lessened)
    if found is None:
        return figures, f"{text}; {NONE_HELPS}"
    ndcg = _ndcg(searched, pages, found) if is_judged else None
    figures["bare_weight"] = {"weight": found.weight, "ratio": round(found.spread.ratio, 4), f"nDCG@{K}": ndcg}
    return figures, f"{text}; {found.in_words}; {_in_words(ndcg)}"


def _counted(spread: Spread) -> str:
    return f"{count_of(spread.searches, 'search')} with {K} hits"


def _ndcg(searched: Sequence[_GradedSearch], pages: Sequence[PlainPage | None], found: Suggestion) -> dict[str, Any]:
    """Return the nDCG of the query as it is and with the weight."""
    from rewriter.evaluate.intervals import paired  # noqa: PLC0415  with the extra
    from rewriter.evaluate.scores import measure_names, scored  # noqa: PLC0415  with the extra

    own, plain, weighted = [], [], []
    for one, page, other in zip(searched, pages, found.pages, strict=True):
        if page is not None and other is not None:
            own.append(one)
            plain.append(page.ids)
            weighted.append(other.ids)
    name = measure_names(K)[0]
    before, after = (scored(ids, [one.relevant for one in own], K, (name,))[name] for ids in (plain, weighted))
    result = paired(after, before, [one.person for one in own], seed=SEED)
    ends = [None if end != end else round(end, 6) for end in (result.low, result.high)]  # noqa: PLR0124  nan
    return {
        "before": round(result.base, 6), "after": round(result.value, 6), "low": ends[0], "high": ends[1],
        "searches": result.searches, "people": result.people,
    }  # fmt: skip


def _in_words(ndcg: Mapping[str, Any] | None) -> str:
    if ndcg is None:
        return f"its nDCG@{K} is not measured: these searches are not judged (--judged)"
    ends = "" if ndcg["low"] is None else f" [{ndcg['low']:+.3f}, {ndcg['high']:+.3f}]"
    change = f"{ndcg['after'] - ndcg['before']:+.3f}{ends}"
    return (
        f"nDCG@{K} of the plain page is then {ndcg['after']:.3f} instead of {ndcg['before']:.3f} ({change}) on "
        f"{count_of(ndcg['searches'], 'judged search')}"
    )
