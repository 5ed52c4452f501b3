"""Neighbours of items as of a time, as a backfill at that time would have found them (`signals.neighbours`).

A window's searches share the table of its beginning: a table made later would hold the purchases that the window is judged by. A
service renews it with each backfill, so its neighbours are at most some days younger. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewriter.evaluate.arrays import Codes, Numbers, rows_of
from rewriter.signals.class_counters import MAX_VALUES
from rewriter.signals.counters import Value
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.neighbours import Near


@dataclass(frozen=True)
class NearTable:
    """The neighbours of each signal value by its number; only items of a class have any.

    bounds: those of value `code` are at bounds[code] to bounds[code + 1]. other: their positions in `ids`. strength: in (0, 1].
    """

    bounds: Codes
    other: Codes
    strength: Numbers
    ids: Sequence[str]

    def of(self, code: int) -> Near:
        """Return the neighbours of one value, the strongest first."""
        part = slice(int(self.bounds[code]), int(self.bounds[code + 1]))
        pairs = zip(self.other[part].tolist(), self.strength[part].tolist(), strict=True)
        return tuple((self.ids[other], strength) for other, strength in pairs)

    def counted(self, codes: Codes, counts: Numbers) -> dict[Value, float]:
        """Return the heaviest counters of neighbours, from the counters of the items that have them."""
        owner, rows = rows_of(self.bounds, codes)
        others, local = np.unique(self.other[rows], return_inverse=True)
        sums = np.bincount(local, weights=counts[owner] * self.strength[rows], minlength=len(others))
        heaviest = np.argsort(-sums, kind="stable")[:MAX_VALUES]
        pairs = zip(others[heaviest].tolist(), sums[heaviest].tolist(), strict=True)
        return {(NEIGHBOUR, self.ids[other]): weight for other, weight in pairs}
