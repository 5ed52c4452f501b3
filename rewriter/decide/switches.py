"""Whether personalization is on, and how far. One immutable snapshot, swapped in the background, read as one attribute.

Precedence: kill-switch file or environment, then the store's key, then settings. A source that fails keeps its last good word.
A switch may be given for one policy alone, as `NAME.switch`; the policy's word wins over the general one of the same source,
but nothing turns on what a stronger source turned off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BOOLEANS = ("personalization", "exploration", "shadow")
SHARES = ("rollout", "holdout")
OTHERS = ("exploration_share", "max_boost")
NAMES = BOOLEANS + SHARES + OTHERS
KILL = "personalization"
"""The switch that turns everything off."""

SwitchValue = bool | float


@dataclass(frozen=True, slots=True)
class Switches:
    """Words by switch name, and the source that spoke each. Names are plain, or `POLICY.switch`."""

    values: Mapping[str, SwitchValue] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str, policy: str | None, default: SwitchValue) -> SwitchValue:
        """Return the word on a switch for a policy, or `default` where nobody spoke."""
        if not self.values:
            return default
        own = self.values.get(f"{policy}.{name}")
        return self.values.get(name, default) if own is None else own

    def source_of(self, name: str, policy: str | None) -> str:
        """Return whose word `of` gives."""
        own = self.sources.get(f"{policy}.{name}")
        return own or self.sources.get(name, "settings")


def combined(layers: Iterable[tuple[str, Mapping[str, SwitchValue]]]) -> Switches:
    """Return the switches that `layers`, weakest first, add up to: a stronger source overrides name by name.

    A general word of a stronger source also overrides a policy's word of a weaker one, so that `personalization off` is off.
    """
    values: dict[str, SwitchValue] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for name in [name for name in values if "." in name and name.rpartition(".")[2] in layer]:
            del values[name], sources[name]
        for name, value in layer.items():
            values[name], sources[name] = value, source
    return Switches(values, sources)
