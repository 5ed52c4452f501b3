"""The settings of a policy that tuning may change, with their ranges, and a policy with other values of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewriter.settings import WEEK_S, FieldSettings, PolicySettings
from rewriter.signals.kinds import attribute, combination

NOTHING_ADDED: Mapping[str, Sequence[str]] = {}

HALF_LIVES_WEEKS = (2, 4, 8, 16, 32)
HALF_LIFE = "half_life"
MAX_FIRST = 16
"""Single changes of a policy that are tried before random values."""
Value = float | int
LEAST_SCALE = 0.05
"""Scale of an added field below which a trial, and so a proposal, does without it."""
TRIED_SCALE, TRIED_PSEUDO_COUNT = 0.6, 2.0
"""First values of a field that tuning adds."""
MAX_ADDED = 4
"""Fields that tuning may add. Each one counts further values, and adds functions to searches."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting: its name as in `rewriter.toml`, its range, and whether its logarithm is searched.

    The value of half_life is a position in HALF_LIVES_WEEKS: with few half-lives, counters are computed once for each.
    """

    name: str
    low: float
    high: float
    is_log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.name == HALF_LIFE


def space(policy: PolicySettings, max_boost: float, *, keeps_half_lives: bool = False) -> list[Parameter]:
    """Return the tuned settings of a policy. max_boost: the largest limit that a trial may use.

    keeps_half_lives: whether other policies count the same fields, so that their half-lives are not this policy's alone.
    """
    found = [Parameter("max_boost", 1.1, max_boost), Parameter("saturation", 1.5, 6.0)]
    if not keeps_half_lives:
        found.append(Parameter(HALF_LIFE, 0, len(HALF_LIVES_WEEKS) - 1))
    if policy.item_field:
        found += [
            Parameter("item_scale", 0.05, 4.0, is_log=True),
            Parameter("item_pseudo_count", 0.5, 20.0, is_log=True),
        ]
    if policy.class_field and policy.item_field:
        found.append(Parameter("discovery", 0.0, 1.0))
    for name, field in policy.fields.items():
        least, most = (20.0, 500.0) if len(field.of) == 1 else (1.0, 50.0)
        found += [
            Parameter(f"fields.{name}.scale", 0.0, 1.5),
            Parameter(f"fields.{name}.pseudo_count", least, most, is_log=True),
        ]
    return found


def with_fields(policy: PolicySettings, added: Mapping[str, Sequence[str]]) -> PolicySettings:
    """Return a policy with further signal fields of scale 0. added: the document fields of each, by its name."""
    more = {name: FieldSettings(of=tuple(of), scale=0.0, pseudo_count=TRIED_PSEUDO_COUNT) for name, of in added.items()}
    return policy.model_copy(update={"fields": {**policy.fields, **more}})


def counted_by_others(name: str, policies: Mapping[str, PolicySettings]) -> list[str]:
    """Return the fields of a policy that other policies count too. All policies share the counters, and so their half-lives."""
    own = _counted(policies[name])
    others = [_counted(policy) for other, policy in policies.items() if other != name]
    return sorted(own.intersection(*[set().union(*others)]))


def _counted(policy: PolicySettings) -> set[str]:
    return {*policy.fields, *(["item"] if policy.item_field else [])}


def with_half_lives(policy: PolicySettings, default_s: float) -> PolicySettings:
    """Return a policy that names each half-life. default_s: that of fields without one (seconds)."""
    fields = {
        name: field.model_copy(update={"half_life_s": field.half_life_s or default_s})
        for name, field in policy.fields.items()
    }
    return policy.model_copy(update={"fields": fields, "item_half_life_s": policy.item_half_life_s or default_s})


def changes(
    policy: PolicySettings, settings: Mapping[str, float], added: Collection[str], default_half_life_s: float
) -> dict[str, float]:
    """Return the settings in which a policy would change: the others have its own values or the defaults.

    added: fields that the policy does not have yet.
    """
    own = own_values(policy, settings, added, default_half_life_s)
    return {
        name: value
        for name, value in settings.items()
        if name not in own or value not in (own[name], float(f"{own[name]:.3g}"))
    }


def own_values(
    policy: PolicySettings, names: Collection[str], added: Collection[str], default_half_life_s: float
) -> dict[str, float]:
    """Return the values that a policy has for settings, its own or the defaults; without those of fields that were added."""
    found: dict[str, float] = {}
    for name in names:
        field, _, setting = name.removeprefix("fields.").rpartition(".")
        table = policy if not field else policy.fields.get(field)
        own = getattr(table, setting) if table is not None and field not in added else None
        if own is None and setting.endswith("half_life_s"):
            own = default_half_life_s
        if own is None and setting == "pseudo_count" and field not in added:
            own = default_pseudo_count(policy.fields[field])
        if own is not None:
            found[name] = own
    return found


def default_pseudo_count(field: FieldSettings) -> float:
    """Return the pseudo-count of a field that names none."""
    return attribute.PSEUDO_COUNT if len(field.of) == 1 else combination.PSEUDO_COUNT


def without_unused(
    policy: PolicySettings, added: Mapping[str, Sequence[str]], settings: Mapping[str, float]
) -> PolicySettings:
    """Return a policy without the added fields that the settings do not name: the policy that a proposal writes."""
    fields = {
        name: field for name, field in policy.fields.items() if name not in added or f"fields.{name}.scale" in settings
    }
    return policy.model_copy(update={"fields": fields})


def settings_of(
    policy: PolicySettings, chosen: Mapping[str, Value], added: Mapping[str, Sequence[str]] = NOTHING_ADDED
) -> dict[str, float]:
    """Return the settings of chosen values by their names in a policy's table, rounded as a person would write them.

    added: fields that tuning added. Those with a scale below LEAST_SCALE are left out.
    """
    found: dict[str, float] = {}
    for name, value in chosen.items():
        if name != HALF_LIFE:
            found[name] = float(f"{value:.3g}")
            continue
        seconds = HALF_LIVES_WEEKS[int(value)] * WEEK_S
        if policy.item_field:
            found["item_half_life_s"] = seconds
        found |= {f"fields.{field}.half_life_s": seconds for field in policy.fields}
    unused = tuple(f"fields.{name}." for name in added if chosen.get(f"fields.{name}.scale", 0.0) < LEAST_SCALE)
    return {name: value for name, value in found.items() if not name.startswith(unused)} if unused else found


def with_settings(policy: PolicySettings, settings: Mapping[str, float]) -> PolicySettings:
    """Return a policy with other values of its settings."""
    fields = {name: field.model_copy() for name, field in policy.fields.items()}
    own: dict[str, Any] = {}
    for name, value in settings.items():
        if name.startswith("fields."):
            field, _, setting = name.removeprefix("fields.").rpartition(".")
            fields[field] = fields[field].model_copy(update={setting: value})
        else:
            own[name] = value
    return policy.model_copy(update={**own, "fields": fields})


def current(policy: PolicySettings, parameters: list[Parameter]) -> dict[str, Value]:
    """Return a policy's values, clamped to their ranges, and the half-life nearest to its own (see `with_half_lives`)."""
    found: dict[str, Value] = {}
    for one in parameters:
        if one.name == HALF_LIFE:
            lives = [policy.item_half_life_s, *(field.half_life_s for field in policy.fields.values())]
            weeks = next((life / WEEK_S for life in lives if life), 16.0)  # the default of settings
            found[one.name] = min(range(len(HALF_LIVES_WEEKS)), key=lambda at: abs(HALF_LIVES_WEEKS[at] - weeks))
        elif one.name.startswith("fields."):
            field, _, setting = one.name.removeprefix("fields.").rpartition(".")
            value = getattr(policy.fields[field], setting)
            own = default_pseudo_count(policy.fields[field]) if value is None else value
            found[one.name] = min(one.high, max(one.low, own))
        else:
            found[one.name] = min(one.high, max(one.low, getattr(policy, one.name)))
    return found


def first_values(
    policy: PolicySettings, parameters: list[Parameter], added: Collection[str] = ()
) -> list[dict[str, Value]]:
    """Return the values that are tried first: the policy's own, then single changes of them. added: fields that tuning added.

    Random values of a dozen settings are nearly all worse than settings that a person chose; from single changes a sampler learns
    which settings matter.
    """
    own = current(policy, parameters)
    high = {one.name: one.high for one in parameters}
    low = {one.name: one.low for one in parameters}
    new = {f"fields.{name}.scale": TRIED_SCALE for name in added}
    scales = [name for name in own if name.endswith(".scale") and name not in new]
    changes: list[dict[str, Value]] = [{}, {"max_boost": high["max_boost"]}, dict.fromkeys(scales, 0.0)]
    if new:
        changes += [dict(new), alone := dict.fromkeys(scales, 0.0) | new]
        if "discovery" in own:  # what gains most over all items, with what spares new ones
            changes += [alone | {"discovery": share} for share in (0.5, 1.0)]
    if "discovery" in own:
        changes += [{"discovery": share} for share in (0.5, 1.0)]
    if "item_scale" in own:
        scale = own["item_scale"]
        changes += [
            {"item_scale": min(high["item_scale"], 2 * scale)},
            {"item_scale": max(low["item_scale"], scale / 2)},
        ]
    changes += [{name: TRIED_SCALE} for name in new] + [{name: 0.0} for name in scales]
    found: list[dict[str, Value]] = []
    for change in changes:
        if (values := own | change) not in found:
            found.append(values)
    return found[:MAX_FIRST]
