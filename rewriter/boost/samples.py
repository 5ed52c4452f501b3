"""The subjects that a template must survive: those a team describes in `samples/*.json`, and hostile ones of ours."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rewriter.report import Source
from rewriter.signals.affinities import Affinity, Kind, clause


class _SampleAffinity(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Kind
    field: str = ""
    fields: tuple[str, ...] = Field(min_length=1)
    values: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(ge=0, le=1)
    scale: float = Field(default=0.3, ge=0, le=100)
    source: Source = "profile"

    @model_validator(mode="after")
    def _one_value_for_each_field(self) -> Self:
        if self.kind == "combination" and len(self.values) != len(self.fields):
            raise ValueError("a combination has one value for each field")
        return self


class Sample(BaseModel):
    """A subject that a template must survive, as `samples/*.json` describes it."""

    model_config = ConfigDict(extra="forbid")
    affinities: list[_SampleAffinity] = []
    session: dict[str, float] = {"events": 0}
    request: dict[str, Any] = {"indices": ["products"], "from": 0, "size": 10, "body": {}}

    def given(self) -> tuple[tuple[Affinity, ...], dict[str, float], dict[str, Any]]:
        """Return affinities, session and request as a template gets them."""
        return (
            tuple(
                Affinity(
                    one.kind,
                    one.field or one.fields[0],
                    one.fields,
                    one.values,
                    one.weight,
                    one.scale,
                    one.source,
                    at,
                    clause(one.kind, one.fields, one.values, at),
                )
                for at, one in enumerate(self.affinities)
            ),
            self.session,
            self.request,
        )


HOSTILE_VALUES = (
    '"',
    "'}]",
    '"}}],"min_score":0,"x":[{"',
    "{{ 7*7 }}",
    "{% raw %}",
    "\\",
    "\x00\x1b\n",
    "\u2028",
    "ü" * 250,
    "1984",
    "true",
    "x" * 100_000,
)
HOSTILE = (
    Sample(),
    Sample(
        affinities=[
            _SampleAffinity(kind="combination", fields=("a", "b"), values=(value, value), weight=1, source="blend")
            for value in HOSTILE_VALUES
        ],
        session={"events": 1e6},
    ),
    Sample(
        affinities=[_SampleAffinity(kind="item", fields=("_id",), values=(str(n),), weight=n / 128) for n in range(128)]
    ),
)
