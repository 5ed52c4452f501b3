"""Parser of switches in hand-written files, JSON and environment variables.

It is lenient, since a kill switch is written in a hurry. It accepts any case, British spelling, `no` and `disabled` for off, quotes
and commas left over from JSON, a line with `off` alone, and a sentence that contains the kill switch's name and `off`. Switches of
another service's policies are no fault, since several services may share a file. Text that cannot be parsed is a fault; a switch
that it may have meant to turn off is `unclear`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite

from rewriter.decide.switches import BOOLEANS, KILL, NAMES, SHARES, SwitchValue
from rewriter.errors import Fault
from rewriter.similar import did_you_mean

ENVIRONMENT_PREFIX = "REWRITER_SWITCH_"
ON = frozenset({"on", "true", "yes", "1", "enable", "enabled"})
OFF = frozenset({"off", "false", "no", "0", "0.0", "n", "f", "disable", "disabled", "stop", "stopped"})
WORDS = frozenset(value for value in ON | OFF if value.isalpha())
MARKS = ".!?"
"""At the end of a sentence."""
AROUND = re.compile(r"[\s=:\"'`,;{}()\u2018-\u201f\u00ab\u00bb]+")
"""Separators of a name and its value, and characters left over around them."""
UNSEEN = re.compile(r"[\x00\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Characters that are invisible in an editor and come with copied text."""
SIMILAR = 0.65


@dataclass(frozen=True, slots=True)
class SwitchesRead:
    """The switches of one text.

    values:   value by switch name, plain or `POLICY.switch`.
    faults:   lines and values that could not be parsed, unknown switches included.
    foreign:  switches of policies that this service does not have.
    unclear:  switches whose value could not be parsed. A line without a switch's name may have meant the kill switch.
    """

    values: dict[str, SwitchValue] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    foreign: list[Fault] = field(default_factory=list)
    unclear: frozenset[str] = frozenset()


def unreadable(fault: Fault) -> SwitchesRead:
    """Return the result for a text that cannot be read: one fault, and the kill switch unclear."""
    return SwitchesRead(faults=[fault], unclear=frozenset({KILL}))


def parse(text: str, where: str, policies: frozenset[str]) -> SwitchesRead:
    """Parse switches from JSON (`{"personalization": false}`) or from lines (`personalization off`, `# …` for comments).

    where:    the text's source, for faults, which add the line.
    policies: names of the service's policies.
    An empty text sets no switch.
    """
    text = UNSEEN.sub("", text)
    stripped = text.lstrip()
    if stripped.startswith("{"):
        try:
            found = json.loads(stripped, object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            read = unreadable(Fault(where, f"is not JSON: {error}"))
            off: dict[str, SwitchValue] = {KILL: False} if any(map(_means_off, text.splitlines())) else {}
            return SwitchesRead(off, read.faults, unclear=read.unclear - off.keys())
        return _checked([(name, value, where) for name, value in _flat(found)], policies)
    pairs: list[tuple[str, object, str]] = []
    faults: list[Fault] = []
    unclear: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        match parts_of_line(line):
            case [] if not AROUND.sub("", line.partition("#")[0]):
                pass
            case [value] if value.casefold() in OFF:
                pairs.append((KILL, False, f"{where}:{number}"))
            case [name, value]:
                pairs.append((name, value, f"{where}:{number}"))
            case parts:
                faults.append(Fault(f"{where}:{number}", "is not a switch", "write `personalization off`"))
                if _means_off(line):
                    pairs.append((KILL, False, f"{where}:{number}"))
                name = canonical(parts[0], policies) if parts else KILL
                unclear.add(name if is_switch(name, policies) else KILL)
    read = _checked(pairs, policies)
    return SwitchesRead(read.values, faults + read.faults, read.foreign, (read.unclear | unclear) - read.values.keys())


def parts_of_line(line: str) -> list[str]:
    """Return the parts of a line without its comment; of a switch these are its name and its value, in whichever order."""
    split = AROUND.split(unicodedata.normalize("NFKC", UNSEEN.sub("", line)).partition("#")[0])
    parts = [part.strip(MARKS) for part in split if any(map(str.isalnum, part))]
    # `disable personalization`
    turned = len(parts) == 2 and parts[0].casefold() in WORDS and parts[1].casefold() not in ON | OFF
    return parts[::-1] if turned else parts


def _means_off(line: str) -> bool:
    """Whether a line that is no switch contains the kill switch of all policies, a value for off and none for on."""
    parts = [part.casefold() for part in parts_of_line(line)]
    return KILL in (canonical(part, frozenset()) for part in parts) and bool(OFF & {*parts}) and not ON & {*parts}


def _flat(found: list[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    """Yield the switches of a JSON object: its own, those under `switches`, and those under a policy's name."""
    for name, value in found:
        if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
            prefix = "" if name.casefold() == "switches" else f"{name}."
            yield from ((f"{prefix}{inner}", given) for inner, given in value)
        else:
            yield name, value


def switch_of(line: str, policies: frozenset[str]) -> str:
    """Return the canonical name of the switch that a line sets, or "" if it sets none."""
    match parts_of_line(line):
        case [value] if value.casefold() in OFF:
            return KILL
        case [_, _, _, *_] if _means_off(line):
            return KILL
        case [name, *_]:
            return canonical(name, policies)
    return ""


def others_in(text: str, policies: frozenset[str]) -> dict[str, object]:
    """Return the values by name of a text's other switches: those of other services' policies, and unknown ones."""
    try:
        found = json.loads(UNSEEN.sub("", text), object_pairs_hook=list)
        pairs = list(_flat(found)) if UNSEEN.sub("", text).lstrip().startswith("{") else []
    except (ValueError, RecursionError):
        pairs = [(parts[0], parts[1]) for line in text.splitlines() if len(parts := parts_of_line(line)) == 2]
    return {name: value for name, value in pairs if not is_switch(canonical(name, policies), policies)}


def from_environment(environment: Mapping[str, str], policies: frozenset[str]) -> SwitchesRead:
    """Parse switches from variables like REWRITER_SWITCH_PERSONALIZATION=off, or …_SHOES__PERSONALIZATION for one policy.

    A policy's name is written with `_` for characters that no variable may contain. A variable sets the switch of each policy that
    is written so, such as `a-b` and `a.b`: a kill switch must not miss one.
    """
    written: dict[str, list[str]] = {}
    for one in sorted(policies):
        written.setdefault(re.sub(r"\W", "_", one).casefold(), []).append(one)
    pairs = []
    for variable, value in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            policy, _, switch = variable.removeprefix(ENVIRONMENT_PREFIX).casefold().rpartition("__")
            names = [f"{one}.{switch}" for one in written.get(policy, [policy])] if policy else [switch]
            pairs += [(name, value, variable) for name in names]
    return _checked(pairs, policies)


def canonical(name: str, policies: frozenset[str]) -> str:
    """Return the canonical name of a switch, for any case and spelling; an unknown name is returned as it is."""
    if name.strip().upper().startswith(ENVIRONMENT_PREFIX):  # a variable, written into a file
        name = name.strip()[len(ENVIRONMENT_PREFIX) :].replace("__", ".")
    policy, dot, switch = name.strip().rpartition(".")
    if policy == "*" or (policy.casefold() == "rewriter" and policy not in policies):
        policy = dot = ""
    switch = switch.casefold().replace("-", "_").replace("isation", "ization")
    if policy and policy not in policies:
        alike = [one for one in policies if one.casefold() == policy.casefold()]
        policy = alike[0] if len(alike) == 1 else policy
    return f"{policy}{dot}{switch}"


def is_switch(name: str, policies: frozenset[str]) -> bool:
    """Whether a canonical name is a switch, of all policies or of one of `policies`."""
    policy, _, switch = name.rpartition(".")
    return switch in NAMES and (not policy or policy in policies)


def _checked(pairs: Iterable[tuple[str, object, str]], policies: frozenset[str]) -> SwitchesRead:
    values: dict[str, SwitchValue] = {}
    faults: list[Fault] = []
    foreign: list[Fault] = []
    unclear: set[str] = set()
    contradictory: dict[str, Fault] = {}
    for given_name, given, where in pairs:
        name = canonical(given_name, policies)
        policy, _, switch = name.rpartition(".")
        if policy and policy not in policies:
            foreign.append(Fault(where, f"no policy is named {policy!r}", f"there are {', '.join(sorted(policies))}"))
            continue
        if switch not in NAMES:
            faults.append(Fault(where, f"no switch is named {given_name!r}", _known(switch)))
            if not policy and get_close_matches(switch, [KILL], 1, SIMILAR):
                unclear.add(KILL)
            continue
        value = _value(switch, given)
        if isinstance(value, str):
            faults.append(Fault(where, value))
            unclear.add(name)
        elif values.setdefault(name, value) != value:
            contradictory[name] = Fault(where, f"`{name}` is set twice, to different values", "keep one of them")
    # One of the two was off: in an emergency a line is put under the one that is there.
    clear = {name: value for name, value in values.items() if name not in contradictory} | _killed(contradictory)
    unclear = (unclear | contradictory.keys()) - clear.keys()
    return SwitchesRead(clear, [*faults, *contradictory.values()], foreign, frozenset(unclear))


def _killed(names: Iterable[str]) -> dict[str, SwitchValue]:
    """Return the kill switches among these names, each as off."""
    return {name: False for name in names if name.rpartition(".")[2] == KILL}


def _known(switch: str) -> str:
    return did_you_mean(switch, NAMES) or f"there are {', '.join(NAMES)}"


def _value(switch: str, given: object) -> SwitchValue | str:
    """Return a switch's value, or a text: the fault of `given`."""
    if switch in BOOLEANS:
        text = str(given).strip().casefold()
        return text in ON if text in ON | OFF else f"`{switch}` is on or off, not {given!r}"
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
