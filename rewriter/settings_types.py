"""Types of several sections of the settings: the base of a section, shares, times, and one value for a list of one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from rewriter.secret import SecretUrl

MINUTE_S = 60.0
HOUR_S = 3_600.0
WEEK_S = 7 * 24 * HOUR_S

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=400 * WEEK_S, allow_inf_nan=False)]
Millis = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]


def listed(value: Any) -> Any:
    """Return a single value as a tuple of one."""
    return (value,) if isinstance(value, (str, SecretUrl)) else value


def number(value: Any) -> Any:
    """Return a value that is to be a number. Raises ValueError for true and false, which pydantic takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic turns no TypeError into a fault
    return value


def _header(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", name):
        raise ValueError("is no name of a request header; a list is written in brackets")
    return name.lower()


Header = Annotated[str, AfterValidator(_header)]


class Section(BaseModel):
    """A section of the settings: frozen, without unknown keys."""

    # pydantic hides inputs in its errors, since one may be a password; `settings_file` adds those that are not secret.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        return number(value) if info.field_name in _numbers(cls) else value


@cache
def _numbers(section: type[BaseModel]) -> frozenset[str]:
    """Return the names of a section's numbers: a file of a thousand policies asks for them thirty thousand times."""
    fields = section.model_fields.items()
    return frozenset(name for name, field in fields if not {int, float}.isdisjoint(_kinds(field.annotation)))


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield a type, or those of a union: float of `Share | None`."""
    parts = get_args(annotation)
    if parts:
        for part in parts:
            yield from _kinds(part)
    else:
        yield annotation
