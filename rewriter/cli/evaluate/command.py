"""The command `rewriter evaluate`: its options, its inputs, and its output."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewriter.cli.causes import client_of
from rewriter.cli.collector import rare_full_collections
from rewriter.cli.console import plain_console
from rewriter.cli.evaluate.exchange import TAG, Capturing, Exported, Imported, read_ratings, write_export
from rewriter.cli.evaluate.html import html_of
from rewriter.cli.evaluate.inputs import CONNECTIONS, TIMEOUT_S, Inputs, progress, window_s
from rewriter.cli.evaluate.terminal import print_comparison, print_figures
from rewriter.cli.extras import of_extra
from rewriter.cli.output import UNHEALTHY, faults_refused, interruption_refused, print_json, print_line, write_whole
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.bodies import bodies_of
from rewriter.evaluate.clicks import judged_by_clicks
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.variants import Variant, chosen_variants, of_one_index
from rewriter.plural import agreeing, count_of
from rewriter.settings import Settings

if TYPE_CHECKING:
    from rewriter.evaluate.outcome import Outcome
    from rewriter.evaluate.past import Past

ACTIONS = ("purchase", "add_to_cart", "click")
Given = Annotated[Path | None, typer.Option(exists=True, dir_okay=False)]


def evaluate(
    history: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="The events before the searches: Parquet, NDJSON or CSV.", exists=True, dir_okay=False
        ),
    ] = None,
    hold_out: Annotated[
        str | None, typer.Option(help="Judge by what people did in the history's last weeks or days: 4w, 10d.")
    ] = None,
    judged: Annotated[Path | None, typer.Option(help="Judged searches as NDJSON.", exists=True, dir_okay=False)] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="Judgments as TREC qrels, with --queries.", exists=True, dir_okay=False)
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="The queries of --qrels as NDJSON.", exists=True, dir_okay=False)
    ] = None,
    ubi_queries: Annotated[
        list[Path] | None,
        typer.Option(
            help="UBI queries; with --ubi-events, their clicks are the judgments.", exists=True, dir_okay=False
        ),
    ] = None,
    ubi_events: Annotated[
        list[Path] | None,
        typer.Option(help="UBI events, whose clicks are weighed by position.", exists=True, dir_okay=False),
    ] = None,
    imported: Annotated[
        Imported | None,
        typer.Option("--import", help="The format of --judged: trec or srw (both with --queries), or quepid."),
    ] = None,
    export: Annotated[
        Exported | None, typer.Option(help="Write the judged searches for another tool, and evaluate nothing.")
    ] = None,
    to: Annotated[Path, typer.Option(help="The folder of --export.", file_okay=False)] = Path("export"),
    body: Annotated[
        Path | None, typer.Option(help="The search template in Mustache, with {{query}}.", exists=True, dir_okay=False)
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="A policy's name; by default all of them.")] = None,
    index: Annotated[
        str | None, typer.Option(help="The index that is searched; by default the first policy's.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--depth", help="Hits of a page that count.", min=1, max=100)] = 10,
    searches: Annotated[int, typer.Option(help="At most so many searches, drawn at random.", min=1)] = 2_000,
    action: Annotated[
        list[str] | None, typer.Option(help="Actions that make an item relevant; the first that occurs counts.")
    ] = None,
    title_field: Annotated[str, typer.Option(help="The document field that replaces a missing query.")] = "",
    variations: Annotated[
        bool | None,
        typer.Option(help="Also without item boosts, without attributes, with max_boost 2; with --hold-out."),
    ] = None,
    placebo: Annotated[
        bool, typer.Option("--placebo", help="Also with another person's signals: a gain with them is not personal.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The seed that draws searches, exploration hits and intervals.", min=0)] = 1,
    runs: Annotated[Path, typer.Option(help="Where runs are written, a folder each.", file_okay=False)] = Path("runs"),
    compare: Annotated[
        list[Path] | None, typer.Option(help="Print the differences of two runs; give it twice.", file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the figures as one HTML page.", dir_okay=False)] = None,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
) -> None:
    """Evaluate policies on judged searches: is the page better than the plain one, for whom, and at what price?

    The code that serves answers each search on the real index, with the signals that the person had before it. Nothing is
    written to the cluster or to a store. The exit code is 1 if a policy harms, or the run was interrupted.
    """
    with faults_refused(), of_extra("evaluate", "evaluate"), rare_full_collections():
        if compare:
            _compare(compare, as_json=as_json)
            return
        settings = Settings.from_toml(toml)
        held = window_s(hold_out, "--hold-out")
        if imported == "trec":
            qrels, judged, imported = judged, None, None
        _refuse_unclear(
            history, held, judged, qrels, queries, imported, (ubi_queries, ubi_events), exports=export is not None
        )
        names, others = (policy, []) if policy else of_one_index(settings, index or "")
        for note in others:
            print_line(f"note: {note}")
        variants = chosen_variants(
            settings, names, variations=held is not None if variations is None else variations, placebo=placebo
        )
        options = {
            "hold_out": hold_out, "k": k, "searches": searches, "seed": seed, "index": index or "",
            "actions": action or list(ACTIONS), "title_field": title_field,
        }  # fmt: skip
        with client_of(settings.opensearch, TIMEOUT_S, CONNECTIONS) as client:
            found = _Run(client, settings, variants, options, history or [], judged, qrels, queries, body, imported)
            found.ubi = (ubi_queries or [], ubi_events or [])
            if export is not None:
                with interruption_refused("the export"):
                    found.export(export, held, to)
                return
            with interruption_refused("there were figures"):
                figures, folder = found.run(held, runs)
            if html is not None:
                _write_html(html, figures)
    if as_json:
        print_json(figures)
    else:
        print_figures(plain_console(), figures)
    print_line(f"written: {folder}")
    mains = [one for one in figures["policies"] if not (one["explores"] or one["placebo"] or one["variation_of"])]
    if not figures["complete"] or any(one["verdict"].startswith("Do not") for one in mains):
        raise typer.Exit(UNHEALTHY)


class _Run:
    """One run of the command: its inputs, its evaluation and its output."""

    def __init__(
        self, client: SearchClient, settings: Settings, variants: Sequence[Variant], options: Mapping[str, Any],
        history: Sequence[Path], judged: Path | None, qrels: Path | None, queries: Path | None, body: Path | None,
        imported: Imported | None = None,
    ) -> None:  # fmt: skip
        self._client = client
        self._settings = settings
        self._variants = variants
        self._options = options
        self._history = history
        self._judged, self._qrels, self._queries, self._body = judged, qrels, queries, body
        self._imported = imported
        self.ubi: tuple[Sequence[Path], Sequence[Path]] = ((), ())
        self._given = Inputs(client, settings, variants, history, body, str(options["index"]))

    def run(self, held_s: float | None, runs: Path) -> tuple[dict[str, Any], Path]:
        """Evaluate, write the run, and return its figures and its folder."""
        from rewriter.evaluate.answers import sender  # noqa: PLC0415  with the extra
        from rewriter.evaluate.records import write_run  # noqa: PLC0415  with the extra
        from rewriter.evaluate.run import Evaluation  # noqa: PLC0415  with the extra
        from rewriter.evaluate.summary import figures  # noqa: PLC0415  with the extra

        k, seed = int(self._options["k"]), int(self._options["seed"])
        began_s = time.time()
        with progress() as show:
            title = self._given.title_field(str(self._options["title_field"])) if held_s is not None else ""
            past = self._given.past(title, show("objects"))
            read_s = time.time() - began_s
            searches, notes, left_out = self._searches(past, held_s, title)
            bodies = bodies_of(searches, self._given.rendered(), str(self._body))
            notes += self._given.unknown_ids(searches)
            evaluation = Evaluation(
                self._client,
                sender(self._client),
                self._variants,
                past,
                searches,
                bodies,
                index=self._given.index,
                k=k,
                seed=seed,
            )
            outcome = evaluation.run(show("searches"))
        outcome.left_out.update(left_out)
        for fault in outcome.faults:
            print_line(fault)
        if not outcome.done:
            if outcome.interrupted:
                raise KeyboardInterrupt
            raise ConfigurationError([Fault("evaluate", "no search was answered")])
        found, records = figures(outcome, self._variants, k, seed)
        found["warnings"] = notes + found["warnings"]
        found["history"] = dict(past.row_counts)
        for line in past.lines:
            print_line(line)
        times = _times(began_s, read_s, outcome)
        print_line(_speed(len(outcome.done), times))
        return found, write_run(runs, self._inputs(evaluation), found, records, times)

    def export(self, form: Exported, held_s: float | None, folder: Path) -> None:
        """Write the judged searches for another tool."""
        past, title = None, self._given.title_field(str(self._options["title_field"])) if held_s is not None else ""
        if self._history:
            with progress() as show:
                past = self._given.past(title, show("objects"))
        searches, notes, left_out = self._searches(past, held_s, title)
        for note in [*notes, *(f"left out: {why} ({count:,})" for why, count in left_out.items())]:
            print_line(f"note: {note}")
        clauses = self._clauses(past, searches) if past is not None and form == "srw" and self._body is not None else {}
        write_export(form, searches, self._body, self._given.index, self._settings.experiment.salt, folder, clauses)

    def _clauses(self, past: Past, searches: Sequence[JudgedSearch]) -> dict[str, dict[str, str]]:
        """Return the clause that personalizes each search, by policy and search_id."""
        from rewriter.evaluate.answers import sender  # noqa: PLC0415  with the extra
        from rewriter.evaluate.run import Evaluation  # noqa: PLC0415  with the extra

        bodies = bodies_of(searches, self._given.rendered(), str(self._body))
        clauses: dict[str, dict[str, str]] = {}
        for one in self._variants:
            if one.of or one.placebo:
                continue
            sending = Capturing(sender(self._client))
            evaluation = Evaluation(
                self._client,
                sending,
                [one],
                past,
                searches,
                bodies,
                index=self._given.index,
                k=int(self._options["k"]),
                seed=int(self._options["seed"]),
            )
            evaluation.prepared = [
                replace(every, arguments=replace(every.arguments, headers={TAG: every.judged.search_id}))
                for every in evaluation.prepared
            ]
            with progress() as show:
                if evaluation.run(show("searches")).interrupted:
                    raise KeyboardInterrupt
            clauses[one.name] = sending.clauses
        return clauses

    def _searches(
        self, past: Past | None, held_s: float | None, title: str
    ) -> tuple[list[JudgedSearch], list[str], Mapping[str, int]]:
        """Return the judged searches, notes on them for people, and the number left out by reason."""
        from rewriter.evaluate.hold_out import NOTHING_BEFORE, TITLES_MISLEAD, held_out  # noqa: PLC0415  with the extra
        from rewriter.evaluate.readers import read_judged, read_qrels  # noqa: PLC0415  with the extra
        from rewriter.evaluate.ubi_files import read_lists  # noqa: PLC0415  with the extra

        count, seed = int(self._options["searches"]), int(self._options["seed"])
        if self.ubi[0]:
            actions = self._options["actions"]
            log = read_lists(
                *self.ubi, [one for one in actions if one != "purchase"] if actions == list(ACTIONS) else actions
            )
            judgments = judged_by_clicks(log.lists)
            unused = log.left_out + judgments.left_out
            if not judgments.searches:
                raise ConfigurationError([Fault("--ubi-queries", f"{count:,} {why}") for why, count in unused.items()])
            return _drawn(judgments.searches, count, seed), [judgments.note, *log.notes], unused
        if held_s is not None and past is not None:
            held = held_out(past, held_s, self._options["actions"], title=title, count=count, seed=seed)
            notes = [*([TITLES_MISLEAD] if held.by_title else []), *([] if held.before else [NOTHING_BEFORE])]
            return held.searches, notes, held.left_out
        if self._qrels is not None and self._queries is not None:
            file = read_qrels(self._qrels, self._queries)
        elif self._imported is not None and self._judged is not None:
            found, left_out = read_ratings(self._imported, self._judged, self._queries)
            return _drawn(found, count, seed), [], left_out
        else:
            assert self._judged is not None
            file = read_judged(self._judged)
        return _drawn(file.searches, count, seed), [], file.left_out

    def _inputs(self, evaluation: Any) -> dict[str, Any]:
        from rewriter.evaluate.records import file_hash, hashed, library_versions  # noqa: PLC0415  with the extra

        files = {"judged": self._judged, "qrels": self._qrels, "queries": self._queries, "body": self._body}
        facts = {
            name: (sorted(one.fields.items()), sorted(one.analyzers.items())) for name, one in evaluation.facts.items()
        }
        return {
            "options": dict(self._options),
            "seed": self._options["seed"],
            "history": [file_hash(one) for one in self._history],
            "ubi": [[file_hash(one) for one in files] for files in self.ubi],
            "files": {name: file_hash(path) for name, path in files.items() if path is not None},
            "policies": {one.name: hashed(one.policy.model_dump(mode="json")) for one in self._variants},
            "templates": dict(evaluation.template_versions),
            "signals": hashed(self._settings.signals.model_dump(mode="json")),
            "index": {"name": self._given.index, "facts": hashed(facts)},
            "versions": library_versions() | {"server": self._server()},
        }

    def _server(self) -> str:
        found = self._client.info(TIMEOUT_S).get("version", {})
        return f"{found.get('distribution', 'elasticsearch')} {found.get('number', '')}"


def _times(began_s: float, read_s: float, outcome: Outcome) -> dict[str, float]:
    """Return the durations of a run, which differ from run to run."""
    ended_s, done = time.time(), len(outcome.done)
    return {
        "began_s": began_s,
        "ended_s": ended_s,
        "history_s": read_s,
        "searches_s": outcome.spent_s,
        "searches_per_s": done / outcome.spent_s,
        "searches_per_s_of_run": done / (ended_s - began_s),
    }


def _speed(searches: int, times: Mapping[str, float]) -> str:
    whole_s = times["ended_s"] - times["began_s"]
    return (
        f"{count_of(searches, 'search')} in {times['searches_s']:.1f} s: {times['searches_per_s']:,.0f} a second; with the history "
        f"({times['history_s']:.1f} s), counters and figures {whole_s:.1f} s: {times['searches_per_s_of_run']:,.0f} a second"
    )


def _write_html(path: Path, figures: Mapping[str, Any]) -> None:
    write_whole(path, html_of(figures))
    print_line(f"written: {path}")


def _drawn(searches: list[JudgedSearch], count: int, seed: int) -> list[JudgedSearch]:
    if len(searches) <= count:
        return searches
    print_line(
        f"{count:,} of {count_of(len(searches), 'search')} {agreeing(count, 'are')} drawn at random (--searches)"
    )
    return [searches[at] for at in sorted(Random(seed).sample(range(len(searches)), count))]


def _refuse_unclear(
    history: list[Path] | None,
    held_s: float | None,
    judged: Path | None,
    qrels: Path | None,
    queries: Path | None,
    imported: Imported | None,
    ubi: tuple[Sequence[Path] | None, Sequence[Path] | None],
    *,
    exports: bool,
) -> None:
    """Raise ConfigurationError unless there are a history, where one is needed, and exactly one source of judgments."""
    faults = []
    if not history and not (exports and held_s is None):
        faults.append(
            Fault(
                "--from",
                "is missing: signals as of each search come from a history",
                "give Parquet, NDJSON or CSV of events",
            )
        )
    if sum(one is not None for one in (held_s, judged, qrels, ubi[0])) != 1:
        faults.append(Fault("judgments", "come from one of --hold-out, --judged, --qrels and --ubi-queries"))
    if (ubi[0] is None) != (ubi[1] is None):
        faults.append(Fault("--ubi-queries and --ubi-events", "belong together"))
    if (qrels is None) != (queries is None) and not (imported == "srw" and queries is not None):
        faults.append(Fault("--qrels and --queries", "belong together; so do --import trec and --queries"))
    if imported is not None and judged is None:
        faults.append(Fault(f"--import {imported}", "gives the format of --judged, which is missing"))
    if faults:
        raise ConfigurationError(faults)


def _compare(folders: Sequence[Path], *, as_json: bool) -> None:
    from rewriter.evaluate.records import compared, read_run  # noqa: PLC0415  with the extra

    if len(folders) != 2:
        raise ConfigurationError([Fault("--compare", f"needs two runs, not {len(folders)}")])
    one, other = map(read_run, folders)
    found = compared(one, other)
    if as_json:
        print_json(found)
    else:
        print_comparison(plain_console(), found)
