"""The change of a switch in all targets: audit lines, failures, and notes on values that override the change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from redis import RedisError

from rewriter.cli.output import print_line
from rewriter.cli.switch.target import LOST, SwitchSource, SwitchTarget, edited, written_as
from rewriter.decide.switch_text import SwitchesRead, parse
from rewriter.decide.switches import KILL, SwitchValue
from rewriter.errors import ConfigurationError, Fault, StoreError
from rewriter.signals.store_failures import described

STORE_FAILURES = (StoreError, RedisError)
FAILURES = (*STORE_FAILURES, OSError)


@dataclass
class Change:
    """The result of changing one switch; `value` None removes the override.

    written: the earlier value by name of each target that was written.
    values:  the present values by source, for each target that could be read.
    failed:  the sources that could not be written.
    """

    name: str
    value: SwitchValue | None
    written: dict[str, SwitchValue | None] = field(default_factory=dict)
    values: dict[SwitchSource, Mapping[str, SwitchValue]] = field(default_factory=dict)
    failed: list[SwitchSource] = field(default_factory=list)

    @property
    def stays(self) -> dict[tuple[str, SwitchValue], bool]:
        """Overrides of single policies that differ from this general change and stay.

        Each maps to whether processes that read the file are exempt, since the file overrides it there.
        """
        file, store = self.values.get("file", {}), self.values.get("store", {})
        found = dict.fromkeys(self._own(file), False)
        for other, its in self._own(store):
            found.setdefault((other, its), self.name in file or other in file)
        return found

    def _own(self, values: Mapping[str, SwitchValue]) -> Iterator[tuple[str, SwitchValue]]:
        return ((other, its) for other, its in values.items() if other.endswith(f".{self.name}") and its != self.value)


def change(
    targets: Sequence[SwitchTarget],
    only: SwitchSource | None,
    name: str,
    value: SwitchValue | None,
    policies: frozenset[str],
    who: str,
) -> Change:
    """Write `value` to each of `targets`, or to `only` one of them. A target that fails does not stop the others.

    who: time and person, for the audit line on standard error of each target that is written.
    Raises ConfigurationError if an override is to be removed that no target sets.
    """
    made = Change(name, value)
    silent: list[Fault] = []
    for target in targets:
        edit = _Editing(name, value, target, policies)
        if only not in (None, target.source):
            _look(target, targets, edit)
        elif _change(target, targets, edit, made):
            if edit.changed:
                edit.say_changes(who)
                made.written[target.where] = edit.before.get(name)
            else:
                silent.append(Fault(target.where, f"does not set {name!r}"))
        if edit.read is not None:
            made.values[target.source] = edit.after
    if not made.written and not made.failed:
        raise ConfigurationError(silent)
    if not made.written:
        print_line("nothing was changed")
    return made


def _look(target: SwitchTarget, targets: Sequence[SwitchTarget], edit: _Editing) -> None:
    """Read a target that is not to be changed."""
    try:
        edit.look(target.read())
    except FAILURES as error:
        print_line(_failure(target, targets, error, edit.name, is_written=False))


def _change(target: SwitchTarget, targets: Sequence[SwitchTarget], edit: _Editing, made: Change) -> bool:
    """Change a target, and return whether that succeeded."""
    try:
        target.change(edit)
    except FAILURES as error:
        made.failed.append(target.source)
        edit.give_up()
        print_line(_failure(target, targets, error, edit.name, is_written=True))
        return False
    finally:
        edit.say_notes()
    return True


class _Editing:
    """The change of one switch in one text. It is called again if another writer changed the text meanwhile; the last call counts.

    before, after: the text's values before and after the change.
    changed:       the switches whose values differ.
    """

    def __init__(self, name: str, value: SwitchValue | None, target: SwitchTarget, policies: frozenset[str]) -> None:
        self.name, self._value, self._target, self._policies = name, value, target, policies
        self._text = ""
        self.read: SwitchesRead | None = None
        self.before: dict[str, SwitchValue] = {}
        self.after: dict[str, SwitchValue] = {}
        self.changed: list[str] = []

    def look(self, text: str) -> None:
        """Parse the text and note its values."""
        self._text, self.read = text, parse(text, self._target.where, self._policies)
        self.before = self.after = self.read.values
        self.changed = []

    def __call__(self, text: str) -> str | None:
        """Return the new text, or None if nothing is to be changed."""
        self.look(text)
        if self._value is None and self.name not in self.before:
            return None
        self.changed = [self.name, *_lifted(self.name, self._value, self.before)]
        self.after = {other: its for other, its in self.before.items() if other not in self.changed}
        self.after |= {} if self._value is None else {self.name: self._value}
        lines = self._target.source == "file"
        return edited(text, self.changed, self.after, lines=lines, policies=self._policies)

    def give_up(self) -> None:
        """Note that the new text was not written."""
        self.after, self.changed = self.before, []

    def say_notes(self) -> None:
        """Print notes on the text before the change."""
        if self._text.startswith(LOST):
            values = ", ".join(f"{other} {written_as(its)}" for other, its in self.before.items())
            print_line(f"note: {self._target.where} was lost; the values that processes still use are kept: {values}")
        if self.read is not None:
            keeps = self._value is None and self.read.unclear
            for fault in self.read.foreign:
                print_line(f"note: ignored: {fault}")
            for fault in self.read.faults:
                print_line(f"note: {fault}" + ("; until it is corrected, processes keep the override" if keeps else ""))

    def say_changes(self, who: str) -> None:
        """Print an audit line for each switch that changed."""
        for one in self.changed:
            print_line(
                f"{who} {self._target.where}: {one} {written_as(self.before.get(one))} -> {written_as(self.after.get(one))}"
            )


def notes(made: Change, targets: Sequence[SwitchTarget]) -> Iterator[str]:
    """Yield notes on values that override a change, and where they do."""
    file = next((target.where for target in targets if target.source == "file"), "")
    if file and file not in made.written:
        values, (policy, _, general) = made.values.get("file", {}), made.name.rpartition(".")
        name = made.name if made.name in values else general
        if (policy or name == made.name) and values.get(name, made.value) != made.value:
            yield f"{file} sets {name} {written_as(values[name])}, which overrides this in processes that read the file"
    for (other, its), elsewhere in made.stays.items():
        where = f" in processes that do not read {file}" if elsewhere else ""
        yield f"{other} stays {written_as(its)}{where}, which overrides this for its policy"


def _lifted(name: str, value: SwitchValue | None, before: Mapping[str, SwitchValue]) -> list[str]:
    """Return the policies' overrides that a change removes: switching personalization off for all switches every policy off."""
    off = value is False and name == KILL
    return [other for other, its in before.items() if off and its is True and other.endswith(f".{KILL}")]


def _failure(
    target: SwitchTarget, targets: Sequence[SwitchTarget], error: Exception, name: str, *, is_written: bool
) -> Fault:
    why = (error.strerror or str(error)) if isinstance(error, OSError) else described(error)
    fault = partial(Fault, target.where)
    if not is_written:
        return fault(f"{why}; its value of {name} is not known")
    if target.source == "file":
        return fault(
            f"{why}; not written: processes that read this file keep its value of {name}",
            "correct this, and run the command again",
        )
    files = [other.where for other in targets if other.source == "file"]
    if not files:
        return fault(f"{why}; not written", "run the command again once it answers")
    return fault(
        f"{why}; not written: processes that do not read {files[0]} keep their value",
        "run the command again once it answers, or on every machine",
    )
