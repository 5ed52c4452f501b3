"""`rewriter report`: the effect of personalization, from UBI queries and events to a verdict in plain sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from rewriter.cli.causes import own_client
from rewriter.cli.extras import of_extra
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, print_table, write_whole
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.settings import Settings

AT_ONCE = 5_000
KEEP_ALIVE = "2m"
Files = Annotated[list[Path] | None, typer.Option(help="UBI queries: NDJSON or Parquet.", exists=True, dir_okay=False)]


class Primary(StrEnum):
    """The measures that may be primary; the names are those of `rewriter.experiment.people.MEASURES`."""

    CONVERSION = "conversion"
    CLICKS_PER_SEARCH = "clicks_per_search"
    SEARCHES_CLICKED = "searches_clicked"
    CARTS_PER_PERSON = "carts_per_person"
    ORDERS_PER_PERSON = "orders_per_person"
    SEARCHES_PER_PERSON = "searches_per_person"


def report(
    queries: Files = None,
    events: Annotated[
        list[Path] | None, typer.Option(help="UBI events: NDJSON or Parquet.", exists=True, dir_okay=False)
    ] = None,
    queries_index: Annotated[str | None, typer.Option(help="Read the queries from this index.")] = None,
    events_index: Annotated[str | None, typer.Option(help="Read the events from this index.")] = None,
    toml: Annotated[Path, typer.Option(help="The settings file, for indices.")] = Path("rewriter.toml"),
    since: Annotated[
        str | None, typer.Option(help="When the experiment began (ISO 8601). Earlier records are history.")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(help="The share that was held out, if the records do not contain it.", min=0.0, max=1.0),
    ] = None,
    effect: Annotated[float, typer.Option(help="The smallest lift worth knowing.", min=0.0001, max=1.0)] = 0.02,
    planned_people: Annotated[
        int, typer.Option(help="At how many people intervals are tightest; set it before you look.", min=200)
    ] = 10_000,
    primary: Annotated[
        Primary | None,
        typer.Option(
            help="The measure that the verdict is about; set it before you look. By default people who bought."
        ),
    ] = None,
    max_added_ms: Annotated[
        float, typer.Option(help="The limit of the guardrail of added latency (99th percentile).", min=0.0)
    ] = 30.0,
    catalogue_size: Annotated[
        int,
        typer.Option(
            help="How many items there are, for coverage and Gini; by default those that any arm showed.", min=0
        ),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML page.", dir_okay=False)] = None,
) -> None:
    """Report whether personalization helps or harms, or how much longer the experiment must run. You may run it every day.

    The exit code is 1 if it harms, a guardrail is broken, or the arms cannot be compared; 0 if it helps or the effect is not
    known yet.
    """
    with faults_refused(), ExitStack() as stack:
        _began(since)
        found = _read(stack, list(queries or ()), list(events or ()), queries_index, events_index, toml, since)
        summarize = _of_extra()
        summary = summarize(
            found,
            expected_share=None if holdout is None else 1.0 - holdout,
            effect=effect,
            planned_people=float(planned_people),
            primary=None if primary is None else primary.value,
            max_added_ms=max_added_ms,
            catalogue_size=catalogue_size,
        )
        if html is not None:
            _write(html, summary)
    if as_json:
        print_json(summary.as_dict())
    else:
        _print(summary)
    if summary.verdict in ("harms", "none"):
        raise typer.Exit(UNHEALTHY)


def _of_extra() -> Any:
    with of_extra("report", "report"):
        from rewriter.experiment.summary import summarize  # noqa: PLC0415  needs the extra
    return summarize


def _began(since: str | None) -> None:
    try:
        if since is not None:
            datetime.fromisoformat(since)
    except ValueError:
        what, remedy = f"{since!r} is not a time in ISO 8601", "write it like 2026-09-01 or 2026-09-01T08:00+02:00"
        raise ConfigurationError([Fault("--since", what, remedy)]) from None


def _read(
    stack: ExitStack, queries: list[Path], events: list[Path], queries_index: str | None, events_index: str | None,
    toml: Path, since: str | None,
) -> Any:  # fmt: skip
    _of_extra()
    from rewriter.experiment.window_records import read_records  # noqa: PLC0415  needs the extra

    if queries_index or events_index:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rewriter-report-")))
        client = stack.enter_context(_client(toml))
        for name, index, files in (("queries", queries_index, queries), ("events", events_index, events)):
            if index:
                files.append(_dumped(client, index, folder / f"{name}.ndjson"))
    if not queries:
        remedy = "give --queries FILE, or --queries-index NAME"
        raise ConfigurationError([Fault("queries", "are missing", remedy)])
    return read_records(queries, events, since)


@contextmanager
def _client(toml: Path) -> Iterator[Any]:
    client = own_client(Settings.from_toml(toml).opensearch)
    try:
        yield client.raw
    finally:
        client.close()


def _dumped(client: Any, index: str, path: Path) -> Path:
    """Write an index's present documents as NDJSON: documents indexed meanwhile are left out."""
    try:
        total, scroll_id = 0, None
        try:
            with path.open("w", encoding="utf-8") as file:
                found = client.search(index=index, body={"size": AT_ONCE, "sort": ["_doc"]}, scroll=KEEP_ALIVE)
                _whole(index, found)
                while hits := found["hits"]["hits"]:
                    file.writelines(f"{json.dumps(hit['_source'])}\n" for hit in hits)
                    total, scroll_id = total + len(hits), found["_scroll_id"]
                    found = client.scroll(scroll_id=scroll_id, scroll=KEEP_ALIVE)
                    _whole(index, found)
        finally:
            if scroll_id is not None:
                client.clear_scroll(scroll_id=scroll_id)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001  whatever the client raises, the command ends with one line
        cause = f"cannot be read: {type(error).__name__} {getattr(error, 'status_code', '')}".rstrip()
        raise ConfigurationError([Fault(index, cause, "does the index exist, and may this user read it?")]) from None
    print_line(f"{count_of(total, 'document')} of {index}")
    return path


def _whole(index: str, found: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if shards did not answer: a report without their records would look like a whole one."""
    shards = found["_shards"]
    if missing := shards["total"] - shards["successful"]:
        what = f"{missing} of its {count_of(shards['total'], 'shard')} did not answer"
        raise ConfigurationError([Fault(index, what, "run the report again once the index is whole")])


def _write(path: Path, summary: Any) -> None:
    from rewriter.experiment.page import html_of  # noqa: PLC0415  needs the extra

    write_whole(path, html_of(summary))


def _print(summary: Any) -> None:
    from rewriter.experiment.wording import parts_of  # noqa: PLC0415  needs the extra

    typer.echo(summary.sentence)
    if summary.searches:
        typer.echo(
            f"{summary.first_day} to {summary.last_day}, {count_of(summary.people, 'person')}, "
            f"{count_of(summary.searches, 'search')}."
        )
    for part in parts_of(summary):
        typer.echo(f"\n{part.title}")
        for sentence in part.sentences:
            typer.echo(f"  {sentence}")
        if part.rows:
            print_table([["", *map(str, row)] for row in part.rows])
