"""A seeded generator of visits over Complete Journey's catalogue: accounts, their searches in order, and intents. Simulated. Pure.

Each visit begins with a basket that a household really bought in the season's weeks; the visit searches for the names of its
product types. The wanted products of a type depend on the visit's intent:

    habit   the products of the household's own basket
    gift    those of another household's basket
    theme   the best selling products of one manufacturer, whatever the household bought before

An account that two households share has the history of both, and each visit is one household's. An intent may change within a
visit (drift), and a visit may search for the same type again. `shuffled` gives each visit the clicks of another one: the placebo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from season.parameters import VisitParameters
from season.shelf import Basket, Shelf

Intent = Literal["habit", "gift", "theme"]
Kind = Literal["habit", "member", "gift", "theme", "drifted"]
T = TypeVar("T")
OWN_INTENT: frozenset[Kind] = frozenset({"gift", "theme"})
"""Kinds of visits whose intent differs from their account's history. A shared account's visit (`member`) may be either, and so may
a visit whose intent changes (`drifted`)."""


@dataclass(frozen=True, slots=True)
class Need:
    """The need behind one search: the words, the wanted products, and those of the same type and manufacturer."""

    words: str
    product_type: str
    wanted: frozenset[str]
    alike: frozenset[str]


@dataclass(frozen=True, slots=True)
class Step:
    """One search of a visit, `after_s` seconds after the visit began."""

    after_s: float
    need: Need
    intent: Intent


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of an account; `number` identifies it, and `at_s` is its start (seconds since the epoch)."""

    number: int
    account: str
    at_s: float
    kind: Kind
    steps: Sequence[Step]

    @property
    def session_id(self) -> str:
        """The session's id."""
        return f"visit{self.number}"


def accounts_of(households: Sequence[str], shared: float, seed: int) -> dict[str, str]:
    """Return each household's account. shared: the share of the accounts that two households use."""
    draw = Random(f"{seed} accounts")
    order = sorted(households)
    draw.shuffle(order)
    pairs = round(len(order) * shared / (1.0 + shared))
    found = {name: f"account{name}" for name in order}
    for number in range(pairs):
        found[order[2 * number + 1]] = found[order[2 * number]]
    return found


def visits_of(shelf: Shelf, parameters: VisitParameters, count: int, seed: int) -> list[Visit]:
    """Return `count` visits, or one for each basket of the season where there are fewer, in the order of time."""
    draw = Random(f"{seed} visits")
    accounts = accounts_of(sorted({one.household_id for one in shelf.baskets}), parameters.shared, seed)
    households: dict[str, int] = defaultdict(int)
    for account in accounts.values():
        households[account] += 1
    themes = shelf.sold_by(parameters.theme_types)
    chosen = draw.sample(range(len(shelf.baskets)), min(count, len(shelf.baskets)))
    found = []
    for number in sorted(chosen, key=lambda at: (shelf.baskets[at].at_s, at)):
        basket = shelf.baskets[number]
        account = accounts[basket.household_id]
        maker = _Maker(shelf, parameters, themes, basket, Random(f"{seed} visit {number}"))
        steps = tuple(maker.steps())
        found.append(Visit(number, account, float(basket.at_s), maker.kind(households[account] > 1), steps))
    return found


class _Maker:
    """Generator of one visit."""

    def __init__(
        self,
        shelf: Shelf,
        parameters: VisitParameters,
        themes: Mapping[str, Sequence[str]],
        basket: Basket,
        draw: Random,
    ) -> None:
        self._shelf = shelf
        self._parameters = parameters
        self._themes = themes
        self._own = basket
        self._draw = draw
        self._intents: list[Intent] = []

    def kind(self, shared: bool) -> Kind:
        """Return the kind of the visit that `steps` generated."""
        if len(set(self._intents)) > 1 or self._themes_used > 1:
            return "drifted"
        intent = self._intents[0]
        return "member" if intent == "habit" and shared else intent

    def steps(self) -> Iterator[Step]:
        """Yield the searches."""
        parameters, draw = self._parameters, self._draw
        at_s, self._themes_used = 0.0, 0
        chance = draw.random()
        intent: Intent = (
            "gift" if chance < parameters.gift else "theme" if chance < parameters.gift + parameters.theme else "habit"
        )
        needs = self._needs(intent)
        for number in range(min(parameters.max_needs, max(1, len(self._own.bought)))):
            if number and draw.random() < parameters.drift:
                intent = draw.choice([one for one in ("habit", "theme", "gift") if one != intent or one == "theme"])
                needs = self._needs(intent)
            need = next(needs, None)
            if need is None:
                return
            self._intents.append(intent)
            times = 1 + (draw.random() < parameters.again)
            times += times > 1 and draw.random() < parameters.again
            for _ in range(times):
                yield Step(at_s, need, intent)
                at_s += 5.0 + draw.expovariate(1.0 / parameters.pause_s)

    def _needs(self, intent: Intent) -> Iterator[Need]:
        if intent == "theme":
            self._themes_used += 1
            maker = self._draw.choice(sorted(self._themes))
            own = [one for one in self._themes[maker] if one in self._own.bought]
            rest = [one for one in self._themes[maker] if one not in self._own.bought]
            for product_type in [*self._mixed(own), *self._mixed(rest)]:
                best = self._shelf.makers[product_type][maker][: self._parameters.theme_wanted]
                yield self._need(product_type, frozenset(best))
            return
        basket = self._own
        if intent == "gift":
            basket = self._draw.choice(self._shelf.baskets)
        for product_type in self._mixed(sorted(basket.bought)):
            yield self._need(product_type, basket.bought[product_type])

    def _mixed(self, values: Sequence[T]) -> list[T]:
        return self._draw.sample(values, len(values))

    def _need(self, product_type: str, wanted: frozenset[str]) -> Need:
        return Need(product_type.lower(), product_type, wanted, self._shelf.alike(wanted))


def shuffled(clicks: Mapping[int, T], seed: int) -> dict[int, T]:
    """Return each visit's clicks moved to another visit: no visit keeps its own clicks, and none are lost."""
    order = sorted(clicks)
    Random(f"{seed} placebo").shuffle(order)
    return {one: clicks[other] for one, other in zip(order, [*order[1:], *order[:1]], strict=True)}
