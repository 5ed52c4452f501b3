"""The choices of `rewriter init`, each with its reason in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facet:
    """A document field whose values people may prefer.

    name: in the settings; values: some frequent ones, for samples; why: the figures it was chosen by.
    """

    name: str
    field: str
    values: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field that was considered and not chosen; `is_possible` where a boost could act on it all the same."""

    field: str
    why: str
    is_possible: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """One document field with the reason for it; "" where there is none, with the reason for that."""

    field: str
    why: str


@dataclass(frozen=True, slots=True)
class ItemChoice:
    """The field that names an item; `scale` 0 where items are not boosted; `kind` is its mapping type."""

    field: str
    why: str
    is_boosted: bool = True


@dataclass(frozen=True, slots=True)
class Choices:
    """All choices, and what was left out; fresh_s: the age below which the newest quarter of the documents lies, in seconds."""

    facets: tuple[Facet, ...]
    combination: tuple[Facet, Facet] | None
    category: Chosen
    date: Chosen
    fresh_s: float
    item: ItemChoice
    left_out: tuple[LeftOut, ...]
