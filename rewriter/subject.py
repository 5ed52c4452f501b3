"""Who searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32


@dataclass(frozen=True, slots=True)
class Subject:
    """The person behind a search, as far as they are known and have agreed to be.

    user_id:    the events' `user_id`, else their `client_id`: an anonymous returning visitor is a user. Tags the profile.
    session_id: tags the session's counters and the plans of its pages.
    segments:   names of groups, most specific first, whose taste stands in while nothing is known of the person; a tuple or a list.
    consent:    without it nothing is read and nothing is written.

    An empty `user_id` or `session_id` means that there is none.
    Raises ValueError, which names every argument of a wrong type and shows no value: here, and never inside a search.
    """

    user_id: str | None = None
    session_id: str | None = None
    segments: tuple[str, ...] = ()
    consent: bool = True

    def __post_init__(self) -> None:
        wrong = list(self._faults())
        if wrong:
            raise ValueError("; ".join(wrong))
        object.__setattr__(self, "segments", tuple(self.segments))

    def _faults(self) -> Iterator[str]:
        given: dict[str, object] = {
            name: getattr(self, name) for name in ("user_id", "session_id", "segments", "consent")
        }
        for name in ("user_id", "session_id"):
            if not isinstance(given[name], str | None):
                yield f"{name} is {_type(given[name])}, not a string or None: pass str({name})"
        segments = given["segments"]
        if not isinstance(segments, (tuple, list)):
            yield f"segments is {_type(segments)}, not a tuple or a list of names: pass segments=(name,)"
        else:
            for at, name in enumerate(segments):
                if not isinstance(name, str) or not name:
                    found = "an empty string" if isinstance(name, str) else _type(name)
                    yield f"segments[{at}] is {found}, not the name of a segment"
        if not isinstance(given["consent"], bool):
            yield f"consent is {_type(given['consent'])}, not True or False"

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


def _type(given: object) -> str:
    return f"of type {type(given).__qualname__}"


def pseudonym(kind: str, identifier: str, salt: str) -> str:
    r"""Return the 32 hex digits that stand for an identifier in keys: BLAKE2b-128 of salt, kind and identifier.

    The same digits come from `printf '%s\037%s\037%s' "$salt" "$kind" "$identifier" | b2sum -l 128`.
    """
    text = f"{salt}\x1f{kind}\x1f{identifier}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def partition_of_unit(unit: str, partitions: int) -> int:
    """Return the partition that the events of a user go to, or of a session without one: CRC-32 (of zlib) of the UTF-8 bytes."""
    return crc32(unit.encode("utf-8", "surrogatepass")) % partitions
