"""Types of several sections of the settings: the base of a section, shares, times, and one value for a list of one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

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


class Section(BaseModel):
    """A section of the settings: frozen, without unknown keys."""

    # pydantic hides inputs in its errors, since one may be a password; `settings_file` adds those that are not secret.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)
