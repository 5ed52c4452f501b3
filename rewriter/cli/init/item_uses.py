"""Statistics of how people use items, for `rewriter init`: from history files, or from the counters of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rewriter.cli.given_stores import objects_of
from rewriter.cli.init.choices import Choices
from rewriter.cli.init.figures import plain
from rewriter.cli.init.index_profile import IndexProfile
from rewriter.cli.init.set_choice import ItemUses, class_field_of
from rewriter.cli.init.template_sets import set_settings
from rewriter.cli.output import print_line
from rewriter.cli.repeat_check import CLASSES, stored_population
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import FieldSettings, OpenSearchSettings, PolicySettings, Settings, SignalSettings, StoreSettings
from rewriter.signals.backfill.history import History
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.repeats import RepeatGuard, suits_shop

LISTED = "listed"
"""The signal field that looks up the items' dates."""
MIN_DATED = 0.5
"""Smallest share of the uses that must be of items with a date, for their ages to stand for all uses."""


def uses_in_store(store: StoreSettings) -> ItemUses:
    """Return the statistics in a store's counters; none if the store does not answer."""
    population, classes, why_none = stored_population(Settings(store=store))
    if why_none:
        return ItemUses(None, why_none)
    return ItemUses(RepeatGuard(population.weights, population.totals), "counted in the store", None, classes)


def uses_in_history(
    files: Sequence[Path],
    profile: IndexProfile,
    choices: Choices,
    reach: OpenSearchSettings,
    indices: Sequence[str],
    weights: Mapping[str, float] | None,
    on_progress: Callable[[int, int], None],
) -> ItemUses:
    """Return the statistics of history files. Classes and dates that the files lack are looked up in the index.

    weights: the action weights, if not the default ones.
    Raises ConfigurationError for files that cannot be read, and if DuckDB is missing.
    """
    class_field = class_field_of(profile, choices, wanted=True, set_name="").field or None
    fields = {LISTED: FieldSettings(of=(choices.date.field,))} if choices.date.field else {}
    policy = PolicySettings(index=tuple(indices), item_field=choices.item.field, class_field=class_field, fields=fields)
    own = {} if weights is None else {"action_weights": dict(weights)}
    settings = Settings(opensearch=reach, signals=SignalSettings.model_validate(own), policies={"all": policy})
    history = _counted(files, settings, on_progress)
    if _may_be_long(history):
        remembered = SignalSettings.model_validate({**set_settings("catalogue").signals, **own})
        longer = _counted(files, settings.model_copy(update={"signals": remembered}), on_progress)
        history = longer if _is_wanted_once(longer) else history
    for line in history.row_counts.lines():
        print_line(line)
    names = ", ".join(plain(file.name) for file in files)
    if not history.row_counts.events:
        return ItemUses(None, f"no row of {names} became an event", is_of_history=True)
    guard = history.repeats()
    classes = tuple(sorted(guard.classes, key=lambda name: -guard.classes[name])[:CLASSES])
    ages_s = [
        at_s - listed_s
        for text, at_s in (history.listed_at_uses(LISTED) if fields else ())
        if (listed_s := _seconds(text)) is not None
    ]
    enough = len(ages_s) >= MIN_DATED * history.row_counts.events
    age_s = median(ages_s) if ages_s and enough else None
    if age_s is not None and age_s < 0.0:  # used before they were listed: the date is not that of a listing
        age_s = None
    return ItemUses(
        guard,
        f"counted in {names}",
        age_s,
        classes,
        history.row_counts.mean_weight,
        is_of_history=True,
    )


def _counted(files: Sequence[Path], settings: Settings, on_progress: Callable[[int, int], None]) -> History:
    try:
        history = History([str(file) for file in files], CountingRules.of(settings), 1, None, {})
    except ImportError:
        raise ConfigurationError(
            [Fault("--history", "needs DuckDB, which is not installed", "pip install 'rewriter[backfill]'")]
        ) from None
    history.add_up(objects_of(settings), on_progress)
    return history


def _may_be_long(history: History) -> bool:
    """Whether the history is to be counted again with the half-lives of the set `catalogue`, which keeps years of events.

    So it is if too few events are left with the default half-lives, or if events were too old for them and items are used once.
    """
    if not history.row_counts.events:
        return False
    if history.repeats().catalogue is None:
        return True
    return bool(history.row_counts.left_out.get("too_old")) and _is_wanted_once(history)


def _is_wanted_once(history: History) -> bool:
    known = history.repeats().catalogue
    return known is not None and not suits_shop(known.share, known.strength_once)


def _seconds(text: str) -> float | None:
    """Return the time of a document's date: ISO 8601, or milliseconds since the epoch; None for other formats."""
    if text.lstrip("-").isdigit() and len(text) > 8:
        return float(text) / 1000
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
