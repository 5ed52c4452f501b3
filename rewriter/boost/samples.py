"""Sample subjects that a template is rendered on before it serves: those in `samples/*.json`, and hostile ones of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rewriter.index_facts import NUMBERS
from rewriter.report import Source
from rewriter.settings import PolicySettings
from rewriter.signals.affinities import Affinity, clause, signal_fields
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.registry import every_kind, known_kind


class _SampleAffinity(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Annotated[str, AfterValidator(known_kind)]
    field: str = ""
    fields: tuple[str, ...] = Field(min_length=1)
    values: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(ge=0, le=1)
    scale: float = Field(default=0.3, ge=0, le=100)
    source: Source = "profile"

    @model_validator(mode="after")
    def _values_of_the_kind(self) -> Self:
        if wrong := every_kind()[self.kind].wrong_values(self.fields, self.values):
            raise ValueError(wrong)
        return self


class Sample(BaseModel):
    """One sample subject, as written in `samples/*.json`."""

    model_config = ConfigDict(extra="forbid")
    affinities: list[_SampleAffinity] = []
    session: dict[str, float] = {"events": 0}
    request: dict[str, Any] = {"indices": ["products"], "from": 0, "size": 10, "body": {}}

    def given(self) -> tuple[tuple[Affinity, ...], dict[str, float], dict[str, Any]]:
        """Return the affinities, session and request that the template is rendered with."""
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
FITTING = {
    "boolean": "true",
    "date": "2026-01-01",
    "date_nanos": "2026-01-01",
    "ip": "127.0.0.1",
    **dict.fromkeys(NUMBERS, "1"),
}
"""By mapping type, a value that the server accepts in a `term`; other types accept any text."""
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


def hostile(policy: PolicySettings) -> dict[str, Sample]:
    """Return the hostile samples of a policy by description; one of them for each of its fields.

    A template may treat a field by its name, so each field's name is combined with each hostile value.
    """
    found = {f"a hostile sample ({number})": sample for number, sample in enumerate(HOSTILE)}
    for name, field in signal_fields(policy).items():
        affinities = [_affinity(name, field, value, number) for number, value in enumerate(HOSTILE_VALUES)]
        found[f"a hostile sample of field {name}"] = Sample(affinities=affinities, session={"events": 1})
    return found


def fitting(policy: PolicySettings, types: Mapping[str, str]) -> dict[str, Sample]:
    """Return a sample for each field of a policy, by description, with values that the mapped types accept.

    types: mapping type by document field. A field that is not mapped is left out; `index_facts.dead_fields` reports it.
    """
    found = {}
    for name, field in signal_fields(policy).items():
        if not all(one in types or one.startswith("_") for one in field.fields):
            continue
        values = tuple(FITTING.get(types.get(one, ""), "a") for one in field.fields)
        affinity = _SampleAffinity(kind=field.kind.name, field=name, fields=field.fields, values=values, weight=0.5)
        found[f"a sample of field {name}"] = Sample(affinities=[affinity])
    return found


def _affinity(name: str, field: SignalField, value: str, number: int) -> _SampleAffinity:
    weight = number / len(HOSTILE_VALUES)
    values = (value,) * len(field.fields)
    return _SampleAffinity(kind=field.kind.name, field=name, fields=field.fields, values=values, weight=weight)
