"""`rewriter tune`: better settings of a policy, found on one window of a history and confirmed on a later one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rewriter.cli.causes import client_of
from rewriter.cli.collector import rare_full_collections
from rewriter.cli.console import plain_console
from rewriter.cli.evaluate.command import ACTIONS
from rewriter.cli.evaluate.inputs import CONNECTIONS, TIMEOUT_S, Inputs, progress, window_s
from rewriter.cli.extras import of_extra
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, print_table, write_whole
from rewriter.cli.tune_fields import fields_within_class, telling
from rewriter.cli.tune_page import chosen_in_words, gains, html_of
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.bodies import bodies_of
from rewriter.evaluate.proposal import as_table, proposed
from rewriter.evaluate.space import (
    changes,
    counted_by_others,
    own_values,
    with_fields,
    with_half_lives,
    with_settings,
    without_unused,
)
from rewriter.evaluate.variants import variant
from rewriter.plural import count_of
from rewriter.settings import PolicySettings, Settings
from rewriter.settings_file import settings_text

SHOWN_FRONT = 8
MIN_PEOPLE = 2


def tune(
    policy: Annotated[str, typer.Argument(help="The policy's name.")],
    history: Annotated[
        list[Path],
        typer.Option("--from", help="The history: Parquet, NDJSON or CSV.", exists=True, dir_okay=False),
    ],
    body: Annotated[
        Path, typer.Option(help="The search template in Mustache, with {{query}}.", exists=True, dir_okay=False)
    ],
    train: Annotated[str, typer.Option(help="The window that settings are chosen on: 4w, 10d.")] = "4w",
    confirm: Annotated[str, typer.Option(help="The last window, which is read once.")] = "2w",
    trials: Annotated[int, typer.Option(help="How many settings are tried.", min=1, max=100_000)] = 100,
    searches: Annotated[int, typer.Option(help="At most so many searches of each window.", min=2)] = 1_000,
    max_boost: Annotated[float, typer.Option(help="The largest limit that may be proposed.", min=1.1, max=10.0)] = 2.0,
    spare_new: Annotated[
        float, typer.Option(help="The least share of the baseline's nDCG that new items keep.", min=0.0, max=2.0)
    ] = 0.95,
    add_fields: Annotated[
        bool,
        typer.Option(
            "--add-fields/--no-add-fields", help="Try attributes within the class that the policy does not count yet."
        ),
    ] = True,
    index: Annotated[str, typer.Option(help="The index that is searched; by default the policy's.")] = "",
    action: Annotated[list[str] | None, typer.Option(help="Actions that make an item relevant.")] = None,
    title_field: Annotated[str, typer.Option(help="The document field that replaces a missing query.")] = "",
    k: Annotated[int, typer.Option("-k", "--depth", help="Hits of a page that count.", min=1, max=100)] = 10,
    seed: Annotated[int, typer.Option(help="Draws searches, settings and intervals.", min=0)] = 1,
    study: Annotated[
        Path, typer.Option(help="The journal of trials; a run that was interrupted goes on from it.", dir_okay=False)
    ] = Path("tune.journal"),
    out: Annotated[Path, typer.Option(help="Where the proposed change is written, as a diff.", dir_okay=False)] = Path(
        "tune.diff"
    ),
    html: Annotated[Path | None, typer.Option(help="Write the trials as one HTML page.", dir_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print trials and confirmation as JSON.")] = False,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
) -> None:
    """Find settings of a policy that rank better. Nothing is edited: the proposal is a diff.

    Settings are chosen on a training window, and read once on a later one. What that does not confirm is not proposed, and the exit
    code is 1.
    """
    with faults_refused(), of_extra("tune", "tune"), rare_full_collections():
        settings = Settings.from_toml(toml)
        if policy not in settings.policies:
            raise ConfigurationError(
                [Fault(policy, "is not a policy of the settings", ", ".join(sorted(settings.policies)))]
            )
        options = {
            "policy": policy, "train": train, "confirm": confirm, "searches": searches, "max_boost": max_boost, "index": index,
            "actions": action or list(ACTIONS), "title_field": title_field, "k": k, "seed": seed, "add_fields": add_fields,
        }  # fmt: skip
        with client_of(settings.opensearch, TIMEOUT_S, CONNECTIONS) as client:
            tuning = _Tuning(client, settings, policy, history, body, options)
            try:
                found = tuning.run(trials, spare_new, study)
            except KeyboardInterrupt:
                raise interrupted(study, trials) from None
        text = _proposal(found, toml, policy)
        if text:
            write_whole(out, text)
    if html is not None:
        with faults_refused():
            write_whole(html, html_of(found))
    if as_json:
        print_json(found)
    else:
        _print(found)
    if text:
        print_line(f"written: {out}; `patch {toml} {out}` applies it")
    else:
        raise typer.Exit(UNHEALTHY)


class _Tuning:
    """One run of the command."""

    def __init__(
        self, client: SearchClient, settings: Settings, policy: str, history: Sequence[Path], body: Path,
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._client, self._settings, self._options = client, settings, options
        self._name, self._policy, self._history, self._body = policy, settings.policies[policy], history, body
        self._given = self._inputs(self._policy)

    def _inputs(self, policy: PolicySettings) -> Inputs:
        one = variant(self._settings, policy, self._name)
        return Inputs(self._client, self._settings, [one], self._history, self._body, self._options["index"])

    def run(self, trials: int, spare_new: float, study: Path) -> dict[str, Any]:
        """Tune, confirm, and return what was found as JSON takes it."""
        from rewriter.evaluate.answers import sender  # noqa: PLC0415  with the extra
        from rewriter.evaluate.hold_out import NOTHING_BEFORE, TITLES_MISLEAD, held_out  # noqa: PLC0415  with the extra
        from rewriter.evaluate.tuning import Window, confirmed, tuned  # noqa: PLC0415  with the extra

        options = self._options
        train_s, confirm_s = (window_s(options[name], f"--{name}") or 0.0 for name in ("train", "confirm"))
        with progress() as show:
            others = [one for name, one in self._settings.policies.items() if name != self._name]
            added = (
                fields_within_class(self._client, self._given.index, self._policy, others)
                if options["add_fields"]
                else {}
            )
            title = self._given.title_field(options["title_field"])
            past = self._inputs(with_fields(self._policy, added)).past(title, show("objects"))
            added = telling(added, past)
            half_life_s = self._settings.signals.profile_half_life_s
            policy = with_half_lives(with_fields(self._policy, added), half_life_s)
            shared = counted_by_others(self._name, self._settings.policies)
            rendered = self._given.rendered()
            windows, held = [], []
            ends = (("--train", train_s, past.until_s - confirm_s), ("--confirm", confirm_s, past.until_s))
            for option, length_s, until_s in ends:
                one = held_out(
                    past, length_s, options["actions"], title=title, count=options["searches"], seed=options["seed"],
                    until_s=until_s, option=option,
                )  # fmt: skip
                held.append(one)
                if len({search.subject.unit for search in one.searches}) < MIN_PEOPLE:
                    what = (
                        f"the window's {count_of(len(one.searches), 'search', 'are')} of fewer than {MIN_PEOPLE} people"
                    )
                    raise ConfigurationError([Fault(option, what, "give a longer window")])
                bodies = bodies_of(one.searches, rendered, str(self._body))
                window = Window(
                    self._client, sender(self._client), self._settings, policy, past, one.searches, bodies,
                    index=self._given.index, k=options["k"], seed=options["seed"],
                )  # fmt: skip
                windows.append(window)
            found = tuned(
                windows[0], policy, trials=trials, seed=options["seed"], max_boost=options["max_boost"],
                spare_new=spare_new, journal=study, fingerprint=self._fingerprint(), on_progress=show("trials"),
                added=added, keeps_half_lives=bool(shared),
            )  # fmt: skip
            confirmation, changed = None, dict[str, float]()
            if found.chosen is not None:
                changed = changes(self._policy, found.chosen.settings, added, half_life_s)
                proposal = without_unused(with_settings(policy, changed), added, changed)
                confirmation = confirmed(windows[1], self._policy, proposal, options["seed"])
        refusal = found.reason if confirmation is None else confirmation.refusal(spare_new)
        of_added = tuple(f"fields.{name}." for name in added)
        named = (name for one in found.trials for name in one.settings)
        names = dict.fromkeys(name for name in named if not name.startswith(of_added))
        computed, sent = windows[0].rescoring.computed, windows[0].rescoring.sent
        return {
            "measure": f"nDCG@{options['k']}",
            "searches": [len(one.searches) for one in held],
            "spare_new": spare_new,
            "added": {name: list(of) for name, of in added.items()},
            "baseline": {"all": found.baseline[0], "new": found.baseline[1]},
            "current": _trial(found.current) | {"settings": own_values(self._policy, names, added, half_life_s)},
            "chosen": _trial(found.chosen) if found.chosen else None,
            "changes": changed,
            "confirmation": _confirmation(confirmation) if confirmation else None,
            "refusal": refusal,
            "notes": [
                *found.notes,
                *(confirmation.notes if confirmation else []),
                *([f"half-lives are kept: other policies count {', '.join(shared)} too"] if shared else []),
                *([TITLES_MISLEAD] if held[0].by_title else []),
                *([NOTHING_BEFORE] if not held[0].before else []),
            ],
            "legs": {"computed": computed, "sent": sent},
            "trials": [
                _trial(one) | {"changes": changes(self._policy, one.settings, added, half_life_s)}
                for one in found.trials
            ],
        }

    def _fingerprint(self) -> str:
        from rewriter.evaluate.records import file_hash, hashed, library_versions  # noqa: PLC0415  with the extra

        files = [file_hash(one) for one in (*self._history, self._body)]
        policy = self._policy.model_dump(mode="json")
        signals = self._settings.signals.model_dump(mode="json")
        return hashed([files, policy, signals, dict(self._options), library_versions()])


def interrupted(study: Path, trials: int) -> ConfigurationError:
    """Return the fault of an interrupted run. Its trials are in the journal."""
    from rewriter.evaluate.drawing import finished_trials  # noqa: PLC0415  with the extra

    what = f"after {finished_trials(study):,} of {count_of(trials, 'trial')}; nothing is proposed"
    return ConfigurationError([Fault("interrupted", what, f"the same command continues from {study}")])


def _trial(one: Any) -> dict[str, Any]:
    return {
        "number": one.number, "all": round(one.every, 6), "new": round(one.new, 6), "coverage": round(one.coverage, 4),
        "new_ratio": round(one.new_ratio, 4), "new_low": round(one.new_low, 4), "front": one.is_front,
        "failed": one.failed, "settings": dict(one.settings),
    }  # fmt: skip


def _confirmation(found: Any) -> dict[str, Any]:
    named = {"all": found.every, "new": found.new, "all_to_baseline": found.plain, "new_to_baseline": found.plain_new}
    return {
        name: {
            "before": one.base, "after": one.value, "low": one.low, "high": one.high, "ratio": one.ratio,
            "searches": one.searches, "people": one.people,
        }
        for name, one in named.items()
    }  # fmt: skip


def _proposal(found: Mapping[str, Any], toml: Path, policy: str) -> str:
    """Return the diff with what it gains in comments before it, "" where nothing is proposed."""
    if found["refusal"]:
        return ""
    settings = found["changes"]
    diff = proposed(settings_text(toml), policy, settings, str(toml), found["added"])
    head = "".join(f"# {line}\n" for line in gains(found))
    if diff is None:
        print_line(f"{toml} has a form in which the values cannot be placed: they are given as a table")
        return head + as_table(policy, settings, found["added"])
    return head + diff


def _print(found: Mapping[str, Any]) -> None:
    console = plain_console()
    trials = found["trials"]
    chosen = found["chosen"] or {"number": None}
    shown = [one for one in trials if one["front"] or one["number"] == chosen["number"]]
    front = sorted(shown, key=lambda one: (one["number"] != chosen["number"], -one["all"]))[:SHOWN_FRONT]
    rows = [
        ["", found["measure"], "new", "new ÷ baseline", "coverage"],
        ["baseline", *_figures(found["baseline"]), "", ""],
    ]
    rows += [["as it is", *_figures(found["current"]), *_kept(found["current"])]]
    rows += [[f"trial {one['number']}", *_figures(one), *_kept(one)] for one in front]
    print_table(rows)
    for note in found["notes"]:
        console.print(note, soft_wrap=True)
    if found["confirmation"] is not None:
        console.print(chosen_in_words(found), soft_wrap=True)
        for line in gains(found):
            console.print(line, soft_wrap=True)
    verdict = f"Not proposed: {found['refusal']}." if found["refusal"] else "Proposed."
    console.print(verdict, soft_wrap=True)


def _kept(one: Mapping[str, Any]) -> list[str]:
    return [f"{one['new_ratio']:.3f}, surely {one['new_low']:.3f}", f"{one['coverage']:.2f}"]


def _figures(one: Mapping[str, Any]) -> list[str]:
    return [f"{one['all']:.3f}", f"{one['new']:.3f}"]
