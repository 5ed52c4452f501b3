"""Measures of each search's page, by ir-measures: nDCG@k, RR@k, R@k, P@k and Judged@k. Pure.

Every name carries its k. Grades are integers for trec_eval: fractions (of debiased clicks) are multiplied by `FRACTIONS`, which
changes no nDCG, since gains are linear in the grade.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FRACTIONS = 1_000
MEASURES = ("nDCG", "RR", "R", "P", "Judged")


def measure_names(k: int) -> tuple[str, ...]:
    """Return the names of the measures at depth `k`: verdicts are about the first one."""
    return tuple(f"{name}@{k}" for name in MEASURES)


def scored(
    pages: Sequence[Sequence[str]],
    relevant: Sequence[Mapping[str, float]],
    k: int,
    only: Collection[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Return each measure of each page, nan for searches without a relevant document.

    pages: ids in displayed order; only the first `k` count. relevant: grades by id. only: names of measures, by default all.
    """
    from ir_measures import RR, Judged, P, R, iter_calc, nDCG  # noqa: PLC0415  an extra

    wanted = dict(zip(measure_names(k), (nDCG @ k, RR @ k, R @ k, P @ k, Judged @ k), strict=True))
    wanted = {name: measure for name, measure in wanted.items() if not only or name in only}
    names = {str(measure): name for name, measure in wanted.items()}
    judged = [at for at, grades in enumerate(relevant) if any(grade > 0 for grade in grades.values())]
    qrels = {str(at): _whole(relevant[at]) for at in judged}
    run = {str(at): {one: float(k - rank) for rank, one in enumerate(pages[at][:k])} for at in judged if pages[at]}
    found = {name: np.full(len(pages), np.nan) for name in wanted}
    for column in found.values():
        column[judged] = 0.0
    for one in iter_calc(list(wanted.values()), qrels, run) if run else ():
        found[names[str(one.measure)]][int(one.query_id)] = float(one.value)
    return found


def _whole(grades: Mapping[str, float]) -> dict[str, int]:
    if all(float(grade).is_integer() for grade in grades.values()):
        return {one: int(grade) for one, grade in grades.items()}
    return {one: max(1, round(grade * FRACTIONS)) if grade > 0 else 0 for one, grade in grades.items()}
