"""The parameters of the simulation, read from `parameters.toml`, which is dated and committed before the simulation runs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

FILE = Path(__file__).with_name("parameters.toml")


@dataclass(frozen=True, slots=True)
class CatalogueParameters:
    """The part of Complete Journey that is the shop."""

    product_types: int
    history_weeks: int
    season_weeks: int

    @property
    def weeks(self) -> range:
        """The weeks of the season."""
        return range(self.history_weeks + 1, self.history_weeks + 1 + self.season_weeks)


@dataclass(frozen=True, slots=True)
class VisitParameters:
    """The model of visits; see the file."""

    shared: float
    gift: float
    theme: float
    theme_types: int
    theme_wanted: int
    max_needs: int
    again: float
    drift: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class ClickParameters:
    """The position-based click model; see the file."""

    examination: float
    wanted: float
    alike: float
    other: float
    ordered: float
    ordered_other: float


@dataclass(frozen=True, slots=True)
class SeasonParameters:
    """The size of each variant of the season, and the options of its report."""

    seed: int
    visits: Mapping[str, int]
    holdout: float
    interleaved: float
    primary: str
    planned_people: int
    twins: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """All of them."""

    dated: date
    catalogue: CatalogueParameters
    visits: VisitParameters
    clicks: ClickParameters
    season: SeasonParameters


def read(path: Path = FILE) -> Parameters:
    """Return the parameters of a file. Raises TypeError if one is missing or unknown."""
    found = tomllib.loads(path.read_text("utf-8"))
    return Parameters(
        found["dated"],
        CatalogueParameters(**found["catalogue"]),
        VisitParameters(**found["visits"]),
        ClickParameters(**found["clicks"]),
        SeasonParameters(**found["season"]),
    )
