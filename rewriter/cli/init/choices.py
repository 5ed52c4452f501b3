"""The choices of `rewriter init`, each with its reason as a sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facet:
    """A document field whose values people may prefer.

    name: its name in the settings; values: some frequent ones, for samples; why: the figures that led to the choice.
    """

    name: str
    field: str
    values: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field that was considered and not chosen; `is_possible`: a boost could act on it nevertheless."""

    field: str
    why: str
    is_possible: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """One document field with the reason for its choice; "" with the reason if no field was chosen."""

    field: str
    why: str


@dataclass(frozen=True, slots=True)
class ItemChoice:
    """The field that identifies an item; `scale` is 0 if items are not boosted; `kind` is its mapping type."""

    field: str
    why: str
    is_boosted: bool = True


@dataclass(frozen=True, slots=True)
class Choices:
    """All choices, and the fields left out; fresh_s: the age in seconds below which the newest quarter of the documents lies."""

    facets: tuple[Facet, ...]
    combination: tuple[Facet, Facet] | None
    category: Chosen
    date: Chosen
    fresh_s: float
    item: ItemChoice
    left_out: tuple[LeftOut, ...]
