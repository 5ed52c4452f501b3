"""Trials: which searches are served a policy's draft, a second template set beside the live one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewriter.encodings import header_text
from rewriter.settings import PolicySettings
from rewriter.subject import Subject

NOT_SET = frozenset({"", "0", "false", "no", "off"})
"""Values of the header that do not ask for the draft."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The searches that one policy's draft serves.

    ids:    user_id or session_id of its subjects; it is not part of the repr.
    header: the request header, in lower case, that asks for the draft, or None.
    """

    ids: frozenset[str] = field(repr=False)
    header: str | None

    def serves(self, subject: Any, headers: Mapping[str, Any]) -> bool:
        """Whether a search of `subject` with these request headers is served the draft."""
        if not isinstance(subject, Subject):
            return False
        if subject.user_id in self.ids or subject.session_id in self.ids:
            return True
        return self.header is not None and any(
            header_text(name).lower() == self.header and header_text(value).strip().lower() not in NOT_SET
            for name, value in headers.items()
        )


def trials_of(policies: Mapping[str, PolicySettings]) -> dict[str, Trial]:
    """Return the trials by policy, of the policies that have one."""
    return {
        name: Trial(frozenset(one.get_secret_value() for one in policy.trial.subjects), policy.trial.header)
        for name, policy in policies.items()
        if policy.trial is not None
    }
