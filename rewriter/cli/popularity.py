"""The part of `rewriter backfill` that writes a decayed popularity of each item: `--popularity FIELD`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from rewriter.cli.causes import cause_of, own_client
from rewriter.cli.output import print_line, write_whole
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.popularity import as_text, bulk_lines, can_be_id, update

TIMEOUT_S = 60.0
LIMIT = 0.01
"""The share of rejected documents from which the run is not healthy."""
UNITS_S = {"h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def half_life(text: str) -> float:
    """Return a half-life like `8w`, `20d` or `12h` in seconds. Raises ConfigurationError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text)
    if found is None or not float(found[1]):
        raise ConfigurationError(
            [Fault("--half-life", f"{text[:20]!r} is none", "use hours, days or weeks: 12h, 20d, 8w")]
        )
    return float(found[1]) * UNITS_S[found[2]]


def index_for(settings: Settings, given: str | None, file: Path | None) -> str | None:
    """Return the index whose documents are updated, None where the updates go to a file. Raises ConfigurationError."""
    if given is not None and file is not None:
        raise ConfigurationError([Fault("--popularity-index", "excludes --popularity-file", "use one of them")])
    if given is not None or file is not None:
        return given
    names = settings.ingest.objects_index or tuple(
        dict.fromkeys(name for policy in settings.policies.values() for name in policy.index)
    )
    if len(names) != 1 or set(names[0]) & set("*?,"):
        what = f"the settings name {', '.join(names)}: that is not one index"
        raise ConfigurationError([Fault("--popularity", what, "name it: --popularity-index, or --popularity-file")])
    return names[0]


def write_popularity(
    settings: Settings,
    history: History,
    field: str,
    half_life_s: float,
    index: str | None,
    file: Path | None,
    on_progress: Callable[[int], None],
) -> tuple[dict[str, Any], bool]:
    """Write each item's popularity into a file or an index; return what to print, and whether it went well."""
    found = history.popularities(half_life_s)
    if file is not None:
        items = missing = 0

        def counted() -> Iterator[tuple[str, float]]:
            nonlocal items, missing
            for one in found:
                items += 1
                if can_be_id(one[0]):
                    yield one
                else:
                    missing += 1

        write_whole(file, as_text(bulk_lines(counted(), field)))
        return {"field": field, "items": items} | ({"missing": missing} if missing else {}), True
    with closing(own_client(settings.opensearch)) as client:
        try:
            done = update(lambda some: client.bulk(index or "", some, TIMEOUT_S), found, field, on_progress)
        except client.errors as error:
            print_line(
                f"{index}: {cause_of(error, client.fault_of(error))}; popularity was written in part: run it again"
            )
            return {"field": field}, False
    for one in done.named:
        print_line(f"rejected: {one}")
    if done.rejected > len(done.named):
        print_line(f"rejected: {done.rejected - len(done.named):,} more")
    items = done.updated + done.missing + done.rejected
    counts = {
        "field": field, "items": items, "updated": done.updated, "missing": done.missing, "rejected": done.rejected,
        "reasons": dict(done.reasons),
    }  # fmt: skip
    if items and done.missing == items:
        print_line(
            f"{index}: no document has an object id of the history as its _id, so nothing was updated; if object ids are"
            " the values of another field, send the updates of --popularity-file with the ids of your documents"
        )
        return counts, False
    return counts, done.rejected <= LIMIT * items
