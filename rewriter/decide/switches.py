"""Switches: the current overrides of settings such as `personalization`, as one immutable snapshot that the background replaces.

Precedence: the kill-switch file, the environment, the store's key, flags of OpenFeature, the settings. A source that fails keeps
its last valid values. A switch may be set for one policy, as `NAME.switch`; within one source a policy's switch overrides the
global one, but no weaker source can turn on what a stronger one turned off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BOOLEANS = ("personalization", "exploration", "shadow", "trial")
SHARES = ("rollout", "holdout")
OTHERS = ("exploration_share", "max_boost")
NAMES = BOOLEANS + SHARES + OTHERS
KILL = "personalization"
"""The kill switch: off, it stops all personalization."""

SwitchValue = bool | float


@dataclass(frozen=True, slots=True)
class Switches:
    """The overrides: `values` and their `sources` by switch name, plain or `POLICY.switch`."""

    values: Mapping[str, SwitchValue] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str, policy: str | None, default: SwitchValue) -> SwitchValue:
        """Return a switch's value for a policy, or `default` if no source overrides it."""
        if not self.values:
            return default
        own = self.values.get(f"{policy}.{name}")
        return self.values.get(name, default) if own is None else own

    def source_of(self, name: str, policy: str | None) -> str:
        """Return the source of the value that `of` returns; "settings" if it is the default."""
        own = self.sources.get(f"{policy}.{name}")
        return own or self.sources.get(name, "settings")


def combined(layers: Iterable[tuple[str, Mapping[str, SwitchValue]]]) -> Switches:
    """Return the switches of all `layers` (source and values), the weakest first; a stronger source overrides name by name.

    A global switch of a stronger source also overrides a per-policy switch of a weaker one, so that `personalization off` is off.
    """
    values: dict[str, SwitchValue] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for name in [name for name in values if "." in name and name.rpartition(".")[2] in layer]:
            del values[name], sources[name]
        for name, value in layer.items():
            values[name], sources[name] = value, source
    return Switches(values, sources)
