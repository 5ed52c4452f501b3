"""Tuning of a policy by Optuna on one window of judged searches, with one look at a later window.

The first trials are the policy as it is and single changes of it, the next ones Sobol points (Owen-scrambled), the others
multivariate TPE; both are seeded. Two measures are maximized:
nDCG of all items, and nDCG of the items that a person had not used before. Candidates are fetched once, and re-scored in process
(`rescoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from rewriter.client.seam import Search, SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.answers import Send
from rewriter.evaluate.bare_weight import NONE_HELPS, Suggestion, suggested, with_bare_weight
from rewriter.evaluate.intervals import Paired, paired
from rewriter.evaluate.judged import JudgedSearch, only
from rewriter.evaluate.outcome import Outcome, Result
from rewriter.evaluate.past import Past
from rewriter.evaluate.rescoring import Rescoring
from rewriter.evaluate.run import Evaluation
from rewriter.evaluate.scores import measure_names, scored
from rewriter.evaluate.shared import Shared
from rewriter.evaluate.space import Parameter, first_values, settings_of, space, with_settings
from rewriter.evaluate.spread import PAGE, in_words, spread_of, steep_from
from rewriter.evaluate.variants import Variant, variant
from rewriter.settings import PolicySettings, Settings

SOBOL = 16
STUDY = "rewriter"
WEIGHED = 300
"""Searches on which a bare weight is chosen."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values with its measures on the training window. coverage: different items shown, as a share of the baseline's.

    is_front: whether no other trial is better in both measures.
    """

    number: int
    settings: Mapping[str, float]
    every: float
    new: float
    coverage: float
    is_front: bool = False


@dataclass(slots=True)
class Tuned:
    """The result of tuning. current: the policy's own values. chosen: the proposed values, None if none are better."""

    trials: list[Trial]
    current: Trial
    baseline: tuple[float, float]
    chosen: Trial | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The chosen values on the later window, which is read once.

    every, new: against the policy as it is. plain, plain_new: against the baseline.
    """

    every: Paired
    new: Paired
    plain: Paired
    plain_new: Paired

    def refusal(self, spare_new: float) -> str:
        """Return why the change is not proposed, or "". spare_new: the least ratio of the nDCG of new items to the baseline's."""
        if not self.every.low > 0.0:
            return "the later window does not confirm it: the interval of the gain holds 0"
        if self.plain_new.searches and self.plain_new.ratio < spare_new:
            return f"on the later window new items fall to {self.plain_new.ratio:.1%} of the baseline's, below {spare_new:.0%}"
        return ""


class Window:
    """One window of judged searches, on which any policy can be measured."""

    def __init__(
        self, client: SearchClient, send: Send, settings: Settings, policy: PolicySettings, past: Past,
        judged: Sequence[JudgedSearch], bodies: Sequence[Mapping[str, Any]], *, index: str, k: int, seed: int,
    ) -> None:  # fmt: skip
        named = {name for one in policy.fields.values() for name in one.of} | {policy.class_field, policy.item_field}
        self.rescoring = Rescoring(send, {name for name in named if name})
        self._client, self._send, self._settings, self._past = client, send, settings, past
        self._judged, self._bodies = judged, bodies
        self._index, self._k, self._seed = index, k, seed
        self._shared = Shared()

    def outcome(self, policy: PolicySettings) -> Outcome:
        """Return the pages of a policy without exploration."""
        one = variant(self._settings, policy, "tuned")
        return self._evaluation(one).run(lambda *_: None)

    def measures(self, outcome: Outcome, result: Result) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return nDCG of all items and of new items, by search."""
        done, name = outcome.done, measure_names(self._k)[0]
        pages = [result.pages[at] for at in done]
        graded = [outcome.prepared[at].judged for at in done]
        every = scored(pages, [one.relevant for one in graded], self._k, (name,))[name]
        fresh = [only(one, outcome.new[at]) for at, one in zip(done, graded, strict=True)]
        return every, scored(pages, fresh, self._k, (name,))[name]

    def people(self, outcome: Outcome) -> list[int]:
        """Return each search's person."""
        return [outcome.prepared[at].person for at in outcome.done]

    def flatter(self, policy: PolicySettings) -> tuple[Suggestion, Window] | None:
        """Return the bare weight for a steep query, and this window with it in each body; None where none helps."""
        given = [Search(one.index or self._index, body) for one, body in zip(self._judged, self._bodies, strict=True)]
        drawn = Random(self._seed).sample(given, min(WEIGHED, len(given)))
        found = suggested(self._send, drawn, steep_from(policy.max_boost))
        bodies = [with_bare_weight(one, found.weight) for one in self._bodies] if found else []
        changed = [one for one in bodies if one is not None]
        if found is None or len(changed) < len(self._bodies):
            return None
        window = Window(
            self._client, self._send, self._settings, policy, self._past, self._judged, changed,
            index=self._index, k=self._k, seed=self._seed,
        )  # fmt: skip
        return found, window

    def _evaluation(self, one: Variant) -> Evaluation:
        return Evaluation(
            self._client, self.rescoring, [one], self._past, self._judged, self._bodies,
            index=self._index, k=self._k, seed=self._seed, shared=self._shared,
        )  # fmt: skip


def tuned(
    window: Window,
    policy: PolicySettings,
    *,
    trials: int,
    seed: int,
    max_boost: float,
    spare_new: float,
    journal: Path,
    fingerprint: str,
    on_progress: Progress,
) -> Tuned:
    """Tune a policy. Trials in `journal` are not run again. Raises ConfigurationError for a journal of other inputs.

    spare_new: the least nDCG of new items, as a share of the baseline's, that a proposal may have.
    """
    parameters = space(policy, max_boost)
    study = _study(journal, fingerprint)
    outcome = window.outcome(policy)
    base = tuple(_mean(column) for column in window.measures(outcome, outcome.baseline))
    now = _trial(window, policy, {}, -1, outcome)
    notes = _limits(window, policy, (base[0], base[1]), now)
    first = first_values(policy, parameters)
    while (done := len(_complete(study))) < trials:
        if done < len(first) and not _waiting(study):
            study.enqueue_trial(first[done])
        study.sampler = _sampler(done - len(first), seed)
        on_progress(done, trials)
        study.optimize(lambda trial: _objective(trial, window, policy, parameters), n_trials=1)
    found = _with_front(
        [
            Trial(one.number, settings_of(policy, one.params), one.values[0], one.values[1], one.user_attrs["coverage"])
            for one in _complete(study)[:trials]
        ]
    )
    allowed = [one for one in found if one.new >= spare_new * base[1]]
    best = max(allowed, key=lambda one: (one.every, one.new, -one.number), default=None)
    if best is not None and best.every <= now.every:
        best = None
    return Tuned(found, now, (base[0], base[1]), best, notes)


def confirmed(window: Window, policy: PolicySettings, settings: Mapping[str, float], seed: int) -> Confirmation:
    """Read the later window once: a policy with other settings against itself, and against the baseline."""
    before = window.outcome(policy)
    after = window.outcome(with_settings(policy, settings))
    own, own_new = window.measures(after, after.variants["tuned"])
    was, was_new = window.measures(before, before.variants["tuned"])
    plain, plain_new = window.measures(after, after.baseline)
    people = window.people(after)
    pairs = ((own, was), (own_new, was_new), (own, plain), (own_new, plain_new))
    return Confirmation(*(paired(one, other, people, seed=seed) for one, other in pairs))


def _objective(
    trial: Any, window: Window, policy: PolicySettings, parameters: Sequence[Parameter]
) -> tuple[float, float]:
    chosen = {
        one.name: trial.suggest_int(one.name, int(one.low), int(one.high))
        if one.is_whole
        else trial.suggest_float(one.name, one.low, one.high, log=one.is_log)
        for one in parameters
    }
    settings = settings_of(policy, chosen)
    found = _trial(window, policy, settings, trial.number)
    trial.set_user_attr("coverage", found.coverage)
    return found.every, found.new


def _trial(
    window: Window, policy: PolicySettings, settings: Mapping[str, float], number: int, outcome: Outcome | None = None
) -> Trial:
    outcome = outcome or window.outcome(with_settings(policy, settings))
    if outcome.interrupted:
        raise KeyboardInterrupt
    result = outcome.variants["tuned"]
    every, new = window.measures(outcome, result)
    shown = {one for at in outcome.done for one in result.pages[at]}
    plain = {one for at in outcome.done for one in outcome.baseline.pages[at]}
    return Trial(number, settings, _mean(every), _mean(new), len(shown) / max(1, len(plain)))


def _mean(column: np.ndarray[Any, Any]) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else 0.0


def _with_front(trials: Sequence[Trial]) -> list[Trial]:
    def is_front(one: Trial) -> bool:
        return not any(
            other.every >= one.every and other.new >= one.new and (other.every, other.new) != (one.every, one.new)
            for other in trials
        )

    return [replace(one, is_front=is_front(one)) for one in trials]


def _limits(window: Window, policy: PolicySettings, base: tuple[float, float], now: Trial) -> list[str]:
    """Return notes on the score range of the team's own query, and on a bare weight if its scores are steep."""
    found = spread_of(window.rescoring.first_scores(PAGE))
    if found is None:
        return []
    spread = f"{in_words(found, policy.max_boost)}, over {found.searches:,} training searches"
    return [spread, _bare_weight(window, policy, base, now)] if found.kind(policy.max_boost) == "steep" else [spread]


def _bare_weight(window: Window, policy: PolicySettings, base: tuple[float, float], now: Trial) -> str:
    found = window.flatter(policy)
    if found is None:
        return NONE_HELPS
    suggestion, flatter = found
    outcome = flatter.outcome(policy)
    if outcome.interrupted:
        raise KeyboardInterrupt
    plain = [_mean(column) for column in flatter.measures(outcome, outcome.baseline)]
    own = [_mean(column) for column in flatter.measures(outcome, outcome.variants["tuned"])]
    return (
        f"{suggestion.in_words}; on the training window the baseline goes from {base[0]:.3f} to {plain[0]:.3f} "
        f"(new items {base[1]:.3f} to {plain[1]:.3f}), the policy as it is from {now.every:.3f} to {own[0]:.3f} "
        f"(new items {now.new:.3f} to {own[1]:.3f})"
    )


def finished_trials(journal: Path) -> int:
    """Return the number of finished trials in a journal, 0 without one."""
    if not journal.is_file():
        return 0
    import optuna  # noqa: PLC0415  an extra

    return len(_complete(optuna.load_study(study_name=STUDY, storage=_storage(journal))))


def _storage(journal: Path) -> Any:
    from optuna.storages import JournalStorage  # noqa: PLC0415  an extra
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415  an extra

    return JournalStorage(JournalFileBackend(str(journal)))


def _study(journal: Path, fingerprint: str) -> Any:
    import optuna  # noqa: PLC0415  an extra

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            study_name=STUDY, storage=_storage(journal), directions=["maximize", "maximize"], load_if_exists=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError([Fault(str(journal), f"is not a journal of tuning: {type(error).__name__}")]) from None
    known = study.user_attrs.get("inputs")
    if known is not None and known != fingerprint:
        what = "holds trials of other inputs: history, settings, searches, seed or versions differ"
        raise ConfigurationError([Fault(str(journal), what, "name another file with --study")])
    study.set_user_attr("inputs", fingerprint)
    return study


def _complete(study: Any) -> list[Any]:
    return [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]


def _waiting(study: Any) -> bool:
    """Whether a trial that an interrupted run enqueued has not begun."""
    return any(one.state.name == "WAITING" for one in study.get_trials(deepcopy=False))


def _sampler(done: int, seed: int) -> Any:
    """Return the sampler of the next trial. done: the number of trials after the first values, negative for one of these."""
    import warnings  # noqa: PLC0415  beside its only use

    from optuna.exceptions import ExperimentalWarning  # noqa: PLC0415  an extra
    from optuna.samplers import QMCSampler, TPESampler  # noqa: PLC0415  an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if done < SOBOL:
            return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)
        return TPESampler(
            seed=seed + done, multivariate=True, n_startup_trials=1
        )  # the same seed, wherever tuning was resumed
