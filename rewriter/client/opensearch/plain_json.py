"""opensearch-py's JSON serializer for plain values, with pydantic's writer, which takes a third of the time for a body of eight
functions.

Legs hold only plain values (`rewriter.snapshot`). Integers of any size, floats and texts are those of Python's own `json`; what
pydantic does not take, such as a lone surrogate, goes to opensearch-py's. Answers are read by opensearch-py's: pydantic's reader
takes four times as long for texts beyond ASCII.
"""

from __future__ import annotations

from typing import Any

from opensearchpy.serializer import JSONSerializer
from pydantic_core import to_json


class PlainJSON(JSONSerializer):
    """Writes plain values as JSONSerializer does; only numbers with an exponent are spelled differently."""

    def dumps(self, data: Any) -> Any:
        """See opensearchpy.serializer.Serializer.dumps. A text is written already."""
        if isinstance(data, (str, bytes)):
            return data
        try:
            return to_json(data).decode()
        except ValueError:
            return super().dumps(data)


def plain(serializer: Any) -> Any:
    """Return PlainJSON instead of opensearch-py's own JSON serializer; another, such as a subclass of it, as it is."""
    return PlainJSON() if type(serializer) is JSONSerializer else serializer
