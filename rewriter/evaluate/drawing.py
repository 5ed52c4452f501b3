"""The study of a tuning run: its journal of finished trials, and the values of the next trial. It needs the extra.

First come the policy as it is and single changes of it, then SOBOL points (Owen-scrambled). Afterwards two ways alternate: a
multivariate TPE sampler that knows how far each trial is from the least nDCG of new items, and a small change of the best trial
so far. Each value depends on the seed and the trials before it alone, so that a resumed run draws what an uninterrupted one does.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import exp, log
from pathlib import Path
from random import Random
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.space import Parameter, Value

SOBOL = 16
STUDY = "rewriter"
STEP = 0.15
"""Standard deviation of a small change, as a share of the parameter's range."""
CHANGED = 3
"""Mean number of parameters that one small change has."""


def finished_trials(journal: Path) -> int:
    """Return the number of finished trials in a journal, 0 without one."""
    if not journal.is_file():
        return 0
    import optuna  # noqa: PLC0415  an extra

    return len(complete(optuna.load_study(study_name=STUDY, storage=storage(journal))))


def storage(journal: Path) -> Any:
    """Return Optuna's storage in a journal."""
    from optuna.storages import JournalStorage  # noqa: PLC0415  an extra
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415  an extra

    return JournalStorage(JournalFileBackend(str(journal)))


def opened(journal: Path, fingerprint: str) -> Any:
    """Return the study of a journal, a new one if there is none. Raises ConfigurationError for a journal of other inputs."""
    import optuna  # noqa: PLC0415  an extra

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            study_name=STUDY, storage=storage(journal), directions=["maximize", "maximize"], load_if_exists=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError([Fault(str(journal), f"is not a journal of tuning: {type(error).__name__}")]) from None
    known = study.user_attrs.get("inputs")
    if known is not None and known != fingerprint:
        what = "holds trials of other inputs: history, settings, searches, seed or versions differ"
        raise ConfigurationError([Fault(str(journal), what, "name another file with --study")])
    study.set_user_attr("inputs", fingerprint)
    return study


def complete(study: Any) -> list[Any]:
    """Return the finished trials, in order."""
    return [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]


def prepare(
    study: Any, first: Sequence[Mapping[str, Value]], best: Mapping[str, Value] | None,
    parameters: Sequence[Parameter], seed: int, least: float,
) -> None:  # fmt: skip
    """Let the study draw the next trial. first: the values tried first. best: those of the best trial so far, if there is one.

    least: the least nDCG of new items as a share of the baseline's.
    """
    done = complete(study)
    drawn = len(done) - len(first)
    if (begun := _interrupted(study, done, parameters)) is not None:
        values: Mapping[str, Value] | None = begun
    elif drawn < 0:
        values = first[len(done)]
    elif drawn < SOBOL:
        values, study.sampler = None, _sobol(seed)
    elif drawn % 2 and best is not None:
        values = changed_a_little(best, parameters, seed + len(done))
    else:
        values = _from_all(done, parameters, seed + drawn, least)
    waits = any(one.state.name == "WAITING" for one in study.get_trials(deepcopy=False))  # an interrupted run left it
    if values is not None and not waits:
        study.enqueue_trial(dict(values))


def _interrupted(study: Any, done: Sequence[Any], parameters: Sequence[Parameter]) -> Mapping[str, Value] | None:
    """Return the values of a trial that was interrupted after the last finished one: Sobol's sampler would not draw them again."""
    last = done[-1].number if done else -1
    begun = [
        one for one in study.get_trials(deepcopy=False) if one.number > last and one.state.name in {"FAIL", "RUNNING"}
    ]
    whole = [one.params for one in begun if one.params.keys() == {parameter.name for parameter in parameters}]
    return whole[-1] if whole else None


def _sobol(seed: int) -> Any:
    from optuna.exceptions import ExperimentalWarning  # noqa: PLC0415  an extra
    from optuna.samplers import QMCSampler  # noqa: PLC0415  an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)


def _from_all(done: Sequence[Any], parameters: Sequence[Parameter], seed: int, least: float) -> dict[str, Value]:
    """Return what TPE draws after the finished trials.

    It draws in a study of its own: a journal holds how far a trial was from the limit of its run, which the present one need not
    share, and holds nothing for trials that another sampler drew.
    """
    import optuna  # noqa: PLC0415  an extra
    from optuna.exceptions import ExperimentalWarning  # noqa: PLC0415  an extra

    ranges = {one.name: distribution(one) for one in parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)  # set_constraint, which replaces constraints_func, is new
        sampler = optuna.samplers.TPESampler(
            seed=seed, multivariate=True, n_startup_trials=1, constraints_func=lambda _: (0.0,)
        )
        study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=one.params, distributions=ranges, values=one.values,
                    system_attrs={"constraints": [least - one.user_attrs["new_low"]]},
                )
                for one in done
            ]
        )  # fmt: skip
        drawn: dict[str, Value] = study.ask(ranges).params
    return drawn


def distribution(parameter: Parameter) -> Any:
    """Return the range of a parameter as Optuna takes it."""
    from optuna.distributions import FloatDistribution, IntDistribution  # noqa: PLC0415  an extra

    if parameter.is_whole:
        return IntDistribution(int(parameter.low), int(parameter.high))
    return FloatDistribution(parameter.low, parameter.high, log=parameter.is_log)


def changed_a_little(values: Mapping[str, Value], parameters: Sequence[Parameter], seed: int) -> dict[str, Value]:
    """Return values with small changes of some of them, each within its range. At least one differs."""
    random = Random(seed)
    chosen = [one for one in parameters if random.random() * len(parameters) < CHANGED] or [random.choice(parameters)]
    found = dict(values)
    for one in chosen:
        if one.is_whole:
            step = random.choice((-1, 1))
            found[one.name] = int(min(one.high, max(one.low, values[one.name] + step)))
            continue
        low, high = (log(one.low), log(one.high)) if one.is_log else (one.low, one.high)
        at = log(values[one.name]) if one.is_log else values[one.name]
        moved = min(high, max(low, random.gauss(at, STEP * (high - low))))
        found[one.name] = min(one.high, max(one.low, exp(moved) if one.is_log else moved))
    return found
