"""Generated catalogues of three kinds, with a history and later uses: bought again, wanted once, a stream of new things.

Nothing here was measured on people: it is a model, and its results are reported as simulated. A person's choice in a class:

    with probability `again`, an item of the class that they have used before, in proportion to how often
    else an item that they have never used, in proportion to
        appeal^popularity · exp(taste for its maker + taste for its style) · 2^(−age / appeal_half_life_d)

Tastes are drawn once for each person: for a maker the same in all classes, for a style within each class or in all of them. In a
stream, tastes for styles (stories) are drawn anew every `drift_d`. People do not see pages here: no choice depends on a ranking.
Every draw is seeded. Times are seconds since the epoch; the history ends at `now_s`, and later uses are held out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
FILLER = ("river", "night", "summer", "golden", "little", "north", "blue", "silver", "quiet", "royal", "old", "wild")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Kind:
    """The parameters of one kind of catalogue.

    names:     of the document's fields: class, maker, style, date.
    listed_d:  days over which items were listed; with an `appeal_half_life_d`, items lose half of their appeal in so many days.
    makers:    of one class, and as many again that make things of all classes.
    again_by_class: `again` of each class, where they differ.
    visits:    of one person, over history and held-out days, on average; picks: of a visit, at most.
    """

    name: str
    names: tuple[str, str, str, str]
    classes: tuple[str, ...]
    again: float
    items: int = 6_000
    people: int = 500
    visits: float = 40.0
    picks: int = 3
    makers: int = 8
    styles: int = 6
    maker_taste: float = 1.0
    style_taste: float = 0.8
    popularity: float = 1.0
    style_by_class: bool = False
    history_d: float = 180.0
    held_out_d: float = 28.0
    listed_d: float = 1_500.0
    appeal_half_life_d: float | None = None
    drift_d: float | None = None
    again_by_class: tuple[float, ...] = ()

    def again_in(self, of: int) -> float:
        """Return the probability of `again` in a class."""
        return self.again_by_class[of] if self.again_by_class else self.again


GROCERIES = Kind(
    "bought again", ("product_type", "manufacturer", "package_size", "listed"),
    ("milk", "yogurt", "cheese", "bread", "chips", "cereal", "soup", "tissue", "towels", "butter", "juice", "coffee"),
    again=0.45, style_by_class=True, picks=2,
)  # fmt: skip
FILMS = Kind(
    "wanted once", ("genre", "director", "country", "added"),
    ("drama", "comedy", "thriller", "western", "documentary", "animation", "romance", "horror"),
    again=0.0,
)  # fmt: skip
NEWS = Kind(
    "a stream of new things", ("section", "byline", "topic", "published"),
    ("politics", "sport", "culture", "science", "local", "business"),
    again=0.0, items=3_000, maker_taste=0.8, styles=12, style_taste=1.0, visits=60.0, history_d=28.0, held_out_d=1.0, listed_d=40.0,
    appeal_half_life_d=1.5, drift_d=10.0,
)  # fmt: skip
KINDS = (GROCERIES, FILMS, NEWS)
_SHOP = replace(GROCERIES, items=2_000, people=100)
SHAPES = (
    replace(_SHOP, name="40 items a class, some bought again", items=480, again=0.15),
    replace(_SHOP, name="some bought again, a steep popularity", again=0.2, popularity=2.0),
    replace(_SHOP, name="some bought again, large baskets", again=0.25, picks=8),
    replace(_SHOP, name="some bought again", again=0.16),
    replace(NEWS, name="news that people come back to", people=100, again=0.15),
    replace(_SHOP, name="bought again by people of few visits", people=400, visits=6.0),
    replace(_SHOP, name="often bought again, a small shop"),
)
"""Catalogues between the kinds, where boosts for items used before may help less than they cost."""

ODD_SHAPES = (
    replace(_SHOP, name="half of the classes bought again", people=200, again_by_class=(0.7,) * 6 + (0.0,) * 6),
    replace(
        _SHOP, name="300 classes", people=300, items=9_000, again=0.3, classes=tuple(f"kind{n}" for n in range(300))
    ),
    replace(_SHOP, name="two classes", people=200, again=0.1, classes=("thing", "other")),
    replace(_SHOP, name="200 uses a person", people=80, visits=130.0, again=0.15),
    replace(_SHOP, name="5 uses a person", people=800, visits=4.0, again=0.6),
    replace(_SHOP, name="nearly always bought again", people=200, again=0.8),
    replace(_SHOP, name="a flat popularity", people=200, popularity=0.4, again=0.12),
    replace(_SHOP, name="no taste, some bought again", people=200, maker_taste=0.0, style_taste=0.0, again=0.15),
    replace(FILMS, name="films and no taste", items=2_000, people=200, maker_taste=0.0, style_taste=0.0),
    replace(FILMS, name="few films", items=400, people=200),
    replace(FILMS, name="films of people of few visits", people=800, visits=6.0, held_out_d=90.0),
    replace(FILMS, name="films of a flat popularity", items=2_000, people=200, popularity=0.3),
    replace(FILMS, name="films, some seen again", items=2_000, people=200, again=0.14),
    replace(NEWS, name="news that stay", people=200, appeal_half_life_d=6.0, listed_d=90.0),
)
"""Catalogues of extreme parameters."""


class Use(NamedTuple):
    """One person's use of an item."""

    person: str
    item: str
    at_s: float


class Question(NamedTuple):
    """A search of the held-out days: the person, the words, and the indexed items that the person used then."""

    person: str
    words: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Made:
    """One generated catalogue: documents by id, the history in the order of time, and the questions of the held-out days."""

    kind: Kind
    properties: Mapping[str, Any]
    documents: Mapping[str, Mapping[str, Any]]
    history: tuple[Use, ...]
    questions: tuple[Question, ...]

    def query(self, words: str) -> dict[str, Any]:
        """Return the team's own query: BM25 × log(1 + popularity), of a stream BM25 halved every two days."""
        if self.kind.appeal_half_life_d:
            decay: dict[str, Any] = {"exp": {self.kind.names[3]: {"origin": "now", "scale": "2d", "decay": 0.5}}}
        else:
            decay = {"field_value_factor": {"field": "popularity", "modifier": "log1p", "missing": 0}}
        return {"function_score": {"query": {"match": {"title": words}}, **decay, "boost_mode": "multiply"}}

    def category_page(self, words: str) -> dict[str, Any]:
        """Return the query of a class's page without words, which scores all hits alike: they come in the index's order."""
        return {"constant_score": {"filter": {"term": {self.kind.names[0]: words}}}}


def make(kind: Kind, now_s: float, seed: int) -> Made:
    """Return a generated catalogue of a kind."""
    draw = np.random.default_rng(seed)
    shelf = _Shelf(kind, now_s, draw)
    uses = sorted(
        (one for number in range(kind.people) for one in _person(kind, shelf, number, now_s, draw)), key=_time
    )
    history = tuple(one for one in uses if one.at_s <= now_s)
    wanted: dict[tuple[str, str], set[str]] = {}
    for one in uses[len(history) :]:
        wanted.setdefault((one.person, shelf.class_of(one.item)), set()).add(one.item)
    questions = tuple(Question(person, words, frozenset(items)) for (person, words), items in sorted(wanted.items()))
    keyword = {"type": "keyword"}
    of_class, maker, style, date = kind.names
    properties = {
        "title": {"type": "text"}, of_class: keyword, maker: keyword, style: keyword, date: {"type": "date"},
        "popularity": {"type": "integer"},
    }  # fmt: skip
    return Made(kind, properties, shelf.documents(Counter(one.item for one in history)), history, questions)


def _time(use: Use) -> float:
    return use.at_s


class _Shelf:
    """All items, as arrays by number: class, maker, style, time of listing, appeal."""

    def __init__(self, kind: Kind, now_s: float, draw: np.random.Generator) -> None:
        self.kind = kind
        count = kind.items
        self.of_class = draw.integers(len(kind.classes), size=count)
        own = self.of_class * kind.makers + draw.integers(kind.makers, size=count)
        general = len(kind.classes) * kind.makers + draw.integers(kind.makers, size=count)
        self.maker = np.where(draw.random(count) < 0.7, own, general)
        self.style = draw.integers(kind.styles, size=count)
        self.listed_s = now_s - draw.random(count) * kind.listed_d * DAY_S
        self.appeal = draw.pareto(1.3, size=count) + 0.1
        self.titles = [
            " ".join([kind.classes[of], *draw.choice(FILLER, size=draw.integers(1, 5))]) for of in self.of_class
        ]
        self.members = [np.flatnonzero(self.of_class == of) for of in range(len(kind.classes))]

    def class_of(self, item: str) -> str:
        return self.kind.classes[int(self.of_class[int(item[1:])])]

    def documents(self, uses: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        of_class, maker, style, date = self.kind.names
        return {
            f"i{at}": {
                "title": self.titles[at],
                of_class: self.kind.classes[self.of_class[at]],
                maker: f"{maker} {self.maker[at]}",
                style: f"{style} {self.style[at]}",
                date: datetime.fromtimestamp(self.listed_s[at], UTC).isoformat(timespec="seconds"),
                "popularity": uses.get(f"i{at}", 0),
            }
            for at in range(self.kind.items)
        }


def _person(kind: Kind, shelf: _Shelf, number: int, now_s: float, draw: np.random.Generator) -> list[Use]:
    """Return the uses of one person, in the order of time."""
    classes = len(kind.classes)
    interest = draw.dirichlet(np.full(classes, 0.7))
    for_maker = draw.normal(0.0, kind.maker_taste, size=(classes + 1) * kind.makers)
    start_s, end_s = now_s - kind.history_d * DAY_S, now_s + kind.held_out_d * DAY_S
    drifts = int((end_s - start_s) / (kind.drift_d * DAY_S)) + 1 if kind.drift_d else 1
    for_style = draw.normal(0.0, kind.style_taste, size=(drifts, classes, kind.styles))
    if not kind.style_by_class:
        for_style[:, :, :] = for_style[:, :1, :]
    worth: dict[tuple[int, int], Floats] = {}
    used: dict[int, Counter[int]] = {}
    found: list[Use] = []
    for at_s in np.sort(draw.uniform(start_s, end_s, size=draw.poisson(kind.visits))):
        of = int(draw.choice(classes, p=interest))
        drift = int((at_s - start_s) / (kind.drift_d * DAY_S)) if kind.drift_d else 0
        members, own = shelf.members[of], used.setdefault(of, Counter())
        if (of, drift) not in worth:
            taste = for_maker[shelf.maker[members]] + for_style[drift, of, shelf.style[members]]
            worth[of, drift] = shelf.appeal[members] ** kind.popularity * np.exp(taste)
        now = worth[of, drift]
        if kind.appeal_half_life_d:
            age_s = at_s - shelf.listed_s[members]
            now = np.where(age_s < 0, 0.0, now * 0.5 ** (np.maximum(age_s, 0.0) / (kind.appeal_half_life_d * DAY_S)))
        for pick in range(int(draw.integers(1, kind.picks + 1))):
            if own and draw.random() < kind.again_in(of):
                at = list(own)[_drawn(np.fromiter(own.values(), float), draw)]
            else:
                fresh = now.copy()
                fresh[list(own)] = 0.0
                at = _drawn(fresh, draw)
            if at >= 0:
                own[at] += 1
                found.append(Use(f"u{number}", f"i{members[at]}", float(at_s) + pick))
    return found


def _drawn(weights: Floats, draw: np.random.Generator) -> int:
    """Return the position of one of the weights, drawn in proportion to them, or -1 if all are 0."""
    summed = np.cumsum(weights)
    if summed[-1] <= 0.0:
        return -1
    return int(min(np.searchsorted(summed, draw.random() * summed[-1], side="right"), len(weights) - 1))
