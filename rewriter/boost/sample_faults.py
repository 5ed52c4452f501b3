"""Faults of a template on its samples: one mistake fails on every sample and in every function, and is reported once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rewriter.errors import Fault
from rewriter.plural import count_of

MAX_FAULTS = 10
"""Faults of a template that are named."""
NUMBER = re.compile(r"\d[\d.,]*")
QUOTED = re.compile(r"['`](\w+)['`]")


@dataclass(slots=True)
class _Alike:
    """Faults that differ only in their numbers. The first one is shown; `times` by sample."""

    what: str
    remedy: str
    times: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class SampleFaults:
    """The faults by file, line (0 where it is unknown) and text without its numbers, in the order of their first sample."""

    _found: dict[tuple[str, int, str], _Alike] = field(default_factory=dict)

    def add(self, file: str, line: int, sample: str, what: str, remedy: str) -> None:
        """Add a fault of one sample."""
        one = self._found.setdefault((file, line, NUMBER.sub("0", what)), _Alike(what, remedy))
        one.times[sample] = one.times.get(sample, 0) + 1

    def faults(self, folder: str, files: Mapping[str, str]) -> list[Fault]:
        """Return each fault once, with its first sample and the number of them. files: the templates' texts by name."""
        shown: list[Fault] = []
        by_file: dict[str, int] = {}
        for (file, line, _), one in self._found.items():
            by_file[file] = by_file.get(file, 0) + 1
            if by_file[file] <= MAX_FAULTS:
                at = line or _line_of_names(one.what, files.get(file, ""))
                where = f"{folder}/{file}:{at}" if at else f"{folder}/{file}"
                first = next(iter(one.times))
                shown.append(Fault(where, f"on {first}: {one.what}{_repeated(one)}", one.remedy))
        return shown + [
            Fault(f"{folder}/{file}", f"and {count_of(count - MAX_FAULTS, 'more fault')}")
            for file, count in by_file.items()
            if count > MAX_FAULTS
        ]


def _repeated(one: _Alike) -> str:
    """Return how often a fault occurs, "" for once. Several functions of one sample may have it."""
    times, samples = sum(one.times.values()), len(one.times)
    if times == 1:
        return ""
    often = f" {times:,} times" if times > samples else ""
    return f"; the same{often} on {count_of(samples, 'sample')}"


def _line_of_names(what: str, text: str) -> int:
    """Return the line (from 1) on which a template writes the name that a fault quotes, 0 unless it is one line."""
    written = (lines for name in QUOTED.findall(what) if (lines := lines_with(text, f'"{name}"')))
    return only(next(written, []))


def lines_with(text: str, part: str) -> list[int]:
    """Return the numbers (from 1) of the lines of a file that hold `part`."""
    return [number for number, line in enumerate(text.splitlines(), 1) if part in line]


def only(lines: list[int]) -> int:
    """Return the line if there is one alone, else 0: which of several is meant is not known."""
    return lines[0] if len(lines) == 1 else 0
