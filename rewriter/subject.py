"""The subject of a search: the person it is personalized for, and the hashes that stand for their ids in keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32


@dataclass(frozen=True, slots=True)
class Subject:
    """The person behind a search: ids, segments and consent.

    user_id:    the `user_id` of the person's events, else their `client_id`: an anonymous returning visitor is a user. The
                profile's keys are tagged by it.
    session_id: tags the keys of the session's counters and of its page plans.
    segments:   names of groups, most specific first; a tuple or a list. A segment's affinities serve while the person has none.
    consent:    without consent nothing is read and nothing is written.

    An empty `user_id` or `session_id` counts as None.
    Raises ValueError on construction, never inside a search; it names every argument of a wrong type and shows no value.
    """

    user_id: str | None = None
    session_id: str | None = None
    segments: tuple[str, ...] = ()
    consent: bool = True

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
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
        """Whether this subject has a user id, a session id or a segment."""
        return bool(self.user_id or self.session_id or self.segments)

    @property
    def unit(self) -> str | None:
        """The unit by which experiments assign arms: the user's id if there is one, else the session's."""
        return self.user_id or self.session_id

    def __repr__(self) -> str:
        """Return a text without identifiers, so that a repr in a log shows none."""
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
    """Return the partition, in [0, partitions), of a unit's events: zlib's CRC-32 of its UTF-8 bytes, modulo `partitions`.

    unit: the user's id, or the session's if there is no user.
    """
    return crc32(unit.encode("utf-8", "surrogatepass")) % partitions
