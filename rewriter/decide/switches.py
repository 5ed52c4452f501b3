"""Whether personalisation is on, and how far. One immutable snapshot, swapped in the background, read as one attribute.

Precedence: kill-switch file or environment, then the store's key, then settings. A source that fails keeps its last good word.
A switch may be given for one policy alone, as `NAME.switch`; the policy's word wins over the general one of the same source,
but nothing turns on what a stronger source turned off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from rewriter.errors import Fault

BOOLEANS = ("personalization", "exploration", "shadow")
SHARES = ("rollout", "holdout")
OTHERS = ("exploration_share", "max_boost")
ENVIRONMENT_PREFIX = "REWRITER_SWITCH_"

Word = bool | float


@dataclass(frozen=True, slots=True)
class Switches:
    """Words by switch name, and the source that spoke each. Names are plain, or `POLICY.switch`."""

    words: Mapping[str, Word] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    def of(self, name: str, policy: str | None, default: Word) -> Word:
        """Return the word on a switch for a policy, or `default` where nobody spoke."""
        if not self.words:
            return default
        own = self.words.get(f"{policy}.{name}")
        return self.words.get(name, default) if own is None else own

    def source_of(self, name: str, policy: str | None) -> str:
        """Return whose word `of` gives."""
        own = self.sources.get(f"{policy}.{name}")
        return own or self.sources.get(name, "settings")


def combined(layers: Iterable[tuple[str, Mapping[str, Word]]], faults: Iterable[str] = ()) -> Switches:
    """Return the switches that `layers`, weakest first, add up to: a stronger source overrides name by name.

    A general word of a stronger source also overrides a policy's word of a weaker one, so that `personalization off` is off.
    """
    words: dict[str, Word] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for name in [name for name in words if "." in name and name.rpartition(".")[2] in layer]:
            del words[name], sources[name]
        for name, word in layer.items():
            words[name], sources[name] = word, source
    return Switches(words, sources, tuple(faults))


def parse(text: str, where: str, policies: frozenset[str]) -> tuple[dict[str, Word], list[Fault]]:
    """Read switches from JSON (`{"personalization": false}`) or from lines (`personalization off`, `# …` for comments).

    Returns what was understood and every fault. An empty text says nothing.
    """
    pairs: list[tuple[str, object, str]] = []
    faults: list[Fault] = []
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text, object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            return {}, [Fault(where, f"is not JSON: {error}")]
        pairs = [(name, word, where) for name, word in found]
    else:
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].replace("=", " ").replace(":", " ").split()
            if len(words) == 2:
                pairs.append((words[0], words[1], f"{where}:{number}"))
            elif words:
                faults.append(Fault(f"{where}:{number}", "is not a switch", "write `personalization off`"))
    understood, wrong = _checked(pairs, policies)
    return understood, faults + wrong


def from_environment(environment: Mapping[str, str], policies: frozenset[str]) -> tuple[dict[str, Word], list[Fault]]:
    """Read switches from variables like REWRITER_SWITCH_PERSONALIZATION=off, or …_SHOES__PERSONALIZATION for one policy.

    A policy's name is written with `_` for whatever a variable's name cannot hold.
    """
    written = {re.sub(r"\W", "_", policy).lower(): policy for policy in policies}
    pairs = []
    for variable, word in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            policy, _, switch = variable.removeprefix(ENVIRONMENT_PREFIX).lower().rpartition("__")
            pairs.append((f"{written.get(policy, policy)}.{switch}" if policy else switch, word, variable))
    return _checked(pairs, policies)


def _checked(pairs: Iterable[tuple[str, object, str]], policies: frozenset[str]) -> tuple[dict[str, Word], list[Fault]]:
    words: dict[str, Word] = {}
    faults: list[Fault] = []
    contradictory: dict[str, Fault] = {}
    for name, given, where in pairs:
        policy, _, switch = name.rpartition(".")
        if policy and policy not in policies:
            faults.append(Fault(where, f"no policy is named {policy!r}", f"there are {', '.join(sorted(policies))}"))
            continue
        word = _word(switch, given)
        if isinstance(word, str):
            faults.append(Fault(where, word))
        elif words.setdefault(name, word) != word:
            contradictory[name] = Fault(where, f"`{name}` is given twice, and not alike", "keep one of them")
    return {name: word for name, word in words.items() if name not in contradictory}, [*faults, *contradictory.values()]


def _word(switch: str, given: object) -> Word | str:
    if switch in BOOLEANS:
        word = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}.get(str(given).lower())
        return f"`{switch}` is on or off, not {given!r}" if word is None else word
    if switch not in SHARES + OTHERS:
        return f"no switch is named {switch!r}; there are {', '.join(BOOLEANS + SHARES + OTHERS)}"
    try:
        number = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return f"`{switch}` is a number, not {given!r}"
    if isinstance(given, bool) or not isfinite(number):
        return f"`{switch}` is a number, not {given!r}"
    if switch in SHARES and not 0.0 <= number <= 1.0:
        return f"`{switch}` lies in [0, 1], not {given!r}"
    if switch == "exploration_share" and not (number == 0.0 or 0.1 <= number <= 0.2):
        return f"`exploration_share` is 0 (off) or lies in [0.1, 0.2], not {given!r}"
    if switch == "max_boost" and not 1.0 <= number <= 10.0:
        return f"`max_boost` lies in [1, 10], not {given!r}"
    return number
