"""`rewriter init`: settings, a template set and its samples for a running index, each choice with the figures it was made from."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
from pydantic import BaseModel, ValidationError

from rewriter.cli.action_weights import WeightChoice, as_toml, chosen_weights, own_weights
from rewriter.cli.causes import cause_of, own_client
from rewriter.cli.index_check import check_indices
from rewriter.cli.init.choices import Choices
from rewriter.cli.init.chooser import choose
from rewriter.cli.init.figures import plain
from rewriter.cli.init.found_index import found_index, named_indices
from rewriter.cli.init.index_profile import IndexProfile, measure
from rewriter.cli.init.item_uses import uses_in_history, uses_in_store
from rewriter.cli.init.output_files import put, refuse_existing, staged
from rewriter.cli.init.set_choice import ItemUses, SetChoice, class_field_of, set_of, why_unexplored
from rewriter.cli.init.settings_text import SCHEMA_FILE, Surroundings, behind, settings_text
from rewriter.cli.init.template_sets import SETS, SetSettings, set_settings, set_templates
from rewriter.cli.init.template_text import template_files
from rewriter.cli.output import UNHEALTHY, faults_refused, print_line
from rewriter.cli.progress import progress_bars
from rewriter.cli.settings import schema
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.policy_settings import OTHERWISE_MEANT
from rewriter.secret import shown_url
from rewriter.settings import OpenSearchSettings, Settings, StoreSettings
from rewriter.settings_file import read_settings
from rewriter.shell.template_files import load_templates

TOML = "rewriter.toml"
TIMEOUT_S = 5


def init(
    url: Annotated[
        str, typer.Argument(help="The OpenSearch to look at, such as http://127.0.0.1:9200.", metavar="URL")
    ],
    index: Annotated[
        str,
        typer.Argument(
            help="The index, alias, data stream or pattern that searches name; several with commas.", metavar="INDEX"
        ),
    ],
    to: Annotated[Path, typer.Option(help="The folder to write to.", file_okay=False)] = Path(),
    store: Annotated[str, typer.Option(help="The Redis or Valkey that will hold signals.")] = "redis://127.0.0.1:6379",
    client: Annotated[
        str | None, typer.Option(help="The client library: opensearch (by default) or elasticsearch.")
    ] = None,
    history: Annotated[
        list[Path] | None,
        typer.Option(
            help="Events in Parquet, NDJSON or CSV, as for `backfill`: they tell how people use items.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    template_set: Annotated[
        str | None, typer.Option("--set", help=f"The template set; by default the one that fits: {', '.join(SETS)}.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print rewriter.toml, and write nothing.")] = False,
) -> None:
    """Write rewriter.toml, a template set and its samples for an index that exists.

    The index is only read: its mapping, and aggregations over its documents (a random 100,000 where it has more). Comments in
    rewriter.toml explain each choice. A user and a password come from URL, or from REWRITER_OPENSEARCH__USERNAME and
    REWRITER_OPENSEARCH__PASSWORD; no password is written. All files are written, or none; the exit code is 1 where `rewriter check`
    then finds a fault in the index itself.
    """
    with faults_refused():
        reach, names = _reach(url, client), named_indices(index)
        _refuse_wrong_set(template_set)
        kept_in = _store(store)
        with closing(own_client(reach)) as cluster, _cluster_needed(cluster, reach, index):
            server = cluster.info(TIMEOUT_S)["version"]
            profile = _measured(cluster, names)
            choices = choose(profile, time.time())
            own_weighted = own_weights(to / TOML)
            uses = _uses(history, profile, choices, reach, names, own_weighted) if history else uses_in_store(kept_in)
        chosen, own = _chosen_set(profile, choices, uses, template_set)
        weights = chosen_weights(own_weighted, uses.mean_weight, uses.source)
        around = _surroundings(url, store, server, names, reach.client, weights)
        age_s = uses.median_age_s if chosen.name == "news" else None
        rendered = template_files(profile, choices, set_templates(chosen.name), own.attribute, age_s)
        files = {
            **{f"templates/{around.policy}/{name}": text for name, text in rendered.items()},
            SCHEMA_FILE: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
            TOML: settings_text(
                profile, choices, around, chosen, own
            ),  # last: where this file exists, the others do too
        }
        if dry_run:
            typer.echo(files[TOML], nl=False)
            return
        if not force:
            refuse_existing(to, files)
        with staged(to, files) as stage:
            faults = _checked(stage, to, url)
            written = put(stage, to, files, force=force)
    _summarize(profile, choices, chosen, weights)
    for path in written:
        typer.echo(path)
    for fault in faults:
        print_line(fault)
    if faults:
        raise typer.Exit(UNHEALTHY)
    print_line(f"next: rewriter check {to / TOML}")


class _Reach(BaseModel):
    """The only sections that the environment can set before the file exists."""

    opensearch: OpenSearchSettings = OpenSearchSettings()
    store: StoreSettings = StoreSettings()


def _reach(url: str, client: str | None) -> OpenSearchSettings:
    """Return the connection settings of the cluster: `url`, with the user and certificates of the environment."""
    own = read_settings(_Reach, None).opensearch
    try:
        return OpenSearchSettings.model_validate({**dict(own), "hosts": [url], "client": client or own.client})
    except ValidationError as error:
        faults = [(one["loc"][0], one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        raise ConfigurationError(
            [
                Fault("--client", what) if where == "client" else Fault("URL", what, "such as http://127.0.0.1:9200")
                for where, what in faults
            ]
        ) from None


def _store(url: str) -> StoreSettings:
    """Return the store at `url`, with the prefix and salt of the environment. Raises ConfigurationError for a wrong URL."""
    from rewriter.signals.redis_store import open_store  # noqa: PLC0415

    try:
        found = StoreSettings.model_validate(
            {**dict(read_settings(_Reach, None).store), "url": url, "profile_url": None}
        )
        open_store(url)  # connects to nothing
    except ConfigurationError as error:
        raise ConfigurationError([Fault("--store", one.what, one.remedy) for one in error.faults]) from None
    return found


def _refuse_wrong_set(name: str | None) -> None:
    if name is not None and name not in SETS:
        near = get_close_matches(name, SETS, 1)
        remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETS)}"
        raise ConfigurationError([Fault(f"--set {plain(name)}", "is not a template set", remedy)])


def _uses(
    history: Sequence[Path],
    profile: IndexProfile,
    choices: Choices,
    reach: OpenSearchSettings,
    names: Sequence[str],
    weights: Mapping[str, float] | None,
) -> ItemUses:
    indices = [name for name in names if not name.startswith("-")]
    with _progress("items") as show:
        return uses_in_history(history, profile, choices, reach, indices, weights, show)


def _chosen_set(
    profile: IndexProfile, choices: Choices, uses: ItemUses, given: str | None
) -> tuple[SetChoice, SetSettings]:
    name, why = set_of(profile, choices, uses, given)
    own = set_settings(name)
    class_field = class_field_of(profile, choices, wanted=own.class_field and choices.item.is_boosted, set_name=name)
    unexplored = why_unexplored(uses, own.policy.get("item_use", "again")) if name != "browse" else ""
    return SetChoice(name, why, class_field, unexplored), own


@contextmanager
def _cluster_needed(client: SearchClient, reach: OpenSearchSettings, index: str) -> Iterator[None]:
    """Turn an error of the cluster into a fault that names the remedy."""
    try:
        yield
    except client.errors as error:
        raise ConfigurationError([_fault_of(client, error, ", ".join(map(str, reach.hosts)), index)]) from None


def _fault_of(client: SearchClient, error: Exception, hosts: str, index: str) -> Fault:
    fault = client.fault_of(error)
    cause = cause_of(error, fault)
    if fault.refused:
        calls = ("info", "mapping", "settings", "search", "fields")
        rights = ", ".join(dict.fromkeys(f"`{client.rights[call]}`" for call in calls))
        return Fault(
            hosts,
            f"{cause}: the credentials are not enough",
            "set REWRITER_OPENSEARCH__USERNAME and REWRITER_OPENSEARCH__PASSWORD; the role needs"
            f" {rights} on {plain(index)}",
        )
    if fault.status is not None:
        return Fault(
            f"{hosts} {plain(index)}",
            f"the server refused the request: {fault.status} {plain(fault.error)}",
            "open the index if it is closed, or give the URL of OpenSearch itself and not of a proxy in front of it",
        )
    return Fault(
        hosts,
        f"no OpenSearch answers: {cause}",
        "check the URL, or start one here with `rewriter engines up`",
    )


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; called with the amount done and the total."""
    with progress_bars() as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _measured(client: SearchClient, names: tuple[str, ...]) -> IndexProfile:
    with _progress("fields") as show:
        return measure(client, found_index(client, names), int(time.time() * 1_000), show)


def _surroundings(
    url: str, store: str, server: Mapping[str, Any], names: tuple[str, ...], client: str, weights: WeightChoice
) -> Surroundings:
    user = urlsplit(url if "://" in url else f"//{url}").username or ""
    product = "OpenSearch" if server.get("distribution") == "opensearch" else "Elasticsearch"
    return Surroundings(
        cluster=shown_url(url),
        store=shown_url(store),
        server=f"{product} {server.get('number', '')}".strip(),
        policy=_policy_name(names),
        indices=tuple(name for name in names if not name.startswith("-")),
        day=datetime.now(UTC).date().isoformat(),
        username=unquote(user),
        store_has_secret=shown_url(store) != store,
        client=client,
        weights=weights,
    )


def _policy_name(names: tuple[str, ...]) -> str:
    """Return a name for the policy and its template set: the first index's name, without characters that no name may hold."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", names[0]).strip("_-")[:58] or "all"
    return f"{name}_index" if name.casefold() in OTHERWISE_MEANT else name


def _checked(stage: Path, folder: Path, url: str) -> list[Fault]:
    """Return the faults that `rewriter check` finds in the files; each names the file's later path."""
    path = stage / TOML
    try:
        settings = Settings.from_toml(path)
        checked = check_indices(settings, path, load_templates(settings), (), url)
    except ConfigurationError as error:
        faults = list(error.faults)
    else:
        faults = checked.faults
    return [
        Fault(one.where.replace(str(stage), str(folder)), one.what, one.remedy.replace(str(stage), str(folder)))
        for one in faults
    ]


def _summarize(profile: IndexProfile, choices: Choices, chosen: SetChoice, weights: WeightChoice) -> None:
    facets = ", ".join(plain(one.field) for one in choices.facets) or "none"
    print_line(f"{plain(profile.expression)}: {count_of(profile.documents, 'document')} in {behind(profile)}")
    print_line(f"facets {facets} · class {plain(choices.category.field) if choices.category.field else 'none'}"
        f" · date {plain(choices.date.field) if choices.date.field else 'none'} · item {plain(choices.item.field)}")  # fmt: skip
    print_line(f"template set {chosen.name}: {'; '.join(chosen.why)}")
    counted = plain(chosen.class_field.field) if chosen.class_field.field else "all together"
    print_line(
        f"items counted by {counted}: {chosen.class_field.why}"
        if chosen.class_field.field
        else f"items counted {counted}: {chosen.class_field.why}"
    )
    if chosen.unexplored:
        print_line(f"no exploration: {chosen.unexplored}")
    if weights.weights is not None:
        print_line(f"action weights {as_toml(weights.weights)}: {weights.why}")
