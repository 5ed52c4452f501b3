"""The policies that an evaluation compares, each in settings of its own, with the guards of a service switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewriter.errors import ConfigurationError, Fault
from rewriter.expression import parsed_indices
from rewriter.settings import PolicySettings, Settings

POLICY = "evaluated"
"""The name of the one policy in the settings of a variant."""
NEVER_OPEN = {
    "max_error_rate": 1.0, "max_slow_rate": 1.0, "burst_error_rate": 1.0, "failures_in_a_row": 2**31, "late_reads_in_a_row": 2**31,
}  # fmt: skip
"""Settings of a breaker that never opens: what fails for one subject must not change the pages of others."""
AT_LEISURE = {"signals_ms": 60_000.0, "cutoff_ms": 60_000.0, "max_leg_bytes": 2**28, "max_body_bytes": 2**24}


@dataclass(frozen=True, slots=True)
class Variant:
    """One policy that is evaluated, or a variation of it.

    settings: settings with only this policy, under the name POLICY.
    of:       the name of the variant that this one copies with one change. explores: with exploration slots.
    placebo:  each person has the signals of another person, so any gain is not personal.
    """

    name: str
    settings: Settings
    of: str = ""
    explores: bool = False
    placebo: bool = False

    @property
    def policy(self) -> PolicySettings:
        """The policy."""
        return self.settings.policies[POLICY]


def variant(settings: Settings, policy: PolicySettings, name: str, *, of: str = "", placebo: bool = False) -> Variant:
    """Return the variant of a policy without exploration, whose price is measured separately."""
    return Variant(name, alone(settings, policy.model_copy(update={"exploration_share": 0.0})), of, placebo=placebo)


def exploring(settings: Settings, policy: PolicySettings, name: str) -> Variant:
    """Return the variant of a policy with its exploration."""
    return Variant(f"{name}, with exploration", alone(settings, policy), name, explores=True)


def alone(settings: Settings, policy: PolicySettings) -> Settings:
    """Return settings with one policy: no experiment, no switches, no lag, no late answers."""
    evaluated = policy.model_copy(update={"mode": "parallel", "trial": None})  # the evaluation needs both rankings
    return settings.model_copy(
        update={
            "policies": {POLICY: evaluated},
            "experiment": settings.experiment.model_copy(update={"holdout": 0.0, "rollout": 1.0, "interleaved": 0.0}),
            "budget": settings.budget.model_copy(update=AT_LEISURE),
            "breaker": settings.breaker.model_copy(update=NEVER_OPEN),
            "switches": settings.switches.model_copy(
                update={
                    "file": None,
                    "openfeature": None,
                    "personalization": True,
                    "exploration": True,
                    "shadow": False,
                }
            ),
        }
    )


def of_one_index(settings: Settings, index: str) -> tuple[list[str], list[str]]:
    """Return the policies that match an index expression, by default the first policy's, and a note on each other one.

    One evaluation searches one index. All policies are returned if none matches.
    """
    searched = index or ",".join(next(iter(settings.policies.values())).index)
    names = parsed_indices(searched)
    fitting = [name for name, policy in settings.policies.items() if policy.matches(names)]
    if not fitting:
        return list(settings.policies), []
    notes = [
        f"policy {name} is left out: it does not match {searched}, which is searched (--policy {name} evaluates it)"
        for name in settings.policies
        if name not in fitting
    ]
    return fitting, notes


def chosen_variants(settings: Settings, names: Sequence[str], *, variations: bool, placebo: bool) -> list[Variant]:
    """Return the variants of the named policies, or of all without names. Raises ConfigurationError for an unknown name.

    variations: each policy is also evaluated without item boosts, without attributes, and with a cap of 2.
    """
    policies = settings.policies
    if unknown := [name for name in names if name not in policies]:
        known = ", ".join(sorted(policies))
        raise ConfigurationError(
            [Fault(f"--policy {name}", "is not a policy of the settings", known) for name in unknown]
        )
    found: list[Variant] = []
    for name in names or policies:
        policy = policies[name]
        found.append(variant(settings, policy, name))
        if policy.exploration_share:
            found.append(exploring(settings, policy, name))
        if variations:
            found += [
                variant(settings, policy.model_copy(update=dict(change)), f"{name}, {what}", of=name)
                for what, change in _variations(policy)
            ]
        if placebo:
            found.append(variant(settings, policy, f"{name}, another person's signals", of=name, placebo=True))
    return found


def _variations(policy: PolicySettings) -> list[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    if policy.item_field and policy.fields:
        found += [("without item boosts", {"item_field": None}), ("item boosts alone", {"fields": {}})]
    if policy.max_boost != 2.0:
        found.append(("max_boost 2", {"max_boost": 2.0}))
    return found
