"""Tuning of a policy by Optuna on one window of judged searches, with one look at a later window.

Two measures are maximized: nDCG of all items, and nDCG of the items that a person had not used before (`drawing` draws the trials).
The proposal is the best trial by the first measure of those that keep a share of the baseline's nDCG of new items. Not its mean
counts there, but the lower end of an interval over people: the best of many trials is partly lucky, and the later window
would refuse half of those whose mean only just keeps the share. Candidates are fetched once, and re-scored in process
(`rescoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from rewriter.client.seam import Search, SearchClient
from rewriter.evaluate import drawing
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
from rewriter.evaluate.space import NOTHING_ADDED, Parameter, first_values, settings_of, space, with_settings
from rewriter.evaluate.spread import PAGE, in_words, spread_of, steep_from
from rewriter.evaluate.summary import of_few
from rewriter.evaluate.variants import Variant, variant
from rewriter.plural import count_of
from rewriter.settings import PolicySettings, Settings

SURE = 0.8
"""Coverage of the interval of a trial's nDCG of new items ÷ the baseline's: nine of ten such samples lie above its lower end."""
WEIGHED = 300
"""Searches on which a bare weight is chosen."""
Progress = Callable[[int, int], None]
Columns = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""nDCG of all items and of new items, each with one number for each search."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values with its measures on the training window. coverage: different items shown, as a share of the baseline's.

    new_ratio: nDCG of new items ÷ the baseline's; new_low: the lower end of its interval. Both are 1 where no new item is relevant.
    is_front:  whether no other trial is better in both measures. failed: searches whose page is the plain one because something
               failed.
    """

    number: int
    settings: Mapping[str, float]
    every: float
    new: float
    coverage: float
    new_ratio: float = 1.0
    new_low: float = 1.0
    is_front: bool = False
    failed: int = 0


@dataclass(slots=True)
class Tuned:
    """The result of tuning.

    current: the policy's own values. chosen: the proposed values; None if there are none, with the reason.
    """

    trials: list[Trial]
    current: Trial
    baseline: tuple[float, float]
    chosen: Trial | None
    reason: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The chosen values on the later window, which is read once.

    every, new: against the policy as it is. plain, plain_new: against the baseline.
    failed:     searches that failed, with the policy as it is and with the change. notes: on the window's searches.
    """

    every: Paired
    new: Paired
    plain: Paired
    plain_new: Paired
    failed: tuple[int, int] = (0, 0)
    notes: Sequence[str] = ()

    def refusal(self, spare_new: float) -> str:
        """Return why the change is not proposed, or "". spare_new: the least ratio of the nDCG of new items to the baseline's.

        It must fail in no more searches than the policy as it is, and gain over it, for all items or, without a loss of these, for
        new ones. Where the policy as it is costs new items more than is allowed, it must gain over the baseline.
        """
        before, after = self.failed
        if after > before:
            return f"on the later window the change fails in {count_of(after, 'search')}, the policy as it is in {before:,}"
        is_kept = not self.plain_new.searches or self.new.base >= spare_new * self.plain_new.base
        gains = self.every.low > 0.0 or (self.new.low > 0.0 and self.every.difference >= 0.0)
        if not (gains or (not is_kept and self.plain.low > 0.0)):
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
        self._index, self._k, self.seed = index, k, seed
        self._shared = Shared()
        self._plain: Columns | None = None

    def outcome(self, policy: PolicySettings) -> Outcome:
        """Return the pages of a policy without exploration, of all searches: KeyboardInterrupt is raised again."""
        one = variant(self._settings, policy, "tuned")
        found = self._evaluation(one).run(lambda *_: None)
        if found.interrupted:
            raise KeyboardInterrupt
        return found

    def measures(self, outcome: Outcome, result: Result) -> Columns:
        """Return nDCG of all items and of new items, by search."""
        done, name = outcome.done, measure_names(self._k)[0]
        pages = [result.pages[at] for at in done]
        graded = [outcome.prepared[at].judged for at in done]
        every = scored(pages, [one.relevant for one in graded], self._k, (name,))[name]
        fresh = [only(one, outcome.new[at]) for at, one in zip(done, graded, strict=True)]
        return every, scored(pages, fresh, self._k, (name,))[name]

    def plain(self, outcome: Outcome) -> Columns:
        """Return nDCG of the baseline, which is the same under every policy, as `measures`."""
        if self._plain is None:
            self._plain = self.measures(outcome, outcome.baseline)
        return self._plain

    def people(self, outcome: Outcome) -> list[int]:
        """Return each search's person."""
        return [outcome.prepared[at].person for at in outcome.done]

    def flatter(self, policy: PolicySettings) -> tuple[Suggestion, Window] | None:
        """Return the bare weight for a steep query, and this window with it in each body; None where none helps."""
        given = [Search(one.index or self._index, body) for one, body in zip(self._judged, self._bodies, strict=True)]
        drawn = Random(self.seed).sample(given, min(WEIGHED, len(given)))
        found = suggested(self._send, drawn, steep_from(policy.max_boost))
        bodies = [with_bare_weight(one, found.weight) for one in self._bodies] if found else []
        changed = [one for one in bodies if one is not None]
        if found is None or len(changed) < len(self._bodies):
            return None
        window = Window(
            self._client, self._send, self._settings, policy, self._past, self._judged, changed,
            index=self._index, k=self._k, seed=self.seed,
        )  # fmt: skip
        return found, window

    def _evaluation(self, one: Variant) -> Evaluation:
        return Evaluation(
            self._client, self.rescoring, [one], self._past, self._judged, self._bodies,
            index=self._index, k=self._k, seed=self.seed, shared=self._shared,
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
    added: Mapping[str, Sequence[str]] = NOTHING_ADDED,
    keeps_half_lives: bool = False,
) -> Tuned:
    """Tune a policy. Trials in `journal` are not run again. Raises ConfigurationError for a journal of other inputs.

    spare_new: the least nDCG of new items, as a share of the baseline's, that a proposal may have.
    added:     fields of the policy that are not in its settings, of scale 0.
    policy:    names each of its half-lives. keeps_half_lives: whether no trial changes them.
    """
    parameters = space(policy, max_boost, keeps_half_lives=keeps_half_lives)
    study = drawing.opened(journal, fingerprint)
    outcome = window.outcome(policy)
    base = tuple(_mean(column) for column in window.plain(outcome))
    now = _trial(window, policy, {}, -1, outcome)
    notes = [*notes_of(outcome, "training"), *_limits(window, policy, (base[0], base[1]), now)]
    first = first_values(policy, parameters, added)

    while len(done := drawing.complete(study)) < trials:
        best = _best(_of_study(done, policy, added), spare_new, now.failed)
        values = done[best.number].params if best else None
        drawing.prepare(study, first, values, parameters, seed, spare_new)
        on_progress(len(done), trials)
        study.optimize(lambda trial: _objective(trial, window, policy, parameters, added), n_trials=1)
    found = _with_front(_of_study(done[:trials], policy, added))
    chosen, reason = _choice(found, now, spare_new)
    return Tuned(found, now, (base[0], base[1]), chosen, reason, notes)


def _of_study(done: Sequence[Any], policy: PolicySettings, added: Mapping[str, Sequence[str]]) -> list[Trial]:
    """Return finished trials, numbered from 0: in the study an interrupted trial has a number too."""
    return [
        Trial(
            number, settings_of(policy, one.params, added), one.values[0], one.values[1], one.user_attrs["coverage"],
            one.user_attrs["new_ratio"], one.user_attrs["new_low"], failed=one.user_attrs.get("failed", 0),
        )
        for number, one in enumerate(done)
    ]  # fmt: skip


def _best(trials: Sequence[Trial], spare_new: float, failed: int) -> Trial | None:
    """Return the best trial of all searches of those that keep new items; of equally good ones the first.

    failed: the searches that fail with the policy as it is. A trial that fails in more of them is not chosen.
    """
    allowed = [one for one in trials if one.new_low >= spare_new and one.failed <= failed]
    return max(allowed, key=lambda one: (one.every, one.new, -one.number), default=None)


def _choice(trials: Sequence[Trial], now: Trial, spare_new: float) -> tuple[Trial | None, str]:
    """Return the trial to propose, or None and the reason. A policy that costs new items too much may lose some of its gain."""
    best = _best(trials, spare_new, now.failed)
    if best is None:
        whole = [one for one in trials if one.failed <= now.failed]
        if not whole:
            least = min(trials, key=lambda one: one.failed)
            fails = f"in {count_of(least.failed, 'training search')} at least, the policy as it is in {now.failed:,}"
            return None, f"every trial fails {fails}"
        near = max(whole, key=lambda one: one.new_low)
        kept = f"keeps {near.new_ratio:.1%} of the baseline's nDCG of new items, with chance from {near.new_low:.1%} on"
        return None, f"no trial surely keeps {spare_new:.0%}: the nearest, trial {near.number}, {kept}"
    if best.every <= now.every and now.new_ratio >= spare_new:
        return None, "no trial that spares new items ranks better than the policy as it is"
    return best, ""


def confirmed(window: Window, policy: PolicySettings, proposal: PolicySettings, seed: int) -> Confirmation:
    """Read the later window once: a proposed policy against the policy as it is, and against the baseline."""
    before = window.outcome(policy)
    after = window.outcome(proposal)
    own, own_new = window.measures(after, after.variants["tuned"])
    was, was_new = window.measures(before, before.variants["tuned"])
    plain, plain_new = window.measures(after, after.baseline)
    people = window.people(after)
    pairs = ((own, was), (own_new, was_new), (own, plain), (own_new, plain_new))
    failed = [one.variants["tuned"].failures.total() for one in (before, after)]
    notes = notes_of(before, "later") if failed[0] >= failed[1] else notes_of(after, "later", "the change")
    every, new, base, base_new = (paired(one, other, people, seed=seed) for one, other in pairs)
    return Confirmation(every, new, base, base_new, (failed[0], failed[1]), notes)


def notes_of(outcome: Outcome, window: str, what: str = "the policy as it is") -> list[str]:
    """Return notes on the searches of a window: those that failed, those left out, and who made them."""
    found = []
    if failed := outcome.variants["tuned"].failed_in_words(f"{window} search"):
        found.append(f"{what} {failed}")
    for why, count in outcome.left_out.items():
        causes = "; ".join(map(str, outcome.faults))
        found.append(
            f"{count_of(count, f'{window} search', 'are')} left out: {why}" + (f": {causes}" if causes else "")
        )
    few = of_few([outcome.prepared[at].person for at in outcome.done])
    return found + [f"{window} window: {one}" for one in few]


def _objective(
    trial: Any, window: Window, policy: PolicySettings, parameters: Sequence[Parameter],
    added: Mapping[str, Sequence[str]],
) -> tuple[float, float]:  # fmt: skip
    chosen = {
        one.name: trial.suggest_int(one.name, int(one.low), int(one.high))
        if one.is_whole
        else trial.suggest_float(one.name, one.low, one.high, log=one.is_log)
        for one in parameters
    }
    found = _trial(window, policy, settings_of(policy, chosen, added), trial.number)
    for name in ("coverage", "new_ratio", "new_low", "failed"):
        trial.set_user_attr(name, getattr(found, name))
    return found.every, found.new


def _trial(
    window: Window, policy: PolicySettings, settings: Mapping[str, float], number: int, outcome: Outcome | None = None
) -> Trial:
    outcome = outcome or window.outcome(with_settings(policy, settings))
    result = outcome.variants["tuned"]
    every, new = window.measures(outcome, result)
    shown = {one for at in outcome.done for one in result.pages[at]}
    plain = {one for at in outcome.done for one in outcome.baseline.pages[at]}
    kept = paired(new, window.plain(outcome)[1], window.people(outcome), seed=window.seed, level=SURE)
    ratio = 1.0 if isnan(kept.ratio) else kept.ratio
    low = ratio if isnan(kept.ratio_low) else kept.ratio_low
    return Trial(
        number, settings, _mean(every), _mean(new), len(shown) / max(1, len(plain)), ratio, low,
        failed=result.failures.total(),
    )  # fmt: skip


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
    spread = f"{in_words(found, policy.max_boost)}, over {count_of(found.searches, 'training search')}"
    return [spread, _bare_weight(window, policy, base, now)] if found.kind(policy.max_boost) == "steep" else [spread]


def _bare_weight(window: Window, policy: PolicySettings, base: tuple[float, float], now: Trial) -> str:
    found = window.flatter(policy)
    if found is None:
        return NONE_HELPS
    suggestion, flatter = found
    outcome = flatter.outcome(policy)
    plain = [_mean(column) for column in flatter.measures(outcome, outcome.baseline)]
    own = [_mean(column) for column in flatter.measures(outcome, outcome.variants["tuned"])]
    return (
        f"{suggestion.in_words}; on the training window the baseline goes from {base[0]:.3f} to {plain[0]:.3f} "
        f"(new items {base[1]:.3f} to {plain[1]:.3f}), the policy as it is from {now.every:.3f} to {own[0]:.3f} "
        f"(new items {now.new:.3f} to {own[1]:.3f})"
    )
