"""The JSON that the legs' client writes: the values are those of opensearch-py's own serializer."""

from __future__ import annotations

import json
import math
import struct
from random import Random
from typing import Any

import pytest
from opensearchpy.exceptions import SerializationError
from opensearchpy.serializer import JSONSerializer

from rewriter.client.opensearch.plain_json import PlainJSON, plain
from rewriter.signals.affinities import clause

OWN, FAST = JSONSerializer(), PlainJSON()


def outcome(work: Any, *given: Any) -> Any:
    try:
        return repr(work(*given))
    except Exception as error:  # noqa: BLE001  what one raises, the other has to raise
        return type(error)


VALUES: tuple[Any, ...] = (
    {"a": [1, 2.5, True, None, "é", "\u2028", "\x00", "a/b", '"', "\\"]}, {}, [], "as it is", 10**30, -(2**63), 0.1, 1e16, 5e-324,
    math.nan, math.inf, -math.inf, "\ud800", {"\ud800": 1}, (1, 2), clause("attribute", ("brand",), ("a", "b"), 0),
)  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_body_is_written_as_by_opensearch_py(value: Any) -> None:
    assert outcome(lambda: OWN.loads(FAST.dumps([value]))) == outcome(lambda: OWN.loads(OWN.dumps([value])))
    assert FAST.dumps("as it is") == "as it is"


def test_every_float_keeps_its_value() -> None:
    draws = Random(5)
    for _ in range(20_000):
        (value,) = struct.unpack("d", draws.randbytes(8))
        assert repr(json.loads(FAST.dumps([value]))) == repr([value])


def test_what_neither_can_write_is_the_same_error() -> None:
    with pytest.raises(SerializationError):
        FAST.dumps({"a": object()})


def test_a_serializer_of_the_caller_s_own_stays() -> None:
    class Own(JSONSerializer):
        pass

    own = Own()
    assert plain(own) is own
    assert type(plain(OWN)) is PlainJSON
