"""The search for neighbours in the events before a time, by the query of `rewriter backfill`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewriter.evaluate.arrays import Codes, Numbers
from rewriter.evaluate.near_replay import NearTable
from rewriter.signals.backfill.neighbours import find_neighbours
from rewriter.signals.counters import Value


def near_table(person: Codes, code: Codes, worth: Numbers, values: Sequence[Value]) -> NearTable:
    """Return the neighbours that people's items have.

    person, code, worth: for each item that a person used, the person, the number of the item's value in `values`, and its decayed
    count. Values are of the form (item, id, class).
    """
    import duckdb  # noqa: PLC0415  an extra

    used = np.unique(code)
    texts = [values[one] for one in used.tolist()]
    ids = sorted(
        {value[1] for value in texts}
    )  # numbers in the order of the texts: equal strengths are ordered by text
    numbers = {name: at for at, name in enumerate(ids)}
    classes: dict[str, int] = {}
    item_of = np.array([numbers[value[1]] for value in texts], np.int64)
    class_of = np.array([classes.setdefault(value[2], len(classes)) for value in texts], np.int64)
    at = np.searchsorted(used, code)
    db = duckdb.connect()
    db.register("counted", {"person": person, "class": class_of[at], "item": item_of[at], "worth": worth})
    find_neighbours(db, "counted")
    found = db.execute('SELECT "class", item, other, strength FROM neighbours ORDER BY 1, 2, 4 DESC, 3').fetchnumpy()
    db.close()
    code_of = dict(zip(zip(class_of.tolist(), item_of.tolist(), strict=True), used.tolist(), strict=True))
    pairs = zip(np.asarray(found["class"]).tolist(), np.asarray(found["item"]).tolist(), strict=True)
    owner = np.array([code_of[pair] for pair in pairs], np.int64)
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(len(values) + 1))
    other, strength = np.asarray(found["other"], np.int64), np.asarray(found["strength"], np.float64)
    return NearTable(bounds.astype(np.int64), other[order], strength[order], ids)
