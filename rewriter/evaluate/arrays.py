"""Arrays of a replay: numbers, codes, and the rows of lists that lie one after another in one array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


def rows_of(bounds: Codes, lists: Codes) -> tuple[Codes, Codes]:
    """Return, for each row of each of some lists, the position of the list in `lists`, and the row.

    bounds: list `one` has the rows from bounds[one] to bounds[one + 1].
    """
    lengths = bounds[lists + 1] - bounds[lists]
    owner = np.repeat(np.arange(len(lists)), lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return owner, np.repeat(bounds[lists], lengths) + within
