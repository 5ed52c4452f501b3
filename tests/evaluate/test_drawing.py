"""The journal of `rewriter tune`: a run that was interrupted goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from rewriter.evaluate import drawing
from rewriter.evaluate.space import Parameter

PARAMETERS = [Parameter("scale", 0.0, 1.0), Parameter("pseudo_count", 1.0, 100.0, is_log=True)]
FIRST = [{"scale": 0.5, "pseudo_count": 10.0}, {"scale": 0.0, "pseudo_count": 10.0}]


def tried(journal: Path, trials: int, interrupted: set[int]) -> list[dict[str, Any]]:
    """Return the values of finished trials. Some are interrupted once, and the journal is opened anew after each."""
    left = set(interrupted)

    def objective(trial: Any) -> tuple[float, float]:
        values = [trial.suggest_float(one.name, one.low, one.high, log=one.is_log) for one in PARAMETERS]
        if (number := len(drawing.complete(study))) in left:
            left.remove(number)
            raise KeyboardInterrupt
        trial.set_user_attr("new_low", 1.0 - values[0] / 10)
        return values[0] + 1.0 / values[1], 1.0 - values[0]

    study = drawing.opened(journal, "inputs")
    while len(done := drawing.complete(study)) < trials:
        best = max(done, key=lambda one: one.values[0]).params if done else None
        drawing.prepare(study, FIRST, best, PARAMETERS, 1, 0.9)
        try:
            study.optimize(objective, n_trials=1)
        except KeyboardInterrupt:
            study = drawing.opened(journal, "inputs")
    assert not left
    return [one.params for one in done]


def test_interrupted_trials_are_run_again_with_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first values, Sobol's points, TPE's and small changes."""
    monkeypatch.setattr(drawing, "SOBOL", 3)
    whole = tried(tmp_path / "whole", 9, set())
    assert tried(tmp_path / "parts", 9, {0, 1, 2, 4, 5, 7, 8}) == whole
