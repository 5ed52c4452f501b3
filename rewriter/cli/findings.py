"""Findings of `rewriter check` in forms that other programs show: workflow commands of GitHub Actions, and SARIF 2.1.0.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from rewriter.boost.validation import BOOSTS_FILE
from rewriter.cli.about import PROJECT_URL
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings_file import line_of, settings_text

Level = Literal["error", "note"]
RULES = {
    "settings": "rewriter.toml holds a wrong or unknown key.",
    "store": "A store's settings lose signals or events, or the store does not answer.",
    "switches": "A kill-switch file or a variable cannot be understood.",
    "templates": "A template or a sample is wrong, or what it renders is.",
    "index": "A policy cannot act on an index, or the index refuses what its template renders.",
    "repeats": "Items are boosted less, or not at all.",
    "neighbours": "A policy's `discovery` boosts nothing: the store has no table of neighbours.",
    "spread": "The scores of given searches are so steep that boosts do little, or so flat that any boost decides.",
}
"""What is checked, and the meaning of a finding of it."""
LINE = re.compile(r"(.+?):(\d+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: the rule that it belongs to, whether it is an error, and the fault. A note on no file has `where` ""."""

    rule: str
    level: Level
    fault: Fault

    @classmethod
    def of_note(cls, rule: str, text: str) -> Finding:
        """Return the finding of a note, which may begin with its position."""
        found = re.fullmatch(rf"({LINE.pattern}): (.+)", text, re.DOTALL)
        positioned = found is not None and Path(found[2]).is_file()
        return cls(rule, "note", Fault(found[1], found[4]) if found and positioned else Fault("", text))

    def __str__(self) -> str:
        return str(self.fault) if self.fault.where else self.fault.what

    @property
    def text(self) -> str:
        """The fault without its position."""
        return self.fault.what + (f" ({self.fault.remedy})" if self.fault.remedy else "")


def github(findings: Sequence[Finding], settings: Path) -> Iterator[str]:
    """Yield one workflow command for each finding: an annotation at its line of a pull request."""
    for one in findings:
        path, line, text = _located(one, settings)
        position = f"file={_property(_relative(path))},line={line},title={_property(f'rewriter check: {one.rule}')}"
        yield f"::{'error' if one.level == 'error' else 'notice'} {position}::{_data(text)}"


def sarif(findings: Sequence[Finding], settings: Path) -> dict[str, Any]:
    """Return the findings as one run in SARIF 2.1.0."""
    driver = {
        "name": "rewriter check",
        "version": version("rewriter"),
        **({"informationUri": PROJECT_URL} if PROJECT_URL else {}),
        "rules": [_rule(name, text) for name, text in RULES.items()],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(one, settings) for one in findings]}],
    }


def _rule(name: str, text: str) -> dict[str, Any]:
    """Return a rule. GitHub's code scanning wants all three texts."""
    remedy = "The message of each result says what to do; `rewriter check` prints it in a terminal."
    return {"id": name, "shortDescription": {"text": text}, "fullDescription": {"text": text}, "help": {"text": remedy}}


def _result(finding: Finding, settings: Path) -> dict[str, Any]:
    path, line, text = _located(finding, settings)
    place = {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": line}}
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": finding.level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


def _located(finding: Finding, settings: Path) -> tuple[Path, int, str]:
    """Return the file, the line (from 1) and the text of a finding. One that is in no file stands at the setting that it names."""
    where = finding.fault.where
    if found := LINE.fullmatch(where):
        return Path(found[1]), max(1, int(found[2])), finding.text
    path, _, rest = where.partition(": ")
    if where and Path(path).is_dir():
        path = str(Path(path) / BOOSTS_FILE)
    if where and Path(path).is_file():
        return Path(path), 1, f"{rest}: {finding.text}" if rest else finding.text
    return settings, _line_of_setting(str(finding), settings), str(finding)


def _line_of_setting(text: str, settings: Path) -> int:
    """Return the line of the setting that a finding begins with: a policy, a key, a host, a template set. 1 for others."""
    try:
        toml = settings_text(settings)
        data = tomllib.loads(toml)
    except (ConfigurationError, ValueError, RecursionError):
        return 1
    policies = data.get("policies")
    if found := re.match(r"policy (.+?): ", text):
        return line_of(toml, ("policies", found[1]))
    if found := re.match(r"\[([\w.]+)\] (\w+)", text):
        return line_of(toml, (*found[1].split("."), found[2]))
    if re.match(r"https?://", text):
        return line_of(toml, ("opensearch", "hosts"))
    folder = Path(text.partition(": ")[0])
    for name, policy in policies.items() if isinstance(policies, dict) else ():
        if isinstance(policy, dict) and policy.get("templates") == folder.name:
            return line_of(toml, ("policies", name, "templates"))
    if isinstance(given := data.get("templates_dir"), str) and Path(given).name == folder.name:
        return line_of(toml, ("templates_dir",))
    return 1


def _relative(path: Path) -> str:
    """Return a path from the root of the workflow's checkout, else from the working directory: a step may run in a folder below."""
    whole = path.absolute()
    for root in filter(None, (os.environ.get("GITHUB_WORKSPACE"), str(Path.cwd()))):
        if whole.is_relative_to(root):
            return whole.relative_to(root).as_posix()
    return whole.as_posix()


def _uri(path: Path) -> str:
    relative = _relative(path)
    return Path(relative).as_uri() if Path(relative).is_absolute() else quote(relative)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
