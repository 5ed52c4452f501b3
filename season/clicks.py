"""A position-based click model (Richardson, Dominowska and Ragno, WWW 2007; Craswell et al., WSDM 2008). Simulated. Pure.

    P(click on the hit at position r) = r ^ -examination · attraction(hit)        r = 1, 2, …

Each draw depends only on the visit, the search, and the position or product. So two rankings get the same person with the same
draws, and only the shown hits and their positions cause differences between their clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from season.parameters import ClickParameters
from season.visits import Need


@dataclass(frozen=True, slots=True)
class Click:
    """A click on one hit; position from 1. ordered: whether an order followed."""

    position: int
    product_id: str
    ordered: bool


def attraction(product_id: str, need: Need, parameters: ClickParameters) -> float:
    """Return the probability of a click on an examined product."""
    if product_id in need.wanted:
        return parameters.wanted
    return parameters.alike if product_id in need.alike else parameters.other


def expected_clicks(page: Sequence[str], need: Need, parameters: ClickParameters) -> float:
    """Return the expected number of clicks on a page, without the noise of draws."""
    return sum(
        float(position**-parameters.examination) * attraction(product_id, need, parameters)
        for position, product_id in enumerate(page, 1)
    )


def clicks_on(page: Sequence[str], need: Need, parameters: ClickParameters, mood: str) -> list[Click]:
    """Return the clicks on a page of product ids. mood: names the search, and is the seed of its draws."""
    found = []
    for position, product_id in enumerate(page, 1):
        if _uniform(mood, "look", str(position)) >= position**-parameters.examination:
            continue
        wanted = product_id in need.wanted
        attraction = parameters.wanted if wanted else parameters.alike if product_id in need.alike else parameters.other
        if _uniform(mood, "click", product_id) < attraction:
            chance = parameters.ordered if wanted else parameters.ordered_other
            found.append(Click(position, product_id, _uniform(mood, "order", product_id) < chance))
    return found


def _uniform(*parts: str) -> float:
    digest = blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53
