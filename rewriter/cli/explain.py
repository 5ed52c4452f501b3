"""`rewriter explain`: the meaning of each reason of a report, and its remedy."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import typer

from rewriter.cli.output import print_json, print_table, refused
from rewriter.errors import Fault
from rewriter.report import Reason
from rewriter.shapes import TABLE
from rewriter.similar import did_you_mean


@dataclass(frozen=True, slots=True)
class Explanation:
    """One reason: its meaning, its remedy, and explanations by the text of a detail ("…" stands for the part that varies)."""

    means: str
    do: str
    details: Mapping[str, str] = field(default_factory=dict)


@cache
def explanations() -> dict[Reason, Explanation]:
    """Return every reason's explanation from `reasons.toml`, in the file's order."""
    data: dict[str, Any] = tomllib.loads(files("rewriter.cli").joinpath("reasons.toml").read_text("utf-8"))
    return {Reason(name): Explanation(**row) for name, row in data.items()}


def forms(reason: Reason) -> dict[str, str]:
    """Return the forms of a search that have this reason: details by the row's name in the table of shapes."""
    return {shape.name: shape.detail for shape in TABLE if shape.outcome is reason}


def explain(
    reason: Annotated[
        str, typer.Argument(help="A report's reason; without it, all of them.", autocompletion=lambda: list(Reason))
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a reason of a report means and what to do: why is nothing personalized?"""
    every = explanations()
    if reason and reason not in every:
        remedy = did_you_mean(reason, every) or f"one of {', '.join(every)}"
        raise refused([Fault(reason, "is not a reason of a report", remedy)])
    shown = {one: row for one, row in every.items() if reason in ("", one)}
    if as_json:
        print_json({one: asdict(row) | {"forms": forms(one)} for one, row in shown.items()})
    elif reason:
        _print_one(Reason(reason), every[Reason(reason)])
    else:
        print_table([("reason", "means"), *((str(one), row.means) for one, row in every.items())])
        typer.echo("\n`rewriter explain REASON` prints what to do, and what each detail means.")


def _print_one(reason: Reason, row: Explanation) -> None:
    typer.echo(f"{reason}: {row.means}\nWhat to do: {row.do}")
    for heading, lines in (("Details:", row.details), ("Forms of a search with this reason:", forms(reason))):
        if lines:
            typer.echo(f"\n{heading}")
            for name, text in lines.items():
                typer.echo(f"  {name}\n      {text}")
