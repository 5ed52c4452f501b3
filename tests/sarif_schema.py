"""What SARIF 2.1.0 asks of the objects that `rewriter check` writes, as JSON Schema: types, required keys, and no other key.

The OASIS schema has many more objects; a key of one that is not here fails, so that it is added here from the specification first.
"""

from __future__ import annotations

from typing import Any

URI = {"type": "string", "format": "uri-reference", "pattern": "^[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]*$"}


def _only(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


MESSAGE = _only(["text"], text={"type": "string", "minLength": 1})
RULE = _only(
    ["id", "shortDescription", "fullDescription", "help"],  # GitHub's code scanning wants the texts, OASIS the id alone
    id={"type": "string"}, shortDescription=MESSAGE, fullDescription=MESSAGE, help=MESSAGE,
)  # fmt: skip
DRIVER = _only(
    ["name"], name={"type": "string"}, version={"type": "string"}, informationUri={"type": "string", "format": "uri"},
    rules={"type": "array", "uniqueItems": True, "items": RULE},
)  # fmt: skip
PLACE = _only(
    ["artifactLocation"],
    artifactLocation=_only(["uri"], uri=URI),
    region=_only(["startLine"], startLine={"type": "integer", "minimum": 1}),
)
RESULT = _only(
    ["message"], ruleId={"type": "string"}, ruleIndex={"type": "integer", "minimum": -1},
    level={"enum": ["none", "note", "warning", "error"]}, message=MESSAGE,
    locations={"type": "array", "items": _only([], physicalLocation=PLACE)},
)  # fmt: skip
RUN = _only(["tool"], tool=_only(["driver"], driver=DRIVER), results={"type": "array", "items": RESULT})
SARIF = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    **_only(
        ["version", "runs"],
        **{"$schema": {"type": "string", "format": "uri"}},
        version={"enum": ["2.1.0"]},
        runs={"type": "array", "items": RUN},
    ),
}
