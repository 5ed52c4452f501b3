"""Action weights for a history: those under which an average event counts 1, as pseudo-counts assume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from rewriter.errors import ConfigurationError
from rewriter.settings import DEFAULT_ACTION_WEIGHTS, SignalSettings
from rewriter.settings_file import read_settings
from rewriter.toml_text import toml_key

HEAVY = 2.0
"""The mean weight of a history's events from which on its events are too heavy for the pseudo-counts."""
DIGITS = 4
"""Significant digits of a weight that was divided."""


@dataclass(frozen=True, slots=True)
class WeightChoice:
    """The action weights to write, with the reason for them; None and "" if the defaults serve."""

    weights: Mapping[str, float] | None = None
    why: str = ""


DEFAULTS_SERVE = WeightChoice()


class _Own(BaseModel):
    signals: SignalSettings = SignalSettings()


def own_weights(toml: Path) -> Mapping[str, float] | None:
    """Return the weights that a file or the environment sets, or None. A file that is missing or has faults sets none."""
    try:
        signals = read_settings(_Own, toml if toml.exists() else None).signals
    except ConfigurationError:
        signals = read_settings(_Own, None).signals
    return signals.action_weights if "action_weights" in signals.model_fields_set else None


def chosen_weights(own: Mapping[str, float] | None, mean: float, source: str) -> WeightChoice:
    """Return the weights for a history.

    own: the weights that were set before, which are kept. mean: the mean weight of the history's events under these, else under the
    defaults; 0 if unknown. source: the history as a phrase.
    """
    if own is not None:
        why = "These weights were set before and are kept, since everything counted so far has them."
        return WeightChoice(own, f"{why} An average event {heavy(own, mean)}." if mean >= HEAVY else why)
    if mean < HEAVY:
        return DEFAULTS_SERVE
    return WeightChoice(
        divided(DEFAULT_ACTION_WEIGHTS, mean),
        f"With the default weights an average event counts {mean:.3g} ({source}), and pseudo-counts are chosen for events that"
        f" count 1: the defaults were divided by {mean:.3g}. Larger weights raise known items more, and cost new ones. Everything"
        " counted so far has the weights of its time: after a change, run `rewriter backfill`.",
    )


def divided(weights: Mapping[str, float], mean: float) -> dict[str, float]:
    """Return weights under which an average event counts 1; their ratios stay."""
    return {name: float(f"{weight / mean:.{DIGITS}g}") for name, weight in weights.items()}


def heavy(weights: Mapping[str, float], mean: float) -> str:
    """Return as a phrase what an average event counts, and what to set."""
    return (
        f"counts {mean:.3g}, and pseudo-counts are chosen for events that count 1: to spare items that are new to people, set"
        f" [signals] action_weights = {as_toml(divided(weights, mean))}, and run `rewriter backfill` again"
    )


def as_toml(weights: Mapping[str, float]) -> str:
    """Return weights as an inline table of TOML."""
    return f"{{ {', '.join(f'{toml_key(name)} = {float(weight)!r}' for name, weight in weights.items())} }}"
