"""Who searches."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Subject:
    """The person behind a search, as far as they are known and have agreed to be.

    user_id:    the events' `user_id`, else their `client_id`: an anonymous returning visitor is a user. Tags the profile.
    session_id: tags the session's counters and the plans of its pages.
    segments:   names of groups, most specific first, whose taste stands in while nothing is known of the person.
    consent:    without it nothing is read and nothing is written.
    """

    user_id: str | None = None
    session_id: str | None = None
    segments: tuple[str, ...] = ()
    consent: bool = True

    @property
    def known(self) -> bool:
        """Whether anything names this subject: a user, a session or a segment."""
        return bool(self.user_id or self.session_id or self.segments)

    @property
    def unit(self) -> str | None:
        """What experiments assign by: the user where there is one, else the session."""
        return self.user_id or self.session_id

    def __repr__(self) -> str:
        """Identifiers never reach a log by way of a repr."""
        return f"Subject(user={bool(self.user_id)}, session={bool(self.session_id)}, segments={len(self.segments)})"


def pseudonym(kind: str, identifier: str, salt: str) -> str:
    r"""Return the 32 hex digits that stand for an identifier in keys: BLAKE2b-128 of salt, kind and identifier.

    The same digits come from `printf '%s\037%s\037%s' "$salt" "$kind" "$identifier" | b2sum -l 128`.
    """
    text = f"{salt}\x1f{kind}\x1f{identifier}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
