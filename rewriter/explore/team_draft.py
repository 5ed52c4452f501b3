"""Team-draft interleaving: one list of two rankings, from which people choose without knowing whose a hit is.

Team draft after Radlinski, Kurup and Joachims (CIKM 2008): whichever team has chosen fewer hits chooses next, a seeded coin
decides between equals, and each team chooses its best hit that is not taken. Where both rankings begin alike nobody chooses:
those hits are of no team, since a click on them says nothing. The coins are of the list's seed, so that the same list is
drafted alike when it is shown again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rewriter.explore.scores import Hit
from rewriter.explore.slots import uniform

PERSONALIZED, BASELINE, NO_TEAM = "P", "B", "-"
COINS = 1_000_000
"""Coins are positions from here on of the generator that draws slots: no slot lies as deep."""

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """The drafted list, best first, and the team of each of its hits by key."""

    hits: tuple[Hit, ...]
    teams: dict[Key, str]


def team_draft(
    personalized: Sequence[Hit], baseline: Sequence[Hit], key_of: Callable[[Hit], Key], size: int, seed: int
) -> Draft:
    """Return the draft of `size` hits, then the personalized ranking's remaining ones, which are of no team.

    A hit that both rankings have is shown as the team that chose it has it.
    """
    teams: dict[Key, str] = {}
    hits: list[Hit] = []
    for mine, theirs in zip(personalized[:size], baseline[:size], strict=False):
        if key_of(mine) != key_of(theirs):
            break
        if key_of(mine) not in teams:
            teams[key_of(mine)] = NO_TEAM
            hits.append(mine)
    rankings = {PERSONALIZED: iter(personalized), BASELINE: iter(baseline)}
    chosen = {PERSONALIZED: 0, BASELINE: 0}
    while len(hits) < size and rankings:
        team = _next(chosen, rankings, seed)
        hit = next((one for one in rankings[team] if key_of(one) not in teams), None)
        if hit is None:
            del rankings[team]  # it has no more hits; the other one fills the rest
            continue
        teams[key_of(hit)] = team if len(rankings) > 1 else NO_TEAM
        chosen[team] += 1
        hits.append(hit)
    hits += [hit for hit in personalized if key_of(hit) not in teams]
    return Draft(tuple(hits), teams)


def _next(chosen: dict[str, int], rankings: dict[str, Iterator[Hit]], seed: int) -> str:
    """Return the team that chooses next."""
    if len(rankings) == 1:
        return next(iter(rankings))
    if chosen[PERSONALIZED] != chosen[BASELINE]:
        return min(chosen, key=chosen.__getitem__)
    return PERSONALIZED if uniform(seed, COINS + chosen[PERSONALIZED]) < 0.5 else BASELINE
