"""Records: equal, hashed, copied and matched as frozen dataclasses are."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, dataclass, replace

import pytest

from rewriter.record import record


@record(frozen=True, slots=True)
class Fast:
    name: str
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    counts: tuple[int, ...] = ()


@pytest.mark.parametrize("kind", [Fast, Frozen])
def test_both_kinds_compare_copy_and_match_alike(kind: type[Fast | Frozen]) -> None:
    one, same, other = kind("a", (1, 2)), kind("a", counts=(1, 2)), kind("b")
    assert one == same != other
    assert len({one, same, other}) == 2
    assert replace(one, name="b", counts=()) == other
    assert asdict(one) == {"name": "a", "counts": (1, 2)}
    assert repr(other) == f"{kind.__name__}(name='b', counts=())"
    match one:
        case Fast(name, counts) | Frozen(name, counts):
            assert (name, counts) == ("a", (1, 2))
    assert not hasattr(one, "__dict__")


def test_the_type_checker_alone_holds_a_record_frozen() -> None:
    """mypy reports an unused `type: ignore` where it would take the assignment."""
    one = Fast("a")
    one.name = "b"  # type: ignore[misc]
    assert one == Fast("b")
    with pytest.raises(FrozenInstanceError):
        Frozen("a").name = "b"  # type: ignore[misc]
